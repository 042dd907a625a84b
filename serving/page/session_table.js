// The table of several sessions: what was predicted for each, and how it agrees with its labels.

import { ccc, labelledPairs } from "./ccc.js";
import { byId, make, makeButton } from "./elements.js";
import { count, fixed, mean } from "./words.js";

const PARTITIONS = ["train", "devel", "test"];

/** Builds the table, a row for each session; `onChoice` is called with the one to show. */
export function buildTable(sessions, targets, onChoice) {
  const hasLabels = sessions.some(({ labels }) => labels.length);
  const hasPartitions = sessions.some(({ partition }) => partition);
  const ofTarget = (target) => [`${target}, mean`, ...(hasLabels ? [`${target}, CCC`] : [])];
  const headings = [
    "Session",
    ...(hasPartitions ? ["Partition"] : []),
    "Frames",
    ...targets.flatMap(ofTarget),
    "Warnings",
  ];
  const cells = headings.map((text) => make("th", { scope: "col" }, text));
  if (hasPartitions) cells[1].className = "text";
  const table = byId("sessions");
  table.tHead.replaceChildren(make("tr", {}, ...cells));
  table.tBodies[0].replaceChildren(
    ...sessions.map((session) => {
      const button = makeButton(session.id, () => onChoice(session));
      return make("tr", {}, make("th", { scope: "row" }, button));
    }),
  );
  table.tFoot.replaceChildren();
  sessions.forEach((_, index) => updateRow(sessions, index, targets));
  byId("all-reading").hidden = true;
}

/** Writes what is known of a session into its row, or why nothing is. */
export function updateRow(sessions, index, targets, waiting = "waiting") {
  const table = byId("sessions");
  const row = table.tBodies[0].rows[index];
  const { result, error, partition } = sessions[index];
  const hasPartitions = sessions.some((session) => session.partition);
  const numCells = table.tHead.rows[0].cells.length - 1 - (hasPartitions ? 1 : 0);
  const hasLabels = sessions.some(({ labels }) => labels.length);

  const cells = hasPartitions ? [make("td", { class: "text" }, partition ?? "")] : [];
  if (result) {
    const { timestamps_ms: times, predictions, warnings } = result.response;
    const ofTarget = (target) => [
      meanText(predictions[target]),
      ...(hasLabels ? [labelText(result.labels[target])] : []),
    ];
    const texts = [times.length, ...targets.flatMap(ofTarget), warnings.length || "none"];
    cells.push(...texts.map((text) => make("td", {}, String(text))));
  } else {
    const text = error ? error.message : waiting;
    const attributes = { colspan: numCells, class: error ? "bad" : "soft" };
    cells.push(make("td", attributes, make("span", {}, text)));
  }
  row.replaceChildren(row.cells[0], ...cells);
  row.cells[0].firstChild.disabled = !result;
}

/** Marks the session that is shown below the table. */
export function markShown(sessions, shown) {
  sessions.forEach((session, index) => {
    const button = byId("sessions").tBodies[0].rows[index].cells[0].firstChild;
    button.setAttribute("aria-pressed", String(session === shown));
  });
}

/** Adds the CCC over the frames of all sessions, or of those of each partition. */
export function addPooled(sessions, targets) {
  const done = sessions.filter(({ result }) => result);
  const hasPartitions = sessions.some(({ partition }) => partition);
  const groups = hasPartitions
    ? PARTITIONS.map((name) => [name, done.filter(({ partition }) => partition === name)])
    : [["all", done]];
  const rows = groups.map(([name, members]) => pooledRow(name, members, targets, hasPartitions));
  const known = rows.filter(Boolean);
  byId("sessions").tFoot.replaceChildren(...known);

  const trained = hasPartitions ? "Training sessions" : "Sessions that the model was trained on";
  byId("all-reading").textContent =
    "Pooled: one CCC over the frames of several sessions, as affectune evaluate computes it. " +
    `${trained} score higher than new ones.`;
  byId("all-reading").hidden = !known.length;
}

/** Returns how many sessions are predicted, and why others are not. */
export function describeOutcome(sessions) {
  const numDone = sessions.filter(({ result }) => result).length;
  const numFailed = sessions.filter(({ error }) => error).length;
  const rest = sessions.length - numDone - numFailed;
  const texts = [
    `${count(numDone, "session")} predicted`,
    numFailed ? `${numFailed} failed, with the reason in the table` : "",
    rest ? `${rest} not predicted, because you stopped` : "",
  ];
  return `${texts.filter(Boolean).join("; ")}.`;
}

/** A row of pooled CCCs; null where no frame has a label. */
function pooledRow(name, sessions, targets, hasPartitions) {
  const pairs = targets.map((target) => sessions.flatMap((session) => pairsOf(session, target)));
  if (!pairs.some(({ length }) => length)) return null;

  const frames = sessions.reduce(
    (sum, { result }) => sum + result.response.timestamps_ms.length,
    0,
  );
  const cells = [
    make("th", { scope: "row" }, `${name}, pooled`),
    ...(hasPartitions ? [make("td", { class: "text" }, count(sessions.length, "session"))] : []),
    make("td", {}, String(frames)),
    ...pairs.flatMap((each) => [make("td"), make("td", {}, cccText(ccc(each), each.length))]),
    make("td"),
  ];
  return make("tr", {}, ...cells);
}

function pairsOf({ result: { labels, response } }, target) {
  return labels[target] ? labelledPairs(labels[target], response.predictions[target]) : [];
}

function labelText(label) {
  return cccText(label?.ccc, label?.numPairs);
}

function meanText(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? fixed(mean(known), 3) : "missing";
}

/** A CCC of so many labelled frames; it is undefined where they are constant. */
function cccText(value, numPairs) {
  if (!numPairs) return "no label";
  return Number.isFinite(value) ? fixed(value, 3) : "undefined";
}
