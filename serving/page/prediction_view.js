// One prediction in words and numbers, beside its chart.

import { tableRows } from "./card.js";
import { drawChart } from "./chart.js";
import { byId, make } from "./elements.js";
import { emptyFrames } from "./series.js";
import { count, fixed, mean } from "./words.js";

/** Shows the prediction of a session: `response` of the endpoint, and `labels` by target. */
export function showPrediction(result, model) {
  const { response } = result;
  byId("result").hidden = false;
  byId("result-title").textContent = headingOf(response);
  byId("warnings").replaceChildren(...response.warnings.map(warningItem));
  byId("chart").setAttribute("aria-label", `Prediction over time. ${describeMeans(response)}`);
  byId("readings").replaceChildren(
    ...describe(result, model).map((text) => make("p", { class: "hint" }, text)),
  );
  byId("summary").replaceChildren(...tableRows(summaryRows(response)));
  drawChart(byId("chart"), result);
}

/** Returns what is predicted, and by which model. */
export function headingOf({ session_id: id, model }) {
  const session = id ? ` for ${id}` : "";
  return `Prediction${session}, by ${model.name} version ${model.version}`;
}

/** Returns what is predicted in a few sentences. */
export function describeResponse(response) {
  const { warnings } = response;
  const texts = warnings.length ? ` ${count(warnings.length, "warning")}.` : "";
  return `${headingOf(response)}, is below. ${describeMeans(response)}${texts}`;
}

/** The mean of each target in a sentence. */
function describeMeans({ predictions }) {
  const means = Object.entries(predictions).map(([target, values]) => {
    const known = values.filter((value) => value !== null);
    return known.length ? `${target} ${fixed(mean(known), 2)}` : `${target} missing`;
  });
  return `On average: ${means.join(", ")}.`;
}

/** What can be read in the chart, sentence by sentence. */
function describe({ response, labels }, model) {
  const numEmpty = emptyFrames(response).length;
  const empty = `At ${count(numEmpty, "frame")} no feature set has a value: gaps in the chart.`;
  const texts = [
    describeBands(model, response.bands),
    ...Object.entries(labels).map(describeLabel),
    describeWeights(response.weights),
    "Difficulty: the frame's place among training frames, 0 the easiest, 100 the hardest. " +
      "Gaps are missing frames.",
    numEmpty ? empty : "",
  ];
  return texts.filter(Boolean);
}

/** What the shaded bands mean; nothing where there are none. */
function describeBands(model, bands) {
  const levels = Object.keys(bands).map((target) => model.bands[target]?.level);
  const known = [...new Set(levels.filter((level) => level !== undefined))];
  if (!known.length) return "";

  const shares = known.map((level) => `${Math.round(100 * level)}%`).join(" or ");
  const meaning = `the band that holds the label in ${shares} of a new person's frames`;
  return `Shaded: ${meaning}, on average over people.`;
}

function describeLabel([target, { ccc, numPairs }]) {
  if (!numPairs) return `Label of ${target}: no frame has one, so there is no CCC.`;
  const frames = count(numPairs, "frame");
  if (!Number.isFinite(ccc)) return `Label of ${target}: constant over ${frames}, so no CCC.`;
  return `Label of ${target}: CCC ${fixed(ccc, 3)} over ${frames}.`;
}

/** What the areas of weights mean, and whom each target trusts on average; "" without any. */
function describeWeights(weights) {
  const targets = Object.entries(weights).map(([target, byModality]) => {
    const shares = Object.entries(byModality)
      .map(([modality, values]) => [modality, mean(values)])
      .sort(([, first], [, second]) => second - first)
      .map(([modality, share]) => `${modality} ${Math.round(100 * share)}%`);
    return ` For ${target}, on average: ${shares.join(", ")}.`;
  });
  if (!targets.length) return "";
  return `Trusted: the share of each feature set in a frame's prediction.${targets.join("")}`;
}

function warningItem({ where, message }) {
  const place = where.split(".")[1] || where;
  return make("li", {}, place ? `${place}: ${message}` : message);
}

function summaryRows({ predictions, difficulty, weights }) {
  const headings = ["Series", "mean", "lowest", "highest"];
  const targets = Object.entries(predictions).map(([name, values]) => summaryRow(name, values, 3));
  const modalities = Object.entries(difficulty).map(([name, { percentile }]) =>
    summaryRow(`difficulty of ${name}`, percentile, 0),
  );
  const trusted = Object.entries(weights).flatMap(([target, byModality]) =>
    Object.entries(byModality).map(([name, values]) =>
      summaryRow(`weight of ${name} for ${target}`, values, 2),
    ),
  );
  return [headings, ...targets, ...modalities, ...trusted];
}

function summaryRow(name, values, digits) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return [name, "missing", "missing", "missing"];

  const figures = [mean(known), Math.min(...known), Math.max(...known)];
  return [name, ...figures.map((value) => fixed(value, digits))];
}
