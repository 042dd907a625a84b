// Parallel coordinates of a task: every trial a line through its settings to its score. Ranges are
// brushed on the axes; the pointer names the nearest trial.

const SVG = "http://www.w3.org/2000/svg";
const PLACE = { top: 52, bottom: 34, left: 60, right: 96, height: 400 };
const SCALE = ["#64748b", "#3b82f6", "#a855f7", "#f97316"];
const NEAR_PX = 24;

function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function colourAt(share) {
  const place = Math.max(0, Math.min(0.9999, share)) * (SCALE.length - 1);
  const [from, to] = [SCALE[Math.floor(place)], SCALE[Math.floor(place) + 1]];
  const part = place % 1;
  const mixed = [1, 3, 5].map((i) => Math.round(parseInt(from.slice(i, i + 2), 16) * (1 - part) + parseInt(to.slice(i, i + 2), 16) * part));
  return `rgb(${mixed.join(",")})`;
}

/** An axis: its title, its labels, and where a trial crosses it, 0 at the bottom to 1 on top. */
function settingAxis({ path, kind, log, values }, ofTask) {
  if (kind === "choice") {
    const tried = values.filter((value) => ofTask.some((trial) => trial.settings[path] === value));
    const step = 1 / Math.max(tried.length - 1, 1);
    const every = Math.ceil(tried.length / 10);
    return {
      title: shortPath(path),
      full: path,
      ticks: tried.map((value, i) => [i * step, valueText(value)]).filter((_, i) => i % every === 0),
      at: (trial) => {
        const i = tried.indexOf(trial.settings[path]);
        return i < 0 ? null : i * step + (((trial.index * 0.618) % 1) - 0.5) * Math.min(0.03, step / 4);
      },
    };
  }
  const scaled = log ? Math.log10 : (value) => value;
  const [low, high] = values.map(scaled);
  const span = high - low || 1;
  const middle = log ? 10 ** ((low + high) / 2) : (low + high) / 2;
  return {
    title: shortPath(path),
    full: log ? `${path} (logarithmic)` : path,
    ticks: [[0, values[0]], [0.5, middle], [1, values[1]]]
      .filter(([, value]) => kind === "real" || Number.isInteger(value))
      .map(([share, value]) => [share, valueText(value)]),
    at: (trial) => (trial.settings[path] === undefined ? null : (scaled(trial.settings[path]) - low) / span),
  };
}

/** The axis of the score: the best is on top, also where it is the lowest error. */
function scoreAxis(task, ofTask) {
  const scores = ofTask.map((trial) => trial.devel);
  let [low, high] = [Math.min(...scores), Math.max(...scores)];
  if (task.measure !== "CCC") [low, high] = [high, low];
  const at = (share) => low + share * (high - low);
  return {
    title: `devel ${task.measure}`,
    full: `devel ${task.measure}`,
    ticks: [0, 0.25, 0.5, 0.75, 1].map((share) => [share, at(share).toFixed(3)]),
    at: (trial) => (trial.devel - low) / (high - low || 1),
  };
}

builders.parallel = (plot, canvas, givenWidth) => {
  const task = data.tasks[plot.dataset.task];
  const ofTask = trials.filter((trial) => trial.task === task.name && isSearched(trial));
  const shown = thinned(ofTask, MAX_DOTS);
  const axes = [...variedDimensions(task, ofTask).map((dimension) => settingAxis(dimension, ofTask)), scoreAxis(task, ofTask)];
  const width = Math.max(isOnPaper ? 0 : axes.length * 108 + PLACE.left, givenWidth);
  const inner = PLACE.height - PLACE.top - PLACE.bottom;
  const step = (width - PLACE.left - PLACE.right) / Math.max(axes.length - 1, 1);
  const xs = axes.map((_, i) => PLACE.left + i * step);
  const yAt = (share) => PLACE.top + (1 - share) * inner;
  const heights = shown.map((trial) => axes.map((axis) => axis.at(trial)));
  const ys = heights.map((row) => row.map((share) => (share === null ? PLACE.top + inner + 18 : yAt(share))));

  const picture = svg("svg", { width, height: PLACE.height, "aria-hidden": "true" });
  const lines = drawLines(picture, shown, xs, ys, heights);
  drawAxes(picture, axes, xs, yAt, step);
  drawColourBar(picture, axes.at(-1), width, yAt);
  const note = plot.parentElement.querySelector("figcaption");
  const brushes = axes.map(() => null);

  const select = () => {
    const isIn = (row) => brushes.every((range, i) => !range || (row[i] !== null && row[i] >= range[0] && row[i] <= range[1]));
    const selected = shown.filter((_, i) => {
      const keeps = isIn(heights[i]);
      lines[i].classList.toggle("out", !keeps);
      return keeps;
    });
    describeSelection(note, task, ofTask, shown, brushes.some(Boolean) ? selected : null);
  };
  addBrushes(picture, xs, inner, brushes, select);
  addHover(picture, shown, lines, xs, ys);
  canvas.replaceChildren(picture);
  canvas.style.height = `${PLACE.height}px`;
  select();
  return null;
};

function drawLines(picture, shown, xs, ys, heights) {
  return shown.map((trial, i) => {
    const points = xs.map((x, k) => `${x.toFixed(1)},${ys[i][k].toFixed(1)}`).join(" ");
    const isStopped = !["trained to the end", "from the store"].includes(trial.state);
    const line = svg("polyline", { points, class: isStopped ? "trial stopped" : "trial", stroke: colourAt(heights[i].at(-1)) });
    picture.append(line);
    return line;
  });
}

