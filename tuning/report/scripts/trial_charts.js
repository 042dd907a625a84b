// Charts of trials: the highest score so far, the timeline of workers, and slices of a task.

const PALETTE = ["#2563eb", "#0d9488", "#a855f7", "#ca8a04", "#db2777", "#65a30d", "#0891b2", "#e11d48"];
const STAGE_COLOURS = { auto_encoder: "#0d9488", unimodal: "#2563eb", fusion: "var(--accent)" };
const MAX_BARS = 4000;
const MAX_DOTS = 1500;
const MAX_LISTED = 8;
const SLICE_HEIGHT = 230;
const UNITS = [["seconds", 1, 180], ["minutes", 60, 3 * 3600], ["hours", 3600, 72 * 3600], ["days", 86400, Infinity]];

function unitOf(seconds) {
  const [name, size] = UNITS.find(([, , limit]) => seconds <= limit);
  return { name, size };
}

function lastEnd() {
  return trials.reduce((last, trial) => Math.max(last, trial.end), 0);
}

/** At most so many of some trials, evenly over them. */
function thinned(list, count) {
  if (list.length <= count) return list;
  return Array.from({ length: count }, (_, i) => list[Math.floor((i * list.length) / count)]);
}

const isSearched = (trial) => trial.purpose === "search" && trial.devel !== null && !["failed", "not ended"].includes(trial.state);
/** Whether a devel score is better than another: a CCC if it is higher, an error if it is lower. */
const isBetter = (measure, one, other) => (measure === "CCC" ? one > other : one < other);

/** The highest devel score so far of every task of a target; of "" the auto-encoders' lowest. */
builders.progress = (plot) => {
  const { target } = plot.dataset;
  const tasks = data.tasks.filter((task) => task.target === target);
  const unit = unitOf(lastEnd());
  const measure = target ? "CCC" : "RE";
  const traces = [];
  tasks.forEach((task, number) => {
    const ended = trials.filter((trial) => trial.task === task.name && isSearched(trial)).sort((a, b) => a.end - b.end);
    const steps = [];
    for (const trial of ended) {
      if (!steps.length || isBetter(measure, trial.devel, steps.at(-1).devel)) steps.push(trial);
    }
    if (!steps.length) return;
    const isFusion = task.stage === "fusion";
    const last = { ...steps.at(-1), end: ended.at(-1).end };
    const points = [...steps, last];
    traces.push({
      x: points.map((trial) => trial.end / unit.size),
      y: points.map((trial) => trial.devel),
      customdata: points.map((trial) => trial.name),
      meta: "trials",
      hoverinfo: "none",
      name: isFusion ? "fusion" : escapeText(task.modality),
      mode: "lines+markers",
      line: { shape: "hv", width: isFusion ? 3 : 1.8, color: isFusion ? "var(--accent)" : PALETTE[number % PALETTE.length] },
      marker: { size: isFusion ? 7 : 5 },
    });
  });
  const words = `${target ? "highest" : "lowest"} devel ${measure} so far`;
  return {
    data: traces,
    layout: styled({
      xaxis: { title: { text: `${unit.name} since the study began` }, rangemode: "tozero" },
      yaxis: { title: { text: words } },
      margin: { t: 40, r: 10, b: 45, l: 20 },
    }),
    note: traces.length
      ? "Of the search's trials, stopped ones too. A mark is a trial that came out ahead. A task begins when those that it reads are completed."
      : "No trial of these tasks has ended yet.",
  };
};

/** Trials as bars over time, each in the first row that is free when it begins. */
builders.timeline = () => {
  const timed = trials.filter((trial) => trial.seconds > 0).sort((a, b) => a.begin - b.begin);
  const free = [];
  for (const trial of timed) {
    let row = free.findIndex((end) => end <= trial.begin + 0.3);
    if (row < 0) row = free.length;
    free[row] = trial.end;
    trial.row = row;
  }
  const longest = new Set([...timed].sort((a, b) => b.seconds - a.seconds).slice(0, MAX_BARS));
  const unit = unitOf(lastEnd());
  const kinds = [
    ...Object.entries(STAGE_COLOURS).map(([stage, colour]) => [stage, colour, (trial) => trial.stage === stage && trial.state !== "failed"]),
    ["failed", "var(--bad)", (trial) => trial.state === "failed"],
  ];
  const traces = [];
  for (const [name, colour, isOfKind] of kinds) {
    const bars = timed.filter((trial) => longest.has(trial) && isOfKind(trial));
    if (!bars.length) continue;
    traces.push({
      type: "bar", orientation: "h", name,
      base: bars.map((trial) => trial.begin / unit.size),
      x: bars.map((trial) => trial.seconds / unit.size),
      y: bars.map((trial) => trial.row + 1),
      customdata: bars.map((trial) => trial.name),
      meta: "trials",
      hoverinfo: "none",
      marker: { color: colour, line: { color: "var(--paper)", width: longest.size > 1000 ? 0 : 0.5 } },
    });
  }
  const rows = Math.max(free.length, 1);
  const left = timed.length - longest.size;
  const stored = trials.filter((trial) => trial.state === "from the store").length;
  const notes = ["A bar is a trial. The journal does not name workers: each trial is in the first row that is free when its fit begins, so there are as many rows as fits at a time."];
  if (!timed.length) notes[0] = "No trial has taken any time yet.";
  if (left) notes.push(`The ${MAX_BARS.toLocaleString("en")} longest are drawn, ${left.toLocaleString("en")} shorter ones are not.`);
  if (stored) notes.push(`${stored.toLocaleString("en")} from the store took no time.`);
  return {
    data: traces,
    height: 150 + Math.min(rows * 26, 520),
    layout: styled({
      barmode: "overlay",
      bargap: 0.12,
      xaxis: { title: { text: `${unit.name} since the study began` } },
      yaxis: { title: { text: "fits at a time" }, range: [rows + 0.5, 0.5], dtick: rows > 12 ? undefined : 1, tickformat: "d" },
      margin: { t: 40, r: 10, b: 45, l: 20 },
    }),
    note: notes.join(" "),
  };
};

