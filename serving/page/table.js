// The CSV files of a corpus as tables: their header, their numbers, and where a number is none.

const SEGMENT_NAMES = ["segment_id", "subject_id"];
// As the command line reads them, and with any capitals.
const MISSING = new Set([
  ..."|nan|-nan|null|na|n/a|none|<na>|-|--|?|.|#n/a|#na|#value!|#div/0!|#num!".split("|"),
  ..."nan(ind)|-nan(ind)|1.#qnan|1.#ind|-1.#ind|undefined|--undefined--".split("|"),
]);
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
const INFINITE = /^[-+]?inf(inity)?$/i;
const TRUTH = { true: 1, t: 1, yes: 1, y: 1, false: 0, f: 0, no: 0, n: 0 };

/** A mistake in a file, as a sentence for a person. */
export class FileMistake extends Error {}

/** Returns the names of the feature columns of a file, from its first line. */
export function readHeader(text, name) {
  const [first] = splitLines(text);
  if (!first) throw new FileMistake(`${name} is empty.`);
  const header = parseHeader(first.text, name);
  return header.featureIndices.map((column) => header.names[column]);
}

/**
 * Reads `timestamp,segment_id,<features...>`.
 *
 * Returns the names of the feature columns, the timestamps, the segments, one row of features per
 * line, the number of each line, and by column where the first text is: there may be some in a
 * column that the endpoint sets aside, such as a file name.
 */
export function readTable(text, name) {
  const lines = splitLines(text);
  if (lines.length < 2) throw new FileMistake(`${name} has no rows.`);

  const { names, timeIndex, segmentIndex, featureIndices } = parseHeader(lines[0].text, name);
  const rows = lines.slice(1).map((line) => splitCells(line, names, name));
  const numbers = lines.slice(1).map(({ number }) => number);
  const place = (column, row) => `${name}, line ${numbers[row]}, column "${names[column]}"`;
  const mistakes = {};
  for (const column of featureIndices) {
    const row = rows.findIndex((cells) => parseNumber(cells[column]) === undefined);
    if (row >= 0) mistakes[names[column]] = `${place(column, row)} is no number.`;
  }

  const times = rows.map((cells, row) => {
    const time = parseNumber(cells[timeIndex]);
    if (time === undefined) throw new FileMistake(`${place(timeIndex, row)} is no number.`);
    return time ?? NaN;
  });
  return {
    name,
    columns: featureIndices.map((column) => names[column]),
    times,
    segments: rows.map((cells) => (cells[segmentIndex] ?? "").trim()),
    data: rows.map((cells) => featureIndices.map((column) => toNumber(cells[column]))),
    numbers,
    mistakes,
  };
}

/** Refuses timestamps that do not ascend. */
export function checkTimes({ name, times, numbers }) {
  times.forEach((time, row) => {
    const before = row ? times[row - 1] : -Infinity;
    // A missing time is NaN, for which this is false, too.
    if (time > before) return;
    throw new FileMistake(`${name}, line ${numbers[row]}: timestamps must ascend.`);
  });
}

/** Refuses a text in a column that the model reads, by its name or its number. */
export function checkNumbers({ mistakes }, modelColumns) {
  const isRead = (column) => modelColumns.includes(column) || /^\d+$/.test(column);
  const column = Object.keys(mistakes).find(isRead);
  if (column !== undefined) throw new FileMistake(mistakes[column]);
}

/** Writes rows as CSV (RFC 4180): what a reader would take apart stands in quotes. */
export function csvText(rows) {
  const cellText = (cell) =>
    /[",\r\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell);
  return rows.map((row) => row.map(cellText).join(",") + "\n").join("");
}

/** The names of all columns, and which are the timestamp, the segment and the features. */
function parseHeader(line, name) {
  const names = withoutBlankEnd(
    splitLine(line).map((cell) => cell.trim()),
    1,
  );
  const plain = names.map((cell) => cell.toLowerCase());
  const timeIndex = plain.indexOf("timestamp");
  if (timeIndex < 0 && names.length === 1 && /[;\t]/.test(line)) {
    throw new FileMistake(`${name} has no commas between its cells: save it as CSV with commas.`);
  }
  if (timeIndex < 0) throw new FileMistake(`${name} has no column "timestamp".`);

  const segmentIndex = plain.indexOf(SEGMENT_NAMES.find((segment) => plain.includes(segment)));
  const featureIndices = names
    .map((_, index) => index)
    .filter((index) => index !== timeIndex && index !== segmentIndex);
  return { names, timeIndex, segmentIndex, featureIndices };
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