function drawAxes(picture, axes, xs, yAt, step) {
  const room = Math.max(6, Math.floor(step / 7.5));
  axes.forEach((axis, i) => {
    picture.append(svg("line", { class: "axis", x1: xs[i], x2: xs[i], y1: yAt(1), y2: yAt(0) }));
    const heading = svg("text", { class: "title", x: xs[i], y: 0, "text-anchor": "middle" });
    titleLines(axis.title, room).forEach((text, k, all) => heading.append(svg("tspan", { x: xs[i], y: PLACE.top - 14 - 14 * (all.length - 1 - k) }, text)));
    heading.append(svg("title", {}, axis.full));
    picture.append(heading);
    for (const [share, text] of axis.ticks) {
      const label = svg("text", { class: "tick", x: xs[i] + 6, y: yAt(share) + 4 }, shortened(text, room));
      label.append(svg("title", {}, text));
      picture.append(label);
    }
  });
}

/** A title on up to three lines, divided where a path has a dot or an underscore. */
function titleLines(title, room) {
  const lines = [""];
  for (const part of title.split(/(?<=[._ ])/)) {
    if (lines.at(-1) && (lines.at(-1) + part).length > room && lines.length < 3) lines.push("");
    lines[lines.length - 1] += part;
  }
  return lines.map((line) => shortened(line, room + 2));
}

/** The colours of the lines, with the scores that they stand for. */
function drawColourBar(picture, axis, width, yAt) {
  const x = width - 14;
  for (let i = 0; i < 40; i++) {
    const share = i / 40;
    picture.append(svg("rect", { x, y: yAt(share + 1 / 40), width: 12, height: yAt(share) - yAt(share + 1 / 40) + 0.5, fill: colourAt(share) }));
  }
  picture.append(svg("text", { class: "title", x: width, y: PLACE.top - 14, "text-anchor": "end" }, "colour"));
}

/** Lets a range of each axis be dragged; a press without dragging clears it. */
function addBrushes(picture, xs, inner, brushes, select) {
  xs.forEach((x, i) => {
    const band = svg("rect", { class: "brush", x: x - 7, width: 14, y: PLACE.top, height: 0 });
    const zone = svg("rect", { class: "zone", x: x - 16, width: 32, y: PLACE.top - 8, height: inner + 16 });
    let from = null;
    const shareAt = (event) => 1 - (event.clientY - picture.getBoundingClientRect().top - PLACE.top) / inner;
    const show = () => {
      const [low, high] = brushes[i] || [0, 0];
      band.setAttribute("y", PLACE.top + (1 - Math.min(high, 1.03)) * inner);
      band.setAttribute("height", brushes[i] ? (Math.min(high, 1.03) - Math.max(low, -0.03)) * inner : 0);
      select();
    };
    zone.addEventListener("pointerdown", (event) => {
      from = shareAt(event);
      zone.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    zone.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const to = shareAt(event);
      brushes[i] = Math.abs(to - from) * inner < 4 ? null : [Math.min(from, to), Math.max(from, to)];
      show();
    });
    for (const name of ["pointerup", "pointercancel"]) {
      zone.addEventListener(name, (event) => {
        if (from !== null && Math.abs(shareAt(event) - from) * inner < 4) brushes[i] = null;
        from = null;
        show();
      });
    }
    picture.append(band, zone);
  });
}

/** Names the trial whose line is nearest to the pointer. */
function addHover(picture, shown, lines, xs, ys) {
  let marked = null;
  const clear = () => {
    if (marked) marked.classList.remove("near");
    marked = null;
    hideTip();
  };
  picture.addEventListener("pointerleave", clear);
  picture.addEventListener("pointermove", (event) => {
    if (event.buttons) return;
    const box = picture.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const k = Math.max(0, Math.min(xs.length - 2, xs.findLastIndex((at) => at <= x)));
    const part = (x - xs[k]) / (xs[k + 1] - xs[k]);
    let [nearest, distance] = [-1, NEAR_PX];
    ys.forEach((row, i) => {
      if (lines[i].classList.contains("out")) return;
      const away = Math.abs(row[k] + part * (row[k + 1] - row[k]) - y);
      if (away < distance) [nearest, distance] = [i, away];
    });
    clear();
    if (nearest < 0 || part < -0.2 || part > 1.2) return;
    marked = lines[nearest];
    marked.classList.add("near");
    showTip(describe(shown[nearest]), event.clientX, event.clientY);
  });
}

/** Says what is shown and selected; a button shows the selected trials in the table. */
function describeSelection(note, task, ofTask, shown, selected) {
  const drawnCount = shown.length < ofTask.length ? ` ${shown.length.toLocaleString("en")} of ${ofTask.length.toLocaleString("en")} trials are drawn.` : "";
  if (!selected) {
    note.textContent = `Drag along an axis to choose a range; press the axis to clear it. Dotted: stopped early, with the score of its last epochs. A line below an axis: the setting does not apply.${drawnCount}`;
    return;
  }
  const button = document.createElement("button");
  button.textContent = "Show them in the table";
  button.addEventListener("click", () => showOnly(`${selected.length} trials chosen in ${task.name}`, new Set(selected.map((trial) => trial.index))));
  note.replaceChildren(`${selected.length} of ${shown.length} trials are in the chosen ranges. `, button);
}
