// The page: files in, a prediction drawn, errors as sentences. Everything it asks for comes from this endpoint.

import { FileMistake, findSet, readTable, toRequest } from "./session.js";

const at = (id) => document.getElementById(id);
const state = { model: null, files: [], answer: null };

// ---- the endpoint

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The endpoint does not answer. Is it running?");
  }
  if (response.ok) return response.json();
  if (response.status === 401) at("access").hidden = false;
  const said = await response.json().catch(() => null);
  const where = said?.error?.where ? ` (at ${said.error.where})` : "";
  throw new Error(said?.error ? `${said.error.message}${where}` : `The endpoint failed with status ${response.status}.`);
}

async function loadModel() {
  try {
    state.model = await ask("v1/model");
  } catch (error) {
    at("model").textContent = "No model answers.";
    fail(error);
    return;
  }
  const { name, version, targets, features, ccc } = state.model;
  const scores = targets.map((target) => (ccc[target] === null ? target : `${target} (CCC ${ccc[target].toFixed(2)})`));
  at("model").textContent = `${name}, version ${version}: ${scores.join(", ")} from ${Object.keys(features).join(", ")}`;
  drawCard(state.model.card);
  fail(null);
}

// ---- a session

function sessionOf(path) {
  return path.split("/").pop().replace(/\.csv$/i, "");
}

function isTable({ path }) {
  return /\.csv$/i.test(path) && !/(^|\/)metadata\//.test(path);
}

async function add(found) {
  if (!state.model) await loadModel();
  if (!state.model) return;
  const mistakes = [];
  for (const { path, file } of found.filter(isTable)) {
    try {
      const table = readTable(await file.text(), `${sessionOf(path)}.csv`);
      const set = findSet(path, table, state.model.features);
      // In a folder, what fits no feature set is another one's, or a label.
      if (set !== null || !(path.includes("/") || table.columns.join() === "value")) {
        state.files.push({ path, table, set });
      }
    } catch (error) {
      mistakes.push(error);
    }
  }
  const ids = [...new Set(state.files.map(({ path }) => sessionOf(path)))].sort();
  at("session").replaceChildren(...ids.map((id) => new Option(id, id)));
  at("choice").hidden = ids.length < 2;
  at("clear").hidden = state.files.length === 0;
  if (mistakes.length) fail(mistakes[0]);
  else if (!state.files.length) fail(new Error("None of these files holds features that the model reads."));
  else await predictFiles();
}

function chosen() {
  const id = at("session").value;
  return { id, files: state.files.filter(({ path }) => sessionOf(path) === id) };
}

function listSets() {
  const { files } = chosen();
  const names = Object.keys(state.model.features);
  at("sets").replaceChildren(
    ...files.map((entry) => {
      const item = document.createElement("li");
      const select = document.createElement("select");
      select.append(new Option("not used", ""), ...names.map((name) => new Option(name, name)));
      select.value = entry.set ?? "";
      select.setAttribute("aria-label", `Feature set of ${entry.table.name}, ${entry.table.columns.length} columns`);
      select.addEventListener("change", () => {
        entry.set = select.value || null;
        predictFiles();
      });
      item.append(select, ` ${entry.table.name}: ${entry.table.columns.length} columns, ${entry.table.times.length} rows`);
      return item;
    }),
  );
}

async function predictFiles() {
  listSets();
  const { id, files } = chosen();
  try {
    const tables = {};
    for (const { set, table } of files.filter(({ set }) => set !== null)) {
      if (set in tables) throw new FileMistake(`Two files are given for "${set}". Choose what one of them is.`);
      tables[set] = table;
    }
    if (!Object.keys(tables).length) throw new FileMistake("Which feature set is this? Choose it above.");
    await predict(toRequest(id, tables, state.model.features, 1000 / state.model.frame_rate_hz));
  } catch (error) {
    fail(error);
  }
}

async function predict(request) {
  fail(null);
  at("status").textContent = "Predicting ...";
  try {
    state.answer = await ask("v1/predictions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
    });
    show();
  } catch (error) {
    fail(error);
  } finally {
    at("status").textContent = "";
  }
}

