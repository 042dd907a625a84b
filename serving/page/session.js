// The CSV files of a session to a request: which file is which feature set, and its numbers.

const SEGMENT_NAMES = ["segment_id", "subject_id"];
// As the command line reads them, and with any capitals.
const MISSING = new Set([
  ..."|nan|-nan|null|na|n/a|none|<na>|-|--|?|.|#n/a|#na|#value!|#div/0!|#num!".split("|"),
  ..."nan(ind)|-nan(ind)|1.#qnan|1.#ind|-1.#ind|undefined|--undefined--".split("|"),
]);
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
const INFINITE = /^[-+]?inf(inity)?$/i;
const TRUTH = { true: 1, t: 1, yes: 1, y: 1, false: 0, f: 0, no: 0, n: 0 };
// As the endpoint takes them.
const SESSION_ID = /^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,255}$/;

/** A mistake in a file, as a sentence for a person. */
export class FileMistake extends Error {}

/**
 * Reads `timestamp,segment_id,<features...>`.
 *
 * Returns the names of the feature columns, the timestamps, one row of features per line, the
 * number of each line, and by column where the first text is: there may be some in a column that the
 * endpoint sets aside, such as a file name.
 */
export function readTable(text, name) {
  const lines = splitLines(text);
  if (lines.length < 2) throw new FileMistake(`${name} has no rows.`);

  const header = withoutBlankEnd(splitLine(lines[0].text).map((cell) => cell.trim()), 1);
  const plain = header.map((cell) => cell.toLowerCase());
  const timeIndex = plain.indexOf("timestamp");
  if (timeIndex < 0) throw new FileMistake(`${name} has no column "timestamp".`);
  const segmentIndex = plain.indexOf(SEGMENT_NAMES.find((segment) => plain.includes(segment)));
  const featureIndices = header
    .map((_, index) => index)
    .filter((index) => index !== timeIndex && index !== segmentIndex);

  const rows = lines.slice(1).map((line) => splitCells(line, header, name));
  const numbers = lines.slice(1).map(({ number }) => number);
  const place = (column, row) => `${name}, line ${numbers[row]}, column "${header[column]}"`;
  const mistakes = {};
  for (const column of featureIndices) {
    const row = rows.findIndex((cells) => parseNumber(cells[column]) === undefined);
    if (row >= 0) mistakes[header[column]] = `${place(column, row)} is no number.`;
  }

  const times = rows.map((cells, row) => {
    const time = parseNumber(cells[timeIndex]);
    if (time === undefined) throw new FileMistake(`${place(timeIndex, row)} is no number.`);
    return time ?? NaN;
  });
  return {
    name,
    columns: featureIndices.map((column) => header[column]),
    times,
    data: rows.map((cells) => featureIndices.map((column) => toNumber(cells[column]))),
    numbers,
    mistakes,
  };
}

/** Returns feature set -> columns of its files: where these are averaged, a model reads more. */
export function fileColumns({ features, resampling }) {
  const own = ([set, columns]) =>
    resampling?.[set] === "mean+std" ? columns.slice(0, columns.length / 2) : columns;
  return Object.fromEntries(Object.entries(features).map((entry) => [entry[0], own(entry)]));
}

/**
 * Returns which of the model's feature sets a table is, or null.
 *
 * It goes by the table's folder, else by its columns, else by their number if they are numbered.
 */
export function findSet(path, table, features) {
  const folder = path.split("/").slice(-2, -1)[0];
  if (folder in features) return folder;

  const names = Object.keys(features);
  const columns = new Set(table.columns);
  const withColumns = names.filter((name) => features[name].every((column) => columns.has(column)));
  if (withColumns.length === 1) return withColumns[0];

  const numbers = table.columns.filter((column) => /^\d+$/.test(column));
  const withCount = names.filter(
    (name) => isNumbered(features[name]) && features[name].length === numbers.length,
  );
  return withColumns.length === 0 && withCount.length === 1 ? withCount[0] : null;
}

/**
 * Turns tables by feature set into a request.
 *
 * Each has its own timestamps: the endpoint puts their rows on frames, as in training.
 */
export function toRequest(sessionId, tables, features) {
  const sets = {};
  for (const [name, table] of Object.entries(tables)) {
    checkTimes(table);
    checkNumbers(table, features[name]);
    sets[name] = { columns: table.columns, data: table.data, timestamps_ms: table.times };
  }
  return SESSION_ID.test(sessionId)
    ? { session_id: sessionId, features: sets }
    : { features: sets };
}

/** Writes rows as CSV (RFC 4180): what a reader would take apart stands in quotes. */
export function csvText(rows) {
  const cellText = (cell) =>
    /[",\r\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell);
  return rows.map((row) => row.map(cellText).join(",") + "\n").join("");
}

/** The lines that are not blank, with their numbers. */
function splitLines(text) {
  return text
    .replace(/^\ufeff/, "")
    .split(/\r\n|\n|\r/)
    .map((line, index) => ({ text: line, number: index + 1 }))
    .filter((line) => line.text.trim() !== "");
}

function splitCells({ text, number }, header, name) {
  const cells = withoutBlankEnd(splitLine(text), header.length);
  if (cells.length !== header.length) {
    const counts = `${cells.length} cells, but the header has ${header.length}`;
    throw new FileMistake(`${name}, line ${number}: ${counts}.`);
  }
  return cells;
}

/** The cells of a line; one in quotes may have commas. */
function splitLine(line) {
  if (!line.includes('"')) return line.split(",");

  const cells = [...line.matchAll(/(?:^|,)(?:[ \t]*"((?:[^"]|"")*)"[ \t]*(?=,|$)|([^,]*))/g)];
  return cells.map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain);
}

/** The cells without blank ones at the end, which many a program writes; at least so many. */
function withoutBlankEnd(cells, count) {
  let end = cells.length;
  while (end > count && cells[end - 1].trim() === "") end--;
  return cells.slice(0, end);
}

/** A cell's number, null where it is missing or infinite, undefined where it is a text. */
function parseNumber(cell) {
  const plain = cell.trim().toLowerCase();
  if (MISSING.has(plain) || INFINITE.test(plain)) return null;
  return NUMBER.test(plain) ? Number(plain) : undefined;
}

/** A cell as it is sent: a text is null, but for such as "true" and "no", which may mark rows. */
function toNumber(cell) {
  return parseNumber(cell) ?? TRUTH[cell.trim().toLowerCase()] ?? null;
}

function checkTimes({ name, times, numbers }) {
  times.forEach((time, row) => {
    const before = row ? times[row - 1] : -Infinity;
    // A missing time is NaN, for which this is false, too.
    if (time > before) return;
    throw new FileMistake(`${name}, line ${numbers[row]}: timestamps must ascend.`);
  });
}

/** Whether names are the numbers from 0 or from 1 on. */
function isNumbered(names) {
  const numbers = names.map((name) => (/^(0|[1-9]\d*)$/.test(name) ? Number(name) : NaN));
  const first = Math.min(...numbers);
  return (first === 0 || first === 1) && Math.max(...numbers) === first + names.length - 1;
}

/** A text in a column that the model reads, by its name or its number, is a mistake. */
export function checkNumbers({ mistakes }, modelColumns) {
  const isRead = (column) => modelColumns.includes(column) || /^\d+$/.test(column);
  const column = Object.keys(mistakes).find(isRead);
  if (column !== undefined) throw new FileMistake(mistakes[column]);
}
