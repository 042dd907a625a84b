// The trials of the study: read once, described in words, named under the pointer.

const data = JSON.parse(document.getElementById("trial-data").textContent);
const trials = data.trials.map(readTrial);
const trialByName = new Map(trials.map((trial) => [trial.name, trial]));
const tip = document.getElementById("tip");

/** A row of the data as an object; `settings` are those that apply: path -> value. */
function readTrial([name, task, purpose, state, devel, deciding, epochs, begin, end, fold, seed, values], index) {
  const { stage, ...names } = data.tasks[task];
  const settings = {};
  data.dimensions[stage].forEach(({ path }, number) => {
    if (values[number] !== null) settings[path] = values[number];
  });
  return {
    index, name, stage, devel, deciding, epochs, begin, end, fold, seed, settings,
    task: data.tasks[task].name,
    modality: names.modality,
    target: names.target,
    measure: names.measure,
    purpose: data.purposes[purpose],
    state: data.states[state],
    error: data.errors[index] || "",
    seconds: end - begin,
  };
}

/** What a trial reads: feature sets, with commas. */
function modalitiesOf(trial) {
  if (trial.stage !== "fusion") return trial.modality;
  return trial.settings[data.modalities_path] ?? data.modalities.join(",");
}

function valueText(value) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  return String(value).replaceAll(",", " + ") || "none";
}

function scoreText(score) {
  return score === null ? "-" : score.toFixed(3);
}

/** A path without its table, where that says nothing new. */
function shortPath(path) {
  return path.replace(/^(network|fit)\./, "");
}

function settingsText(trial) {
  const texts = Object.entries(trial.settings).map(([path, value]) => `${shortPath(path)} ${valueText(value)}`);
  return texts.join(", ") || (trial.purpose === "default" ? "the study's own" : "none were searched");
}

/** What a person wants to know of a trial, line by line. */
function describe(trial) {
  const lines = [
    `Trial ${trial.name}: ${trial.task}`,
    `from ${valueText(modalitiesOf(trial))}`,
    `devel ${trial.measure} ${scoreText(trial.devel)}, deciding ${scoreText(trial.deciding)}`,
    `${trial.purpose}, ${trial.state}, ${trial.epochs} epochs`,
  ];
  if (trial.error) lines.push(trial.error);
  return [...lines, ...Object.entries(trial.settings).map(([path, value]) => `${path}: ${valueText(value)}`)];
}

function showTip(lines, x, y) {
  tip.replaceChildren(
    ...lines.map((text) => {
      const line = document.createElement("div");
      line.textContent = text;
      return line;
    }),
  );
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(4, y + 14 + height > innerHeight ? y - height - 10 : y + 14)}px`;
}

function hideTip() {
  tip.hidden = true;
}

/** Shows the trial of a point whose series says that its points are trials. */
function showTrialOf({ points: [point], event }) {
  if (!point || point.data.meta !== "trials") return;
  const trial = trialByName.get(String(point.customdata).padStart(4, "0"));
  if (!trial || !event) return;
  const lines = describe(trial);
  if (point.data.mode === "lines") lines.splice(3, 0, `at epoch ${point.x}: ${point.y.toFixed(3)}`);
  showTip(lines, event.clientX, event.clientY);
}