/** Shows a mistake as a sentence; null takes it away. */
function fail(error) {
  at("error").hidden = error === null;
  at("error").textContent = error?.message ?? "";
  if (error) at("result").hidden = true;
}

// ---- a prediction

function show() {
  const { session_id: id, model, warnings } = state.answer;
  at("result").hidden = false;
  at("result-title").textContent = `Prediction${id ? ` for ${id}` : ""}, by ${model.name} version ${model.version}`;
  at("warnings").replaceChildren(
    ...warnings.map(({ where, message }) => {
      const item = document.createElement("li");
      const place = where.split(".").slice(1, 2)[0] || where;
      item.textContent = place ? `${place}: ${message}` : message;
      return item;
    }),
  );
  drawSummary();
  drawChart();
}

const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const LIGHT = ["#0b5cad", "#b3460f", "#1a7f5a", "#7a3fa0", "#8a6d00", "#b0215c"];
const DARK = ["#7ab7ff", "#ffb07a", "#6fd6ae", "#cfa3f0", "#e6cf6b", "#ff9cc2"];

function drawChart() {
  const { timestamps_ms: times, predictions, difficulty } = state.answer;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const narrow = innerWidth < 640;
  const colours = dark ? DARK : LIGHT;
  const seconds = times.map((time) => time / 1000);
  const targets = Object.keys(predictions);
  const modalities = Object.keys(difficulty);
  const panels = [...targets.map(() => 3), ...modalities.map(() => 1.4)];
  const gap = 0.055;
  const unit = (1 - gap * (panels.length - 1)) / panels.reduce((sum, share) => sum + share, 0);
  const layout = {
    height: (narrow ? 110 : 125) * targets.length + 72 * modalities.length + 110,
    margin: { l: narrow ? 44 : 58, r: 12, t: 22, b: 44 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: shade("--text"), family: "system-ui, sans-serif", size: narrow ? 11 : 12 },
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverlabel: { bgcolor: shade("--panel"), bordercolor: shade("--line"), font: { color: shade("--text") } },
    showlegend: false,
    annotations: [],
  };
  const traces = [];
  let top = 1;
  [...targets, ...modalities].forEach((name, place) => {
    const isTarget = place < targets.length;
    const axis = place ? `y${place + 1}` : "y";
    const bottom = top - panels[place] * unit;
    traces.push({
      x: seconds,
      y: isTarget ? predictions[name] : difficulty[name].percentile,
      name: isTarget ? name : `${name}, difficulty`,
      yaxis: axis,
      mode: "lines",
      line: { color: colours[place % colours.length], width: isTarget ? 2 : 1.4 },
      fill: isTarget ? undefined : "tozeroy",
      connectgaps: false,
      hovertemplate: isTarget ? "%{y:.3f}" : "%{y:.0f} of 100",
    });
    layout[`yaxis${place ? place + 1 : ""}`] = {
      domain: [Math.max(0, bottom), top],
      gridcolor: shade("--line"),
      zerolinecolor: shade("--line"),
      automargin: false,
      fixedrange: true,
      ...(isTarget ? { nticks: 5 } : { range: [0, 100], tickvals: [0, 50, 100] }),
    };
    layout.annotations.push({
      text: isTarget ? `<b>${plain(name)}</b>` : `difficulty of <b>${plain(name)}</b>`,
      xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", showarrow: false,
    });
    top = bottom - gap;
  });
  const last = traces.length > 1 ? `y${traces.length}` : "y";
  layout.xaxis = { title: { text: "seconds" }, unifiedhovertitle: { text: "%{x} s" }, anchor: last, gridcolor: shade("--line"), zeroline: false };
  Plotly.react(at("chart"), traces, layout, { responsive: true, displayModeBar: false });
}

/** A name that cannot be taken for markup. */
function plain(name) {
  return name.replace(/[<>&]/g, "");
}

function drawSummary() {
  const { predictions, difficulty } = state.answer;
  const rows = [
    ...Object.entries(predictions).map(([name, values]) => [name, values, 3]),
    ...Object.entries(difficulty).map(([name, { percentile }]) => [`difficulty of ${name}`, percentile, 0]),
  ].map(([name, values, digits]) => {
    const known = values.filter((value) => value !== null);
    const shown = (value) => (known.length ? value.toFixed(digits) : "missing");
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    return [name, shown(mean), shown(Math.min(...known)), shown(Math.max(...known))];
  });
  at("summary").replaceChildren(...table([["", "mean", "lowest", "highest"], ...rows]));
}

