// The served model in words: what it predicts from what, how well, and its card.

import { cardElements } from "./card.js";
import { byId } from "./elements.js";
import { fixed } from "./words.js";

/** Shows a model as the endpoint describes it. */
export function showModel(model) {
  byId("model").textContent = describeModel(model);
  byId("expected").textContent = describeInput(model);
  byId("card").replaceChildren(...cardElements(model.card));
}

function describeModel({ name, version, targets, features, ...scoresOf }) {
  const kinds = { ccc: "CCC", between_ccc: "between sessions", within_ccc: "within" };
  const scores = targets.map((target) => {
    const known = Object.keys(kinds).filter((kind) => typeof scoresOf[kind]?.[target] === "number");
    const texts = known.map((kind) => `${kinds[kind]} ${fixed(scoresOf[kind][target], 2)}`);
    return texts.length ? `${target} (${texts.join(", ")})` : target;
  });
  const modalities = Object.keys(features).join(", ");
  return `${name}, version ${version}: ${scores.join(", ")} from ${modalities}`;
}

function describeInput({ features, frame_rate_hz: rate }) {
  const sets = Object.entries(features).map(([set, columns]) => `${set} (${columns.length})`);
  const frames = `a frame every ${Number((1000 / rate).toPrecision(6))} ms`;
  return `The model reads these feature sets, with so many columns: ${sets.join(", ")}; ${frames}.`;
}
