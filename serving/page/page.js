// The page: files in, a prediction drawn, errors as sentences.

import { cardElements, tableRows } from "./card.js";
import { drawChart } from "./chart.js";
import { TokenNeeded, fetchJson, rememberToken } from "./endpoint.js";
import {
  FileMistake,
  checkNumbers,
  csvText,
  fileColumns,
  findSet,
  readTable,
  toRequest,
} from "./session.js";

/** What is shown: the model, the tables that were read, and the last response. */
const state = { model: null, tables: [], response: null };

// ---- the model

async function loadModel() {
  try {
    state.model = await fetchJson("v1/model");
  } catch (error) {
    element("model").textContent = "No model answers.";
    showError(error);
    return;
  }

  element("model").textContent = describeModel(state.model);
  element("card").replaceChildren(...cardElements(state.model.card));
  clearError();
}

function describeModel({ name, version, targets, features, ...scoresOf }) {
  const kinds = { ccc: "CCC", between_ccc: "between sessions", within_ccc: "within" };
  const scores = targets.map((target) => {
    const known = Object.keys(kinds).filter((kind) => typeof scoresOf[kind]?.[target] === "number");
    const texts = known.map((kind) => `${kinds[kind]} ${scoresOf[kind][target].toFixed(2)}`);
    return texts.length ? `${target} (${texts.join(", ")})` : target;
  });
  const modalities = Object.keys(features).join(", ");
  return `${name}, version ${version}: ${scores.join(", ")} from ${modalities}`;
}

// ---- files

function sessionId(path) {
  return path.split("/").pop().replace(/\.csv$/i, "");
}

function isTable({ path }) {
  return /\.csv$/i.test(path) && !/(^|\/)metadata\//.test(path);
}

/** Reads files, and predicts the session that they hold. */
async function addFiles(files) {
  if (!state.model) await loadModel();
  if (!state.model) return;

  const mistakes = await readTables(files.filter(isTable));
  listSessions();
  if (mistakes.length) {
    showError(mistakes[0]);
  } else if (!state.tables.length) {
    showError(new Error("None of these files holds features that the model reads."));
  } else {
    await predictSession();
  }
}

/** Adds tables to the state; returns the mistakes in others. */
async function readTables(files) {
  const mistakes = [];
  for (const { path, file } of files) {
    try {
      const table = readTable(await file.text(), `${sessionId(path)}.csv`);
      const columns = fileColumns(state.model);
      const set = findSet(path, table, columns);
      if (set !== null) checkNumbers(table, columns[set]);
      // In a folder, what fits no feature set belongs to another model, or is a label.
      const isOther = path.includes("/") || table.columns.join() === "value";
      if (set !== null || !isOther) state.tables.push({ path, table, set });
    } catch (error) {
      mistakes.push(error);
    }
  }
  return mistakes;
}

function listSessions() {
  const ids = [...new Set(state.tables.map(({ path }) => sessionId(path)))].sort();
  element("session").replaceChildren(...ids.map((id) => new Option(id, id)));
  element("choice").hidden = ids.length < 2;
  element("clear").hidden = state.tables.length === 0;
}

/** The session that is chosen, and its tables. */
function chosenSession() {
  const id = element("session").value;
  return { id, tables: state.tables.filter(({ path }) => sessionId(path) === id) };
}

function listTables(tables) {
  element("sets").replaceChildren(...tables.map(tableItem));
}

/** A table with a choice of the feature set that it is. */
function tableItem(entry) {
  const { name, columns, times } = entry.table;
  const select = document.createElement("select");
  const names = Object.keys(state.model.features);
  select.append(new Option("not used", ""), ...names.map((set) => new Option(set, set)));
  select.value = entry.set ?? "";
  select.setAttribute("aria-label", `Feature set of ${name}, ${columns.length} columns`);
  select.addEventListener("change", () => {
    entry.set = select.value || null;
    predictSession();
  });

  const item = document.createElement("li");
  item.append(select, ` ${name}: ${columns.length} columns, ${times.length} rows`);
  return item;
}

// ---- a prediction

/** Predicts the session that is chosen. */
async function predictSession() {
  const { id, tables } = chosenSession();
  listTables(tables);
  try {
    await predict(toRequest(id, tablesBySet(tables), fileColumns(state.model)));
  } catch (error) {
    showError(error);
  }
}