function download() {
  const { session_id: id, timestamps_ms: times, predictions, difficulty } = state.answer;
  const columns = {
    timestamp: times,
    ...predictions,
    ...Object.fromEntries(Object.entries(difficulty).map(([name, both]) => [`${name}.difficulty`, both.percentile])),
  };
  const rows = times.map((_, row) => Object.values(columns).map((series) => series[row] ?? "").join(","));
  const text = [Object.keys(columns).join(","), ...rows].join("\n") + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `${id ?? "session"}-predictions.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---- the card: the little Markdown that it is written in

function table([head, ...rows]) {
  const line = (cells, kind) => {
    const row = document.createElement("tr");
    row.append(...cells.map((cell) => inline(document.createElement(kind), cell)));
    return row;
  };
  return [line(head, "th"), ...rows.map((cells) => line(cells, "td"))];
}

function inline(element, text) {
  for (const part of text.split(/(\*\*[^*]+\*\*|`[^`]+`)/)) {
    const kind = part.startsWith("**") ? "strong" : part.startsWith("`") ? "code" : null;
    if (kind) element.append(Object.assign(document.createElement(kind), { textContent: part.replace(/^\W+|\W+$/g, "") }));
    else element.append(part);
  }
  return element;
}

function drawCard(text) {
  const blocks = text.split("\n").reduce((found, line) => {
    const kind = line.startsWith("|") ? "table" : line.startsWith("- ") ? "ul" : line.startsWith("#") ? "h" : "p";
    const last = found[found.length - 1];
    if (line.trim() === "") found.push({ kind: "none", lines: [] });
    else if (last?.kind === kind && kind !== "h") last.lines.push(line);
    else found.push({ kind, lines: [line] });
    return found;
  }, []);
  at("card").replaceChildren(
    ...blocks.filter(({ kind }) => kind !== "none").map(({ kind, lines }) => {
      if (kind === "h") {
        const level = lines[0].match(/^#+/)[0].length;
        return inline(document.createElement(level > 2 ? "h4" : "h3"), lines[0].replace(/^#+\s*/, ""));
      }
      const element = document.createElement(kind);
      if (kind === "p") return inline(element, lines.join(" "));
      if (kind === "ul") {
        element.append(...lines.map((line) => inline(document.createElement("li"), line.slice(2))));
        return element;
      }
      const cells = lines.filter((line) => !/^\|[\s|:-]+$/.test(line));
      element.append(...table(cells.map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()))));
      return element;
    }),
  );
}

// ---- events

async function walk(entry, path = "") {
  const here = path ? `${path}/${entry.name}` : entry.name;
  if (entry.isFile) return [{ path: here, file: await new Promise((done, failed) => entry.file(done, failed)) }];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const inner of some) found.push(...(await walk(inner, here)));
  }
}

async function dropped(event) {
  event.preventDefault();
  at("drop").classList.remove("over");
  const items = [...event.dataTransfer.items].map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = [];
  for (const { entry, file } of items) {
    if (entry) found.push(...(await walk(entry)));
    else if (file) found.push({ path: file.name, file });
  }
  await add(found);
}

at("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
at("drop").addEventListener("dragleave", () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", dropped);
at("files").addEventListener("change", async (event) => {
  await add([...event.target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
  event.target.value = "";
});
at("session").addEventListener("change", predictFiles);
at("example").addEventListener("click", async () => {
  clear();
  try {
    if (!state.model) await loadModel();
    if (state.model) await predict(await ask("v1/example"));
  } catch (error) {
    fail(error);
  }
});
at("clear").addEventListener("click", clear);
at("download").addEventListener("click", download);
at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value);
  at("access").hidden = true;
  loadModel();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.answer && drawChart());

function clear() {
  state.files = [];
  state.answer = null;
  at("sets").replaceChildren();
  at("choice").hidden = at("result").hidden = at("clear").hidden = true;
  fail(null);
}

loadModel();
