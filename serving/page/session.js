// The CSV files of a session to a request: which file is which feature set, and one timeline for all of them.

const LEFT_OUT = new Set(["timestamp", "segment_id", "subject_id"]);
const MISSING = new Set(["", "nan", "null", "na", "n/a", "none", "<na>"]);

/** A mistake in a file, as a sentence for a person. */
export class FileMistake extends Error {}

/** Reads `timestamp,segment_id,<features...>`. */
export function readTable(text, name) {
  const lines = text.replace(/^\ufeff/, "").split(/\r\n|\n|\r/).filter((line) => line.trim() !== "");
  if (lines.length < 2) throw new FileMistake(`${name} has no rows.`);
  const header = lines[0].split(",").map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
  const time = header.indexOf("timestamp");
  if (time < 0) throw new FileMistake(`${name} has no column "timestamp".`);
  const places = header.map((_, place) => place).filter((place) => !LEFT_OUT.has(header[place]));
  const rows = lines.slice(1).map((line, index) => {
    const cells = line.split(",");
    if (cells.length !== header.length) {
      throw new FileMistake(`${name}, line ${index + 2}: ${cells.length} cells, but the header has ${header.length}.`);
    }
    return cells;
  });
  const number = (cell, line, column) => {
    const trimmed = cell.trim();
    if (MISSING.has(trimmed.toLowerCase())) return null;
    const value = Number(trimmed);
    if (!Number.isFinite(value)) throw new FileMistake(`${name}, line ${line}, column "${column}" is no number.`);
    return value;
  };
  return {
    name,
    columns: places.map((place) => header[place]),
    times: rows.map((cells, index) => number(cells[time], index + 2, "timestamp") ?? NaN),
    data: rows.map((cells, index) => places.map((place) => number(cells[place], index + 2, header[place]))),
  };
}

/** Which of the model's feature sets a table is: by its folder, else by its columns, else by their number; or null. */
export function findSet(path, table, features) {
  const folder = path.split("/").slice(-2, -1)[0];
  if (folder in features) return folder;
  const here = new Set(table.columns);
  const names = Object.keys(features);
  const named = names.filter((name) => features[name].every((column) => here.has(column)));
  if (named.length === 1) return named[0];
  const counted = names.filter((name) => features[name].length === table.columns.length);
  return named.length === 0 && counted.length === 1 ? counted[0] : null;
}

/** Tables by feature set to a request: every frame takes a set's nearest row, half a frame away at most. */
export function toRequest(sessionId, tables, features, periodMs) {
  const all = Object.values(tables);
  for (const table of all) {
    for (let row = 0; row < table.times.length; row++) {
      if (!(table.times[row] > (row ? table.times[row - 1] : -Infinity))) {
        throw new FileMistake(`${table.name}, line ${row + 2}: timestamps must ascend.`);
      }
    }
  }
  const frames = timeline(all.map((table) => table.times), periodMs);
  const sets = {};
  for (const [name, table] of Object.entries(tables)) {
    const byName = features[name].every((column) => table.columns.includes(column));
    // Numbered columns are read by position: real files of one set start at 0 or at 1.
    const columns = byName || table.columns.length !== features[name].length ? table.columns : features[name];
    const nothing = columns.map(() => null);
    const rows = nearest(frames, table.times, periodMs / 2);
    sets[name] = { columns, data: rows.map((row) => (row < 0 ? nothing : table.data[row])) };
  }
  const request = { timestamps_ms: frames, features: sets };
  return /^[\w .:@+-]{1,200}$/.test(sessionId) ? { session_id: sessionId, ...request } : request;
}

function timeline(series, periodMs) {
  const [first] = series;
  if (series.every((times) => times.length === first.length && times.every((time, at) => time === first[at]))) return first;
  const from = Math.min(...series.map((times) => times[0]));
  const to = Math.max(...series.map((times) => times[times.length - 1]));
  return Array.from({ length: Math.round((to - from) / periodMs) + 1 }, (_, at) => Math.round(from + at * periodMs));
}

function nearest(frames, times, toleranceMs) {
  let row = 0;
  return frames.map((frame) => {
    while (row + 1 < times.length && Math.abs(times[row + 1] - frame) < Math.abs(times[row] - frame)) row++;
    return Math.abs(times[row] - frame) <= toleranceMs ? row : -1;
  });
}