function tablesBySet(tables) {
  const bySet = {};
  for (const { set, table } of tables.filter(({ set }) => set !== null)) {
    if (set in bySet) {
      throw new FileMistake(`Two files are given for "${set}". Choose what one of them is.`);
    }
    bySet[set] = table;
  }

  if (!Object.keys(bySet).length) {
    throw new FileMistake("Which feature set is this? Choose it above.");
  }
  return bySet;
}

async function predict(request) {
  clearError();
  element("status").textContent = "Predicting ...";
  try {
    state.response = await fetchJson("v1/predictions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
    });
    showResponse(state.response);
  } catch (error) {
    showError(error);
  } finally {
    element("status").textContent = "";
  }
}

async function predictExample() {
  clear();
  try {
    if (!state.model) await loadModel();
    if (state.model) await predict(await fetchJson("v1/example"));
  } catch (error) {
    showError(error);
  }
}

function showResponse(response) {
  const { session_id: id, model, warnings } = response;
  const session = id ? ` for ${id}` : "";
  element("result").hidden = false;
  element("result-title").textContent =
    `Prediction${session}, by ${model.name} version ${model.version}`;
  element("warnings").replaceChildren(...warnings.map(warningItem));
  element("summary").replaceChildren(...tableRows(summaryRows(response)));
  element("band-reading").textContent = describeBands(state.model, response.bands);
  element("weights-reading").textContent = describeWeights(response.weights);
  element("weights-reading").hidden = !Object.keys(response.weights).length;
  drawChart(element("chart"), response);
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

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function warningItem({ where, message }) {
  const item = document.createElement("li");
  const place = where.split(".")[1] || where;
  item.textContent = place ? `${place}: ${message}` : message;
  return item;
}

function summaryRows({ predictions, difficulty, weights }) {
  const headings = ["", "mean", "lowest", "highest"];
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
  return [name, ...figures.map((value) => value.toFixed(digits))];
}

/** Saves the response as CSV, one row per frame. */
function download() {
  const {
    session_id: id,
    timestamps_ms: times,
    predictions,
    bands,
    difficulty,
    weights,
  } = state.response;
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

  const series = Object.values(columns);
  const rows = times.map((_, frame) => series.map((values) => values[frame] ?? ""));
  const text = csvText([Object.keys(columns), ...rows]);
  saveFile(text, `${id ?? "session"}-predictions.csv`);
}

function saveFile(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---- the page

function element(id) {
  return document.getElementById(id);
}

/** Shows a mistake as a sentence, in place of a prediction. */
function showError(error) {
  if (error instanceof TokenNeeded) element("access").hidden = false;
  element("error").textContent = error.message;
  element("error").hidden = false;
  element("result").hidden = true;
}

function clearError() {
  element("error").textContent = "";
  element("error").hidden = true;
}

/** Forgets all files and the prediction. */
function clear() {
  state.tables = [];
  state.response = null;
  element("sets").replaceChildren();
  for (const id of ["choice", "result", "clear"]) element(id).hidden = true;
  clearError();
}

/** All files under an entry that was dropped, with their paths. */
async function walk(entry, parent = "") {
  const path = parent ? `${parent}/${entry.name}` : entry.name;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ path, file }];
  }

  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return files;
    for (const inner of batch) files.push(...(await walk(inner, path)));
  }
}

async function addDropped(event) {
  event.preventDefault();
  element("drop").classList.remove("over");

  // Read before anything is awaited: afterwards the event has no items any more.
  const items = [...event.dataTransfer.items].map((item) => {
    return { entry: item.webkitGetAsEntry?.(), file: item.getAsFile() };
  });
  const files = [];
  for (const { entry, file } of items) {
    if (entry) files.push(...(await walk(entry)));
    else if (file) files.push({ path: file.name, file });
  }
  await addFiles(files);
}

async function addChosen(event) {
  const files = [...event.target.files].map((file) => {
    return { path: file.webkitRelativePath || file.name, file };
  });
  await addFiles(files);
  event.target.value = "";
}

function useToken(event) {
  event.preventDefault();
  rememberToken(element("token").value);
  element("access").hidden = true;
  loadModel();
}

element("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  element("drop").classList.add("over");
});
element("drop").addEventListener("dragleave", () => element("drop").classList.remove("over"));
element("drop").addEventListener("drop", addDropped);
element("files").addEventListener("change", addChosen);
element("session").addEventListener("change", predictSession);
element("example").addEventListener("click", predictExample);
element("clear").addEventListener("click", clear);
element("download").addEventListener("click", download);
element("access").addEventListener("submit", useToken);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (state.response) drawChart(element("chart"), state.response);
});

loadModel();
