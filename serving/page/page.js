// The page: files in, predictions out, errors as sentences. What each part does is in its module.

import { whyNotRead } from "./assignment.js";
import { drawChart } from "./chart.js";
import {
  EXAMPLE,
  copyText,
  saveAll,
  savePicture,
  savePrediction,
  saveRequest,
  showCode,
} from "./downloads.js";
import { byId } from "./elements.js";
import { TokenNeeded, fetchJson, rememberToken } from "./endpoint.js";
import { offerToJoin, showFiles } from "./file_list.js";
import { chosenFiles, droppedFiles } from "./files.js";
import { showModel } from "./model_view.js";
import { readPartitions } from "./partitions.js";
import { describeResponse, showPrediction } from "./prediction_view.js";
import { addPooled, buildTable, describeOutcome, markShown, updateRow } from "./session_table.js";
import { gatherSessions, isReplacement, predict, readSession, recogniseFile } from "./sessions.js";
import { count } from "./words.js";

/** What was given, and what is shown; `running` ends what is being predicted. */
const state = {
  model: null,
  files: [],
  notRead: [],
  partitions: {},
  sessions: [],
  shown: null,
  running: new AbortController(),
};

// ---- the model

/** Asks which model is served, if that is not known or not true any more; returns whether one is. */
async function loadModel(isStale = false) {
  if (state.model && !isStale) return true;
  try {
    state.model = await fetchJson("v1/model");
  } catch (error) {
    byId("model").textContent = "No model answers.";
    showError(error);
    return false;
  }

  showModel(state.model);
  showError(null);
  return true;
}

// ---- files

/** Adds files, when they are there, and predicts their sessions. */
async function addFiles(files) {
  try {
    const given = await files;
    if (given.length && (await loadModel())) await takeFiles(given);
  } catch (error) {
    showError(error); // a file or folder that may not be read
  }
}

async function takeFiles(given) {
  const isRead = ({ path }) => !whyNotRead(path);
  const added = [];
  for (const each of given.filter(isRead)) added.push(await recogniseFile(each, state.model));
  if (location.hash === EXAMPLE) leaveExample();
  const isKept = (other) => !added.some((file) => isReplacement(file, other));
  state.files = [...state.files.filter(isKept), ...added];
  const notRead = given.filter((each) => !isRead(each));
  state.notRead = notRead.map(({ path }) => ({ path, why: whyNotRead(path) }));
  state.partitions = { ...state.partitions, ...(await readPartitions(given)) };
  await update();
}

/** Shows the files that there are, and predicts their sessions if each file is assigned. */
async function update() {
  state.running.abort();
  showError(null);
  byId("clear").hidden = false;
  showFiles(state.files, state.notRead, state.model, (files, use) => {
    for (const file of files) file.use = use;
    update();
  });

  const open = state.files.filter(({ use }) => use === null);
  const before = state.sessions;
  state.sessions = open.length ? [] : gatherSessions(state.files, state.partitions);
  for (const session of state.sessions) {
    session.result = before.find(({ key }) => key === session.key)?.result;
  }
  offerToJoin(state.sessions);
  if (state.sessions.length) {
    await predictSessions();
    return;
  }

  hideResults();
  if (open.length) {
    const files = open.length === 1 ? "1 file is" : `${open.length} files are`;
    say(`${files} not assigned. Nothing is predicted until you choose above what each file is.`);
  } else {
    showError(new Error("None of these files is used, so there is nothing to predict."));
  }
}

function joinSessions() {
  for (const file of state.files) file.session = state.sessions[0].id;
  byId("groups").querySelector("select")?.focus();
  update();
}

// ---- predictions

/** Predicts the sessions that are not predicted yet, one after the other. */
async function predictSessions() {
  const { sessions, model } = state;
  const { targets } = model;
  const running = new AbortController();
  state.running = running;
  const isSingle = sessions.length === 1;
  byId("all").hidden = isSingle;
  if (!isSingle) buildTable(sessions, targets, showSession);
  say(isSingle ? "Predicting ..." : `Predicting ${count(sessions.length, "session")} ...`);
  byId("progress").hidden = isSingle;
  byId("stop").textContent = "Stop";
  byId("result").hidden = !sessions.some(({ id }) => id === state.shown?.id);

  for (const [index, session] of sessions.entries()) {
    byId("bar").value = index / sessions.length;
    byId("bar-text").textContent = `${index} of ${sessions.length}`;
    session.error = null;
    try {
      session.result ??= await predict(await readSession(session, model), model, running.signal);
    } catch (error) {
      if (running.signal.aborted) break;
      session.error = error;
    }
    if (running.signal.aborted) break;
    if (!isSingle) updateRow(sessions, index, targets);
  }
  if (state.running === running) showSessions();
}

