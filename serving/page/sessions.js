// The sessions that files belong to: gathered, checked, and asked of the endpoint one by one.

import {
  NOT_USED,
  assign,
  describeUse,
  featuresOf,
  fileColumns,
  labelOf,
  sessionOf,
} from "./assignment.js";
import { ccc, labelledPairs } from "./ccc.js";
import { fetchJson } from "./endpoint.js";
import { segmentsOf } from "./prediction_files.js";
import { labelFrames, nearestFrames, toLabel, toRequest } from "./session.js";
import { FileMistake, readHeader, readTable } from "./table.js";

const HEADER_BYTES = 1 << 16;
const MAX_HEADER_BYTES = 1 << 22;
let numFiles = 0;

/** Returns a file with what it is for a model, as far as its header and its names tell. */
export async function recogniseFile({ path, file }, model) {
  const name = path.split("/").pop();
  const folder = path.split("/").slice(0, -1).join("/");
  let columns = [];
  let guess;
  try {
    columns = readHeader(await readStart(file), name);
    guess = assign(path, columns, model);
  } catch (error) {
    guess = { use: null, why: error.message };
  }

  const group = [folder, guess.use ?? guess.why, columns.length].join("\n");
  const session = sessionOf(path, model);
  return { number: numFiles++, path, name, file, columns, session, group, ...guess };
}

/** The start of a file that has its first line. */
async function readStart(file) {
  const start = await file.slice(0, HEADER_BYTES).text();
  return /\S.*[\n\r]/.test(start) ? start : file.slice(0, MAX_HEADER_BYTES).text();
}

/** Whether a file replaces another one that was given before: the same name and columns. */
export function isReplacement(file, other) {
  const isRepaired = !other.columns.length;
  return file.path === other.path && (isRepaired || file.columns.join() === other.columns.join());
}

/** Returns the sessions of assigned files by their name; `key` changes with their files. */
export function gatherSessions(files, partitions = {}) {
  const used = files.filter(({ use }) => use !== NOT_USED);
  const ids = [...new Set(used.map(({ session }) => session))];
  const inOrder = new Intl.Collator("en", { numeric: true });
  return ids.sort(inOrder.compare).map((id) => {
    const own = used.filter(({ session }) => session === id);
    return {
      id,
      partition: partitions[id],
      features: own.filter(({ use }) => use.startsWith(featuresOf(""))),
      labels: own.filter(({ use }) => use.startsWith(labelOf(""))),
      key: own.map(({ number, use }) => `${number} ${use}`).join("\n"),
    };
  });
}

/** Reads a session's files; returns what is asked of the endpoint, and its labels and tables. */
export async function readSession(session, model) {
  if (session.request) return { request: session.request, tables: [], labels: {} }; // no files

  const { id, features, labels } = session;
  checkUses(session);
  const tables = await readTables(features, featuresOf(""));
  const ofTargets = Object.entries(await readTables(labels, labelOf("")));
  const labelsOf = Object.fromEntries(ofTargets.map(([target, table]) => [target, toLabel(table)]));
  const frames = labelFrames(Object.values(labelsOf), periodOf(model));
  const request = toRequest(id, tables, fileColumns(model), frames);
  return { request, tables: Object.values(tables), labels: labelsOf };
}

/** Asks the endpoint; returns its response, and the labels and segments on its frames. */
export async function predict({ request, tables, labels }, model, signal) {
  const response = await fetchJson("v1/predictions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });

  const frames = response.timestamps_ms;
  const tolerance = periodOf(model) / 2;
  const onFrames = Object.entries(labels).map(([target, label]) => {
    const placed = { ...label, frames: nearestFrames(label.times, frames, tolerance) };
    const pairs = labelledPairs(placed, response.predictions[target]);
    return [target, { ...placed, numPairs: pairs.length, ccc: ccc(pairs) }];
  });
  return {
    response,
    labels: Object.fromEntries(onFrames),
    segments: segmentsOf(tables, frames, tolerance),
  };
}

/** Refuses two files for the same, and labels alone. */
function checkUses({ id, features, labels }) {
  const files = [...features, ...labels];
  for (const [index, { use, path }] of files.entries()) {
    const twin = files.slice(0, index).find((other) => other.use === use);
    if (!twin) continue;
    const names = twin.path === path ? `both named ${path}` : `${twin.path} and ${path}`;
    const what = `Session ${id} has two files for ${describeUse(use)}, ${names}.`;
    throw new FileMistake(`${what} Choose another use for one of them.`);
  }
  if (!features.length) {
    throw new FileMistake(`Session ${id} has a label, but no features to predict from.`);
  }
}

async function readTables(files, prefix) {
  const tables = {};
  for (const { use, name, path, file } of files) {
    // Files of several folders may be chosen one by one, and all have the same name.
    const place = path.includes("/") ? path.split("/").slice(-2).join("/") : name;
    const where = place === name ? `${name} (${describeUse(use)})` : place;
    tables[use.slice(prefix.length)] = readTable(await file.text(), where);
  }
  return tables;
}

function periodOf({ frame_rate_hz: rate }) {
  return 1000 / rate;
}
