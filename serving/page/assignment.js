// Which feature set, or which label, of which session a file is. Reads names, no numbers.

/** The use of a file that is not to be read. */
export const NOT_USED = "not used";
const NUM_NAMED = 3;

/** Returns the use of a file as a feature set. */
export function featuresOf(set) {
  return `features ${set}`;
}

/** Returns the use of a file as the label of a target. */
export function labelOf(target) {
  return `label ${target}`;
}

/** Returns every use that a file may have with a model. */
export function allUses({ features, targets }) {
  return [...Object.keys(features).map(featuresOf), ...targets.map(labelOf)];
}

/** Returns a use in words. */
export function describeUse(use) {
  if (use.startsWith(labelOf(""))) return `label of ${use.slice(labelOf("").length)}`;
  return use.startsWith(featuresOf("")) ? use.slice(featuresOf("").length) : use;
}

/** Returns feature set -> columns of its files: where these are averaged, a model reads more. */
export function fileColumns({ features, resampling }) {
  const own = ([set, columns]) =>
    resampling?.[set] === "mean+std" ? columns.slice(0, columns.length / 2) : columns;
  return Object.fromEntries(Object.entries(features).map((entry) => [entry[0], own(entry)]));
}

/** Returns why a file holds neither features nor labels; "" if it may. */
export function whyNotRead(path) {
  if (/(^|\/)\.[^/]*$/.test(path)) return "it is hidden";
  if (!/\.csv$/i.test(path)) return "it is no CSV file";
  return /(^|\/)metadata\//i.test(path) ? "it is about sessions" : "";
}

/**
 * Returns what a file is: its `use`, and null with the reason `why` where that is not certain.
 *
 * Its columns decide. Where they fit several feature sets or none, the names of its folder and of
 * the file do; where both disagree, nothing is certain.
 */
export function assign(path, columns, model) {
  const fits = usesByColumns(columns, model);
  const named = usesByName(path, model);
  const both = fits.filter((use) => named.includes(use));

  if (both.length === 1) return { use: both[0], why: "" };
  if (fits.length === 1 && !named.length) return { use: fits[0], why: "" };
  if (fits.length === 1) {
    const names = named.map(describeUse).join(" or ");
    const why = `It is named ${names}, but has the columns of ${describeUse(fits[0])}.`;
    return { use: null, why };
  }
  if (fits.length) {
    const names = fits.map(describeUse).join(" or ");
    return { use: null, why: `By its columns (${shortList(columns)}) it may be ${names}.` };
  }

  // Named so, it is taken for that: the endpoint says which columns are missing or unknown.
  const [set] = named.filter((use) => use.startsWith(featuresOf("")));
  if (named.length === 1 && set) return { use: set, why: "" };
  return { use: null, why: whyNothingFits(columns, fileColumns(model)) };
}

/**
 * Returns the session of a file: its name without what says which feature set or label it is.
 *
 * It is S1 for voice/S1.csv, S1.csv, S1_voice.csv and S1/voice.csv.
 */
export function sessionOf(path, model) {
  const [folder, stem] = folderAndStem(path);
  const names = [...Object.keys(model.features), ...model.targets];
  if (names.some((name) => isSame(name, folder))) return stem;

  const rest = names.map((name) => withoutName(stem, name)).find((text) => text !== stem);
  return (rest ?? stem) || folder || "session";
}

function usesByColumns(columns, model) {
  const sets = setsByColumns(columns, fileColumns(model)).map(featuresOf);
  const isLabel = columns.some((column) => isSame(column, "value"));
  const isLabelAlone = isLabel && columns.length === 1;
  const labels = isLabelAlone || (isLabel && !sets.length) ? model.targets.map(labelOf) : [];
  return [...sets, ...labels];
}

/** The feature sets with these columns; else with their number of columns; else with fewer. */
function setsByColumns(columns, features) {
  const names = Object.keys(features);
  const given = new Set(columns);
  const hasAll = (name) => features[name].every((column) => given.has(column));
  const exact = names.filter((name) => hasAll(name) && features[name].length === given.size);
  if (exact.length) return exact;

  const numbers = columns.filter(isNumber);
  const isOfNumbers = (name) =>
    isNumbered(features[name]) && isNumbered(numbers) && features[name].length === numbers.length;
  const numbered = names.filter(isOfNumbers);
  if (numbered.length && numbers.length === columns.length) return numbered;

  // Further columns may be no features, such as a file name; a further number would be one.
  const hasMore = (name) =>
    hasAll(name) && !(isNumbered(features[name]) && numbers.length > features[name].length);
  const larger = names.filter(hasMore);
  const isPart = (name) =>
    larger.some((other) => {
      const isLarger = features[other].length > features[name].length;
      return isLarger && features[name].every((column) => features[other].includes(column));
    });
  return larger.length ? larger.filter((name) => !isPart(name)) : numbered;
}

/** The uses that a file's folder names, else those that its own name does. */
function usesByName(path, model) {
  const [folder, stem] = folderAndStem(path);
  const nameOf = (use) => use.slice(use.indexOf(" ") + 1);
  const byFolder = allUses(model).filter((use) => isSame(nameOf(use), folder));
  if (byFolder.length) return byFolder;
  return allUses(model).filter((use) => withoutName(stem, nameOf(use)) !== stem);
}

function whyNothingFits(columns, features) {
  const given = new Set(columns);
  const missing = ([set, names]) => [set, names, names.filter((name) => !given.has(name))];
  const [nearest] = Object.entries(features)
    .map(missing)
    .filter(([, names, absent]) => absent.length < names.length)
    .sort(([, , first], [, , second]) => first.length - second.length);

  if (!columns.length) return "It has no column beside timestamp and segment_id.";
  if (nearest && nearest[2].length) {
    const [set, names, absent] = nearest;
    const are = absent.length === 1 ? "is" : "are";
    const count = `${absent.length} of the ${names.length} columns of ${set} ${are} missing`;
    return `${count}: ${shortList(absent)}.`;
  }
  return `The model reads no feature set with its columns (${shortList(columns)}).`;
}

function shortList(names) {
  const more = names.length > NUM_NAMED ? ", ..." : "";
  return names.slice(0, NUM_NAMED).join(", ") + more;
}

function folderAndStem(path) {
  const parts = path.split("/");
  const stem = parts.pop().replace(/\.csv$/i, "");
  return [parts.pop() ?? "", stem];
}

/** A text without a name at its start or its end; the text itself if the name is at neither. */
function withoutName(text, name) {
  if (isSame(text, name)) return "";
  const rest = text.length - name.length - 1;
  const isBreak = (index) => /[ _.-]/.test(text[index] ?? "");
  if (rest > 0 && isSame(text.slice(0, name.length), name) && isBreak(name.length)) {
    return text.slice(-rest);
  }
  return rest > 0 && isSame(text.slice(-name.length), name) && isBreak(rest)
    ? text.slice(0, rest)
    : text;
}

function isSame(text, other) {
  return text.toLowerCase() === other.toLowerCase();
}

function isNumber(name) {
  return /^(0|[1-9]\d*)$/.test(name);
}

/** Whether names are the numbers from 0 or from 1 on. */
function isNumbered(names) {
  const numbers = names.map((name) => (isNumber(name) ? Number(name) : NaN));
  const first = Math.min(...numbers);
  return (first === 0 || first === 1) && Math.max(...numbers) === first + names.length - 1;
}
