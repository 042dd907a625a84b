// The table of trials: sorted, filtered, by pages, and as CSV.

const PAGE_SIZE = 25;
const COLUMNS = [
  { key: "name", title: "trial", head: true },
  { key: "task", title: "task" },
  { key: "purpose", title: "purpose" },
  { key: "state", title: "how it ended" },
  { key: "devel", title: "devel score", number: true, text: (trial) => scoreText(trial.devel) },
  { key: "deciding", title: "deciding score", number: true, text: (trial) => scoreText(trial.deciding) },
  { key: "epochs", title: "epochs", number: true },
  { key: "seconds", title: "time (s)", number: true, text: (trial) => trial.seconds.toFixed(1) },
  { key: "settings", title: "settings", text: (trial) => trial.error || settingsText(trial) },
];
const CONDITION = /^([\w.]+)(<=|>=|=|<|>)(.+)$/;
const NUMBERS = ["devel", "deciding", "epochs", "seconds", "fold", "seed"];
const view = { sort: "name", isDescending: false, page: 0, only: null, rows: trials };

function element(id) {
  return document.getElementById(id);
}

/** Whether a trial meets a condition such as "learning_rate<0.01" or "cell=gru". */
function meets(trial, [, key, sign, wanted]) {
  const paths = Object.keys(trial.settings).filter((path) => path === key || path.endsWith(`.${key}`));
  const known = NUMBERS.includes(key) ? [trial[key]] : paths.map((path) => trial.settings[path]);
  return known.some((value) => {
    if (value === null) return false;
    if (sign === "=") return valueText(value) === wanted || String(value) === wanted || (wanted !== "" && Number(wanted) === value);
    const number = Number(wanted);
    return { "<": value < number, ">": value > number, "<=": value <= number, ">=": value >= number }[sign];
  });
}

function words(trial) {
  trial.words ??= [trial.name, trial.task, trial.purpose, trial.state, modalitiesOf(trial), settingsText(trial), trial.error].join(" ").toLowerCase();
  return trial.words;
}

function matchesFilter(trial) {
  for (const key of ["task", "purpose", "state"]) {
    const wanted = element(`filter-${key}`).value;
    if (wanted && trial[key] !== wanted) return false;
  }
  if (view.only && !view.only.indices.has(trial.index)) return false;
  const parts = element("filter-text").value.trim().split(/\s+/).filter(Boolean);
  return parts.every((part) => {
    const condition = CONDITION.exec(part);
    return condition ? meets(trial, condition) : words(trial).includes(part.toLowerCase());
  });
}

/** Compares by the sorted column; what has no value comes last in either direction. */
function compare(one, other) {
  const key = view.sort;
  const [a, b] = key === "settings" ? [settingsText(one), settingsText(other)] : [one[key], other[key]];
  if (a === null || b === null) return (a === null) - (b === null) || one.index - other.index;
  const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return (view.isDescending ? -order : order) || one.index - other.index;
}

function updateRows() {
  view.rows = trials.filter(matchesFilter).sort(compare);
  view.page = 0;
  showRows();
}

function showRows() {
  const { rows } = view;
  const numPages = Math.max(1, Math.ceil(rows.length / PAGE_SIZE));
  view.page = Math.min(Math.max(view.page, 0), numPages - 1);
  const first = view.page * PAGE_SIZE;
  const shown = rows.slice(first, first + PAGE_SIZE);

  element("trial-rows").replaceChildren(...shown.map(trialRow));
  element("trial-count").textContent = rows.length
    ? `${(first + 1).toLocaleString("en")} to ${(first + shown.length).toLocaleString("en")} of ${rows.length.toLocaleString("en")} trials`
      + (rows.length === trials.length ? "" : ` (${trials.length.toLocaleString("en")} in all)`)
    : trials.length ? "No trial matches. Clear a filter." : "There is no trial yet.";
  element("page-back").disabled = view.page === 0;
  element("page-on").disabled = view.page >= numPages - 1;
  element("filter-clear").disabled = rows.length === trials.length && !view.only;
  element("filter-only").hidden = !view.only;
  element("filter-only").textContent = view.only ? `${view.only.label} (press to clear)` : "";
  document.querySelectorAll("#trial-table th[data-key]").forEach((heading) => {
    const isSorted = heading.dataset.key === view.sort;
    heading.setAttribute("aria-sort", isSorted ? (view.isDescending ? "descending" : "ascending") : "none");
  });
}

function trialRow(trial) {
  const row = document.createElement("tr");
  for (const { key, head, number, text } of COLUMNS) {
    const cell = document.createElement(head ? "th" : "td");
    if (head) cell.scope = "row";
    if (number) cell.className = "number";
    if (key === "settings") cell.className = "configuration";
    cell.textContent = text ? text(trial) : trial[key];
    row.append(cell);
  }
  return row;
}

/** The rows that are shown, on all pages, as CSV: a column for each setting. */
function trialCsv() {
  const searched = Object.values(data.dimensions).flatMap((dimensions) => dimensions.map(({ path }) => path));
  const paths = [...new Set(searched)].filter((path) => path !== data.modalities_path);
  const fixed = ["trial", "task", "stage", "modalities", "target", "purpose", "state", "measure", "devel", "deciding", "epochs", "begin_s", "seconds", "fold", "seed"];
  const lines = view.rows.map((trial) => [
    trial.name, trial.task, trial.stage, modalitiesOf(trial), trial.target, trial.purpose, trial.state, trial.measure,
    trial.devel, trial.deciding, trial.epochs, trial.begin, trial.seconds.toFixed(1), trial.fold, trial.seed,
    ...paths.map((path) => trial.settings[path]), trial.error,
  ]);
  return [[...fixed, ...paths, "error"], ...lines].map((line) => line.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function csvCell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function downloadCsv() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([trialCsv()], { type: "text/csv" }));
  link.download = `${data.study}-trials.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Shows some trials only, such as those of brushed ranges. */
function showOnly(label, indices) {
  view.only = { label, indices };
  updateRows();
  element("trials").scrollIntoView();
}

function addOptions(key) {
  const select = element(`filter-${key}`);
  const values = [...new Set(trials.map((trial) => trial[key]))];
  select.append(...values.map((value) => new Option(value, value)));
  select.addEventListener("change", updateRows);
}

function startTable() {
  const heads = COLUMNS.map(({ key, title, number }) => {
    const heading = document.createElement("th");
    heading.scope = "col";
    heading.dataset.key = key;
    if (number) heading.className = "number";
    const button = document.createElement("button");
    button.textContent = title;
    button.addEventListener("click", () => {
      view.isDescending = view.sort === key ? !view.isDescending : Boolean(number);
      view.sort = key;
      updateRows();
    });
    heading.append(button);
    return heading;
  });
  element("trial-heads").replaceChildren(...heads);
  ["task", "purpose", "state"].forEach(addOptions);
  element("filter-text").addEventListener("input", updateRows);
  element("filter-only").addEventListener("click", () => ((view.only = null), updateRows()));
  element("filter-clear").addEventListener("click", () => {
    ["text", "task", "purpose", "state"].forEach((key) => (element(`filter-${key}`).value = ""));
    view.only = null;
    updateRows();
  });
  element("page-back").addEventListener("click", () => (view.page--, showRows()));
  element("page-on").addEventListener("click", () => (view.page++, showRows()));
  element("trial-csv").addEventListener("click", downloadCsv);
  updateRows();
}
