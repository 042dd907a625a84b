// The CSV files of a session to a request: which file is which feature set, and one timeline.

const SEGMENT_NAMES = ["segment_id", "subject_id"];
const MISSING = new Set(["", "nan", "null", "na", "n/a", "none", "<na>"]);
// As the endpoint takes them.
const SESSION_ID = /^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,255}$/;

/** A mistake in a file, as a sentence for a person. */
export class FileMistake extends Error {}

/**
 * Reads `timestamp,segment_id,<features...>`.
 *
 * Returns the names of the feature columns, the timestamps, one row of features per line, and which
 * columns are text throughout: such as a file name, which the endpoint sets aside.
 */
export function readTable(text, name) {
  const lines = splitLines(text);
  if (lines.length < 2) throw new FileMistake(`${name} has no rows.`);

  const header = splitLine(lines[0]).map((cell) => cell.trim());
  const plain = header.map((cell) => cell.toLowerCase());
  const timeIndex = plain.indexOf("timestamp");
  if (timeIndex < 0) throw new FileMistake(`${name} has no column "timestamp".`);
  const segmentIndex = plain.indexOf(SEGMENT_NAMES.find((segment) => plain.includes(segment)));
  const featureIndices = header
    .map((_, index) => index)
    .filter((index) => index !== timeIndex && index !== segmentIndex);

  const rows = lines.slice(1).map((line, index) => splitCells(line, header, name, index + 2));
  const isText = header.map((_, column) => rows.every((cells) => isWord(cells[column])));
  const numberAt = (cells, column, index) =>
    parseNumber(cells[column], `${name}, line ${index + 2}, column "${header[column]}"`);
  return {
    name,
    columns: featureIndices.map((column) => header[column]),
    texts: featureIndices.filter((column) => isText[column]).map((column) => header[column]),
    times: rows.map((cells, index) => numberAt(cells, timeIndex, index) ?? NaN),
    data: rows.map((cells, index) =>
      featureIndices.map((column) => (isText[column] ? null : numberAt(cells, column, index))),
    ),
  };
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
 * Every frame takes the nearest row of a feature set, half a frame away at most.
 */
export function toRequest(sessionId, tables, features, periodMs) {
  Object.values(tables).forEach(checkTimes);
  const frames = timeline(
    Object.values(tables).map((table) => table.times),
    periodMs,
  );

  const sets = {};
  for (const [name, table] of Object.entries(tables)) {
    checkNumbers(table, features[name]);
    const missingRow = table.columns.map(() => null);
    const rows = nearestRows(frames, table.times, periodMs / 2);
    sets[name] = { columns: table.columns, data: rows.map((row) => (row < 0 ? missingRow : table.data[row])) };
  }

  const request = { timestamps_ms: frames, features: sets };
  return SESSION_ID.test(sessionId) ? { session_id: sessionId, ...request } : request;
}

/** Writes rows as CSV (RFC 4180): what a reader would take apart stands in quotes. */
export function csvText(rows) {
  const cellText = (cell) =>
    /[",\r\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell);
  return rows.map((row) => row.map(cellText).join(",") + "\n").join("");
}

function splitLines(text) {
  const withoutMark = text.replace(/^\ufeff/, "");
  return withoutMark.split(/\r\n|\n|\r/).filter((line) => line.trim() !== "");
}

function splitCells(line, header, name, number) {
  const cells = splitLine(line);
  if (cells.length !== header.length) {
    const counts = `${cells.length} cells, but the header has ${header.length}`;
    throw new FileMistake(`${name}, line ${number}: ${counts}.`);
  }
  return cells;
}

/** The cells of a line; one in quotes may have commas. */
function splitLine(line) {
  if (!line.includes('"')) return line.split(",");

  const cells = line.match(/("([^"]|"")*"|[^,]*)(,|$)/g).map((cell) => cell.replace(/,$/, ""));
  if (!line.endsWith(",")) cells.pop(); // the empty match at the end
  return cells.map((cell) => cell.replace(/^"(.*)"$/, "$1").replaceAll('""', '"'));
}

/** Whether a cell is neither a number nor missing. */
function isWord(cell) {
  const trimmed = cell.trim();
  return !MISSING.has(trimmed.toLowerCase()) && !Number.isFinite(Number(trimmed));
}

/** A cell's number, or null where it is missing. */
function parseNumber(cell, where) {
  const trimmed = cell.trim();
  if (MISSING.has(trimmed.toLowerCase())) return null;

  const value = Number(trimmed);
  if (!Number.isFinite(value)) throw new FileMistake(`${where} is no number.`);
  return value;
}

function checkTimes({ name, times }) {
  times.forEach((time, row) => {
    const before = row ? times[row - 1] : -Infinity;
    // A missing time is NaN, for which this is false, too.
    if (time > before) return;
    throw new FileMistake(`${name}, line ${row + 2}: timestamps must ascend.`);
  });
}

/** Whether names are the numbers from 0 or from 1 on. */
function isNumbered(names) {
  const numbers = names.map((name) => (/^(0|[1-9]\d*)$/.test(name) ? Number(name) : NaN));
  const first = Math.min(...numbers);
  return (first === 0 || first === 1) && Math.max(...numbers) === first + names.length - 1;
}

/** The endpoint is sent numbers: a column of text that the model reads is a mistake. */
function checkNumbers({ name, texts }, modelColumns) {
  const column = texts.find((text) => modelColumns.includes(text));
  if (column === undefined) return;
  throw new FileMistake(`${name}, line 2, column "${column}" is no number.`);
}

/** The times of the tables where they are all the same, else frames over all of them. */
function timeline(series, periodMs) {
  const [first] = series;
  const isSame = (times) =>
    times.length === first.length && times.every((time, index) => time === first[index]);
  if (series.every(isSame)) return first;

  const start = Math.min(...series.map((times) => times[0]));
  const end = Math.max(...series.map((times) => times[times.length - 1]));
  const count = Math.round((end - start) / periodMs) + 1;
  return Array.from({ length: count }, (_, frame) => Math.round(start + frame * periodMs));
}

/** For every frame the index of the nearest time, or -1 where it is too far away. */
function nearestRows(frames, times, toleranceMs) {
  let row = 0;
  const distance = (index, frame) => Math.abs(times[index] - frame);
  return frames.map((frame) => {
    while (row + 1 < times.length && distance(row + 1, frame) < distance(row, frame)) row++;
    return distance(row, frame) <= toleranceMs ? row : -1;
  });
}
