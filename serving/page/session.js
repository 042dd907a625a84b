// The tables of one session: as a request, and as labels beside a prediction.

import { FileMistake, checkNumbers, checkTimes } from "./table.js";

// As the endpoint takes them.
const SESSION_ID = /^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,255}$/;
const RATE_TOLERANCE = 0.1;

/**
 * Turns tables by feature set into a request.
 *
 * Each has its own timestamps: the endpoint puts their rows on frames, as in training. Frames are
 * where the labels are, if these are given: as in a corpus.
 */
export function toRequest(sessionId, tables, features, frames = null) {
  const sets = {};
  for (const [name, table] of Object.entries(tables)) {
    checkTimes(table);
    checkNumbers(table, features[name]);
    sets[name] = { columns: table.columns, data: table.data, timestamps_ms: table.times };
  }
  return {
    ...(SESSION_ID.test(sessionId) ? { session_id: sessionId } : {}),
    ...(frames ? { timestamps_ms: frames } : {}),
    features: sets,
  };
}

/** Returns a table's column "value" as a label: its timestamps, its segments and its numbers. */
export function toLabel(table) {
  const column = table.columns.findIndex((name) => name.toLowerCase() === "value");
  if (column < 0) throw new FileMistake(`${table.name} is no label: it has no column "value".`);

  checkTimes(table);
  checkNumbers(table, [table.columns[column]]);
  const values = table.data.map((row) => row[column]);
  return { times: table.times, segments: table.segments, values };
}

/** Returns the timestamps that all labels share, if they are at the model's rate; else null. */
export function labelFrames(labels, periodMs) {
  const [first, ...others] = labels;
  if (!first || first.times.length < 2) return null;
  const isSame = ({ times }) =>
    times.length === first.times.length && times.every((time, row) => time === first.times[row]);
  if (!others.every(isSame)) return null;

  const steps = first.times.slice(1).map((time, row) => time - first.times[row]);
  const median = steps.sort((one, other) => one - other)[Math.floor(steps.length / 2)];
  return Math.abs(median / periodMs - 1) <= RATE_TOLERANCE ? first.times : null;
}

/** Returns for each time the index of the nearest frame, -1 where none is within a tolerance. */
export function nearestFrames(times, framesMs, toleranceMs) {
  let frame = 0;
  return times.map((time) => {
    const distance = (index) => Math.abs(framesMs[index] - time);
    while (frame + 1 < framesMs.length && distance(frame + 1) < distance(frame)) frame++;
    return distance(frame) <= toleranceMs ? frame : -1;
  });
}
