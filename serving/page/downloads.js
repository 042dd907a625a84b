// What a person takes along: predictions as files, a picture, the request, and how to send it.

import { chartPicture } from "./chart.js";
import { byId } from "./elements.js";
import { endpointUrl, hasToken } from "./endpoint.js";
import { fileName, saveFile } from "./files.js";
import { predictionFiles, responseCsv } from "./prediction_files.js";
import { headingOf } from "./prediction_view.js";
import { readSession } from "./sessions.js";
import { curlCommand, pythonProgram } from "./snippets.js";
import { zipBytes } from "./zip.js";

/** What is behind the address of the page with the example. */
export const EXAMPLE = "#example";

/** Saves a prediction, one row per frame. */
export function savePrediction({ id, result }) {
  saveFile(responseCsv(result), `${fileName(id)}-predictions.csv`, "text/csv");
}

/** Saves the chart of a prediction. */
export async function savePicture({ id, result }) {
  const bytes = await chartPicture(result, headingOf(result.response));
  saveFile(bytes, `${fileName(id)}-predictions.png`, "image/png");
}

/** Saves the predictions of sessions as `affectune predict` writes them. */
export function saveAll(sessions) {
  const done = sessions.filter(({ result }) => result);
  saveFile(zipBytes(predictionFiles(done)), "predictions.zip", "application/zip");
}

/** Saves what was asked for a session of files. */
export async function saveRequest(session, model) {
  const { request } = await readSession(session, model);
  saveFile(JSON.stringify(request), requestName(session), "application/json");
}

/** Shows how a program asks for a session; that of the example also has an address. */
export function showCode(session) {
  const isExample = Boolean(session.request);
  const file = isExample ? null : requestName(session);
  byId("curl").textContent = curlCommand(endpointUrl(), file, hasToken());
  byId("python").textContent = pythonProgram(endpointUrl(), file, hasToken());
  byId("save-first").hidden = isExample;
  byId("token-first").hidden = !hasToken();
  byId("share").hidden = !isExample;
  byId("link").textContent = endpointUrl() + EXAMPLE;
}

/** Copies an element's text; returns what to say of it. */
export async function copyText(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return "Copied.";
  } catch {
    getSelection().selectAllChildren(element); // a browser copies only for pages that it trusts
    return "The text is selected: copy it with Ctrl+C.";
  }
}

function requestName({ id }) {
  return `${fileName(id)}-request.json`;
}