/** Shows what was predicted, or why nothing was. */
function showSessions() {
  const { sessions, model } = state;
  const done = sessions.filter(({ result }) => result);
  const failed = sessions.filter(({ error }) => error);
  const rest = sessions.filter(({ result, error }) => !result && !error);
  byId("progress").hidden = !rest.length;
  byId("stop").textContent = "Go on";
  for (const session of rest) {
    updateRow(sessions, sessions.indexOf(session), model.targets, "not predicted");
  }
  if (sessions.length > 1) addPooled(sessions, model.targets);
  byId("zip").disabled = !done.length;
  if (sessions.length === 1 || failed.some(({ error }) => error instanceof TokenNeeded)) {
    showError(failed[0]?.error);
  }

  // The endpoint may have followed its alias to another version since.
  const isOther = ({ result }) => result.response.model.version !== model.version;
  if (done.some(isOther)) loadModel(true);

  const isThere = done.some(({ id }) => id === state.shown?.id);
  const inSight = isThere ? done.filter(({ id }) => id === state.shown.id) : done;
  // What the model was trained on says little: another session is shown first.
  const first = inSight.find(({ partition }) => partition !== "train") ?? inSight[0];
  if (first) showSession(first);
  else byId("result").hidden = true;
  if (sessions.length > 1) say(describeOutcome(sessions));
  else say(first ? describeResponse(first.result.response) : "");
}

function showSession(session) {
  state.shown = session;
  if (state.sessions.length > 1) markShown(state.sessions, session);
  showPrediction(session.result, state.model);
  showCode(session);
}

/** Predicts the invented example of the endpoint. */
async function predictExample() {
  forget();
  const { running } = state;
  if (!(await loadModel())) return;
  try {
    const request = await fetchJson("v1/example", { signal: running.signal });
    const session = { id: request.session_id, request, features: [], labels: [] };
    state.sessions = [session];
  } catch (error) {
    if (!running.signal.aborted) showError(error);
    return;
  }
  if (running.signal.aborted) return; // files came in the meantime
  byId("clear").hidden = false;
  history.replaceState(null, "", EXAMPLE);
  await predictSessions();
}

// ---- the page

/** Says what happened, also to who cannot see it. */
function say(text) {
  byId("status").textContent = text;
}

/** Shows a mistake as a sentence; null for none. */
function showError(error) {
  if (error instanceof TokenNeeded) byId("access").hidden = false;
  byId("error").textContent = error?.message ?? "";
}

function hideResults() {
  for (const id of ["all", "result", "progress"]) byId(id).hidden = true;
}

/** Forgets all files and predictions. */
function forget() {
  state.running.abort();
  state.running = new AbortController();
  Object.assign(state, { files: [], notRead: [], partitions: {}, sessions: [], shown: null });
  for (const id of ["given", "clear", "one-session"]) byId(id).hidden = true;
  hideResults();
  showError(null);
  say("");
}

function leaveExample() {
  forget();
  history.replaceState(null, "", location.pathname + location.search);
}

function useToken(event) {
  event.preventDefault();
  rememberToken(byId("token").value);
  byId("access").hidden = true;
  start();
}

/** Asks for the model, and shows the example where the address says so. */
async function start() {
  if (location.hash === EXAMPLE) await predictExample();
  else if ((await loadModel()) && state.files.length) await update();
}

async function addDropped(event) {
  event.preventDefault();
  byId("drop").classList.remove("over");
  await addFiles(droppedFiles(event));
}

async function addChosen({ target: input }) {
  const files = chosenFiles(input);
  input.value = "";
  await addFiles(files);
}

byId("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
});
byId("drop").addEventListener("dragleave", () => byId("drop").classList.remove("over"));
byId("drop").addEventListener("drop", addDropped);
for (const id of ["files", "folder"]) byId(id).addEventListener("change", addChosen);
byId("example").addEventListener("click", predictExample);
byId("join").addEventListener("click", joinSessions);
byId("stop").addEventListener("click", () => {
  if (state.running.signal.aborted) predictSessions();
  else state.running.abort();
});
byId("clear").addEventListener("click", () => {
  leaveExample();
  byId("files").focus(); // the button that had it is gone
});
byId("zip").addEventListener("click", () => saveAll(state.sessions));
byId("download").addEventListener("click", () => savePrediction(state.shown));
byId("picture").addEventListener("click", () => savePicture(state.shown));
byId("save-request").addEventListener("click", () => saveRequest(state.shown, state.model));
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => say(await copyText(byId(button.dataset.of))));
}
byId("access").addEventListener("submit", useToken);
addEventListener("hashchange", () => {
  if (location.hash === EXAMPLE) predictExample();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (state.shown) drawChart(byId("chart"), state.shown.result);
});

start();
