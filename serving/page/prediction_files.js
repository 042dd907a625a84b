// Predictions as files: all that one response holds, and the layout of `affectune predict`.

import { fileName } from "./files.js";
import { nearestFrames } from "./session.js";
import { csvText } from "./table.js";

/** Returns the CSV of a response, one row per frame, with the labels if there are some. */
export function responseCsv({ response, labels }) {
  const { timestamps_ms: times, predictions, bands, difficulty, weights } = response;
  const columns = { timestamp: times, ...predictions };
  for (const [name, { low, high }] of Object.entries(bands)) {
    columns[`${name}.low`] = low;
    columns[`${name}.high`] = high;
  }
  for (const [name, { percentile }] of Object.entries(difficulty)) {
    columns[`${name}.difficulty`] = percentile;
  }
  for (const [target, byModality] of Object.entries(weights)) {
    for (const [name, values] of Object.entries(byModality)) {
      columns[`${target}.weight.${name}`] = values;
    }
  }
  for (const [target, { values, frames }] of Object.entries(labels)) {
    const column = times.map(() => null);
    frames.forEach((frame, row) => {
      if (frame >= 0) column[frame] = values[row];
    });
    columns[`${target}.label`] = column;
  }

  const series = Object.values(columns);
  const rows = times.map((_, frame) => series.map((values) => values[frame] ?? ""));
  return csvText([Object.keys(columns), ...rows]);
}

/**
 * Returns <target>/<session>.csv -> timestamp,value,segment_id, as `affectune predict` writes them.
 *
 * A session with labels has a row where its label has one, another one a row per frame.
 */
export function predictionFiles(sessions) {
  const files = {};
  const stems = new Set();
  for (const { id, result } of sessions) {
    let stem = fileName(id);
    while (stems.has(stem)) stem += "_"; // two names that differ only in what no file may be named
    stems.add(stem);
    for (const target of Object.keys(result.response.predictions)) {
      files[`${fileName(target)}/${stem}.csv`] = targetCsv(result, target);
    }
  }
  return files;
}

function targetCsv({ response, labels, segments }, target) {
  const values = response.predictions[target];
  const label = labels[target];
  const rows = label
    ? label.times
        .map((time, row) => [time, values[label.frames[row]] ?? "", label.segments[row]])
        .filter((_, row) => label.frames[row] >= 0)
    : response.timestamps_ms.map((time, frame) => [time, values[frame] ?? "", segments[frame]]);
  return csvText([["timestamp", "value", "segment_id"], ...rows]);
}

/** Returns the segment of each frame, of the first table that has a row there; "" without one. */
export function segmentsOf(tables, framesMs, toleranceMs) {
  const segments = framesMs.map(() => "");
  for (const { times, segments: ofRows } of [...tables].reverse()) {
    const frames = nearestFrames(times, framesMs, toleranceMs);
    frames.forEach((frame, row) => {
      if (frame >= 0) segments[frame] = ofRows[row];
    });
  }
  return segments;
}