/** The dimensions of a task whose trials differ in them. */
function variedDimensions(task, ofTask) {
  return data.dimensions[task.stage].filter(({ path }) => new Set(ofTask.map((trial) => trial.settings[path])).size > 1);
}

/** The devel score of a task's trials against each setting that was searched. */
builders.slices = (plot, canvas, width) => {
  const task = data.tasks[plot.dataset.task];
  const ofTask = trials.filter((trial) => trial.task === task.name && isSearched(trial));
  const dimensions = variedDimensions(task, ofTask);
  const dots = thinned(ofTask, MAX_DOTS);
  const columns = Math.max(1, Math.min(dimensions.length, Math.floor(width / 270)));
  const rows = Math.ceil(dimensions.length / columns);
  const layout = { margin: { t: 34, r: 10, b: 40, l: 20 }, showlegend: false, grid: { rows, columns, pattern: "independent", ygap: 0.34, xgap: 0.12 } };
  const scores = dots.map((trial) => trial.devel);
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  const pad = 0.05 * (high - low || 1);

  const traces = dimensions.map((dimension, number) => {
    const suffix = number ? String(number + 1) : "";
    const known = dots.filter((trial) => trial.settings[dimension.path] !== undefined);
    const { positions, axis } = positionsOf(dimension, known);
    layout[`xaxis${suffix}`] = { title: { text: escapeText(shortPath(dimension.path)), standoff: 4 }, ...axis };
    layout[`yaxis${suffix}`] = { range: [low - pad, high + pad], title: { text: number % columns ? "" : `devel ${task.measure}` }, showticklabels: number % columns === 0 };
    return {
      x: positions,
      y: known.map((trial) => trial.devel),
      xaxis: `x${suffix}`,
      yaxis: `y${suffix}`,
      customdata: known.map((trial) => trial.name),
      meta: "trials",
      hoverinfo: "none",
      mode: "markers",
      type: "scatter",
      marker: {
        size: 6,
        opacity: 0.75,
        color: known.map((trial) => trial.index + 1),
        symbol: known.map((trial) => (trial.state === "stopped early" || trial.state.startsWith("cut") ? "circle-open" : "circle")),
        cmin: ofTask[0].index + 1,
        cmax: ofTask.at(-1).index + 1,
        colorscale: [[0, "#93a4c4"], [1, "#c2410c"]],
        showscale: number === 0,
        colorbar: { title: { text: "trial", side: "right" }, thickness: 10, len: Math.min(1, 1.2 / rows + 0.2), tickformat: "d" },
      },
    };
  });
  const drawnCount = dots.length < ofTask.length ? ` ${dots.length.toLocaleString("en")} of ${ofTask.length.toLocaleString("en")} trials are drawn.` : "";
  return {
    data: traces,
    height: rows * SLICE_HEIGHT + 30,
    layout: styled(layout),
    note: `A dot is a trial: filled where it was trained to the end, hollow where it was stopped, whose score is that of its last epochs. The later, the redder.${drawnCount}`,
  };
};

/** Where trials stand on the axis of a setting, and the axis: a listed value has its own place. */
function positionsOf(dimension, known) {
  if (dimension.kind !== "choice") {
    const positions = known.map((trial) => trial.settings[dimension.path]);
    const [low, high] = dimension.values;
    const isCounted = dimension.kind === "whole" && !dimension.log && high - low <= 8;
    const steps = dimension.log ? { type: "log", dtick: "D2", tickformat: "~g" } : isCounted ? { dtick: 1 } : {};
    return { positions, axis: { nticks: 5, ...steps } };
  }
  const tried = new Set(known.map((trial) => trial.settings[dimension.path]));
  const values = dimension.values.filter((value) => tried.has(value));
  const aside = (trial) => (((trial.index * 0.618) % 1) - 0.5) * 0.36;
  if (dimension.path === data.modalities_path && values.length > MAX_LISTED) {
    const positions = known.map((trial) => trial.settings[dimension.path].split(",").length + aside(trial));
    return { positions, axis: { title: { text: "number of modalities", standoff: 4 }, dtick: 1 } };
  }
  const positions = known.map((trial) => values.indexOf(trial.settings[dimension.path]) + aside(trial));
  const every = Math.ceil(values.length / MAX_LISTED);
  const shown = values.map((_, i) => i).filter((i) => i % every === 0);
  const texts = shown.map((i) => escapeText(shortened(valueText(values[i]), 16)));
  return { positions, axis: { tickvals: shown, ticktext: texts, range: [-0.6, values.length - 0.4], tickangle: texts.join("").length > 34 ? 30 : 0 } };
}

function shortened(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

/** Plotly reads a little HTML: a name is shown as it is. */
function escapeText(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
