// A prediction as a chart: panels of each target and of whom it trusts, then of each difficulty.

import { emptyFrames, line, ribbon } from "./series.js";
import { fixed } from "./words.js";

const LIGHT = ["#0b5cad", "#b3460f", "#1a7f5a", "#7a3fa0", "#8a6d00", "#b0215c"];
const DARK = ["#7ab7ff", "#ffb07a", "#6fd6ae", "#cfa3f0", "#e6cf6b", "#ff9cc2"];
const TARGET_SHARE = 3;
const WEIGHTS_SHARE = 1.4;
const DIFFICULTY_SHARE = 1.4;
const GAP = 0.055;
/** Of a band's colour, as the two last digits of a hexadecimal one. */
const BAND_OPACITY = "33";
/** Of an area of weights, likewise. */
const WEIGHT_OPACITY = "99";
/** Of one row of the legend, in pixels; the chart's panels shrink for further ones. */
const LEGEND_HEIGHT = 28;
const PICTURE_WIDTH = 1200;

/** Draws a prediction into an element: `response` of the endpoint, and `labels` by target. */
export function drawChart(element, prediction) {
  const { data, layout } = makeFigure(prediction, innerWidth < 640);
  Plotly.react(element, data, layout, { responsive: true, displayModeBar: false });
}

/** Returns the chart as a PNG file's bytes, with a heading. */
export async function chartPicture(prediction, heading) {
  const { data, layout } = makeFigure(prediction, false);
  layout.title = { text: literal(heading), x: 0.01, xanchor: "left", font: { size: 16 } };
  layout.paper_bgcolor = colour("--back");
  layout.margin.t += 34;
  layout.height += 34;
  layout.width = PICTURE_WIDTH;
  const options = { format: "png", width: PICTURE_WIDTH, height: layout.height, scale: 2 };
  const url = await Plotly.toImage({ data, layout }, options);
  return Uint8Array.from(atob(url.split(",")[1]), (letter) => letter.charCodeAt(0));
}

function makeFigure({ response, labels }, isNarrow) {
  const panels = placePanels(response, labels);
  const layout = baseLayout(panels, isNarrow);
  panels.forEach((panel, index) => {
    layout[`yaxis${index ? index + 1 : ""}`] = valueAxis(panel);
    layout.annotations.push(title(panel));
  });
  layout.xaxis = timeAxis(panels);

  const seconds = response.timestamps_ms.map((time) => time / 1000);
  const inLegend = new Set();
  const data = panels.flatMap((panel, index) => {
    const traces = panel.weights
      ? weightTraces(panel, seconds, inLegend)
      : panel.isTarget
        ? targetTraces(panel, seconds)
        : difficultyTraces(panel, seconds);
    return traces.map((trace) => ({ showlegend: false, ...trace, yaxis: axisName(index) }));
  });
  return { data, layout };
}

/** The panels from top to bottom; `top` and `bottom` are shares of the chart's height. */
function placePanels(response, labels) {
  const { predictions, bands, difficulty, weights } = response;
  // A modality has one colour, as difficulty and as weight.
  const firstColour = Object.keys(predictions).length;
  const colours = Object.fromEntries(
    Object.keys(difficulty).map((name, number) => [name, firstColour + number]),
  );
  const empty = new Set(emptyFrames(response));
  const drawn = (values) => values.map((value, frame) => (empty.has(frame) ? null : value));

  const panels = [
    ...Object.entries(predictions).flatMap(([name, values], number) => [
      {
        name,
        values: drawn(values),
        band: bands[name],
        label: labels[name],
        colour: number,
        isTarget: true,
        share: TARGET_SHARE,
      },
      ...(weights[name]
        ? [{ name, weights: weights[name], drawn, colours, share: WEIGHTS_SHARE }]
        : []),
    ]),
    ...Object.entries(difficulty).map(([name, { percentile }]) => {
      return { name, values: percentile, colour: colours[name], share: DIFFICULTY_SHARE };
    }),
  ];

  const total = panels.reduce((sum, { share }) => sum + share, 0);
  const unit = (1 - GAP * (panels.length - 1)) / total;
  let top = 1;
  for (const panel of panels) {
    panel.top = top;
    panel.bottom = top - panel.share * unit;
    top = panel.bottom - GAP;
  }
  return panels;
}

function baseLayout(panels, isNarrow) {
  const targets = panels.filter(({ isTarget }) => isTarget).length;
  const others = panels.length - targets;
  const hasWeights = panels.some(({ weights }) => weights);
  const panelsHeight = (isNarrow ? 110 : 125) * targets + 72 * others + 44;
  return {
    height: panelsHeight + 66 + (hasWeights ? LEGEND_HEIGHT : 0),
    margin: { l: isNarrow ? 44 : 58, r: 12, t: 22, b: 44 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--text"), family: "system-ui, sans-serif", size: isNarrow ? 11 : 12 },
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverlabel: {
      bgcolor: colour("--panel"),
      bordercolor: colour("--line"),
      font: { color: colour("--text") },
    },
    showlegend: hasWeights,
    legend: {
      title: { text: "trusted: " },
      orientation: "h",
      traceorder: "normal",
      x: 0,
      y: -44 / panelsHeight, // below the title of the time axis
      yanchor: "top",
      itemclick: false,
      itemdoubleclick: false,
    },
    annotations: [],
  };
}

function valueAxis({ isTarget, weights, top, bottom }) {
  const ofDifficulty = { range: [0, 100], tickvals: [0, 50, 100] };
  const ofWeights = { range: [0, 1], tickvals: [0, 1], ticktext: ["0%", "100%"] };
  const ticks = isTarget ? { nticks: 5 } : weights ? ofWeights : ofDifficulty;
  return {
    domain: [Math.max(0, bottom), top],
    gridcolor: colour("--line"),
    zerolinecolor: colour("--line"),
    automargin: false,
    fixedrange: true,
    ...ticks,
  };
}

function timeAxis(panels) {
  return {
    title: { text: "seconds", standoff: 6 },
    unifiedhovertitle: { text: "%{x} s" },
    anchor: axisName(panels.length - 1),
    gridcolor: colour("--line"),
    zeroline: false,
  };
}

function title({ name, values, label, isTarget, weights, top }) {
  const bold = `<b>${literal(name)}</b>`;
  const isMissing = values?.every((value) => value === null);
  const other = weights
    ? `trusted for ${bold}`
    : `difficulty of ${bold}${isMissing ? ": missing" : ""}`;
  const score = label && Number.isFinite(label.ccc) ? `, CCC ${fixed(label.ccc, 3)}` : "";
  return {
    text: isTarget ? `${bold}${label ? ` (dotted: its label${score})` : ""}` : other,
    xref: "paper",
    yref: "paper",
    x: 0,
    y: top,
    xanchor: "left",
    yanchor: "bottom",
    showarrow: false,
  };
}

/** A target's band, its prediction, and its label if it has one. */
function targetTraces({ name, values, band, label, colour: number }, seconds) {
  const color = lineColour(number);
  const known = (series) => series.map((end, frame) => (values[frame] === null ? null : end));
  const ends = band && band.low.map((low, frame) => [low, band.high[frame]]);
  const range = band ? " (%{customdata[0]:.3f} to %{customdata[1]:.3f})" : "";
  const traces = [
    {
      ...line(seconds, values, ends),
      name: literal(name),
      line: { color, width: 2 },
      hovertemplate: `%{y:.3f}${range}`,
    },
  ];
  if (band) {
    const area = ribbon(seconds, known(band.low), known(band.high));
    traces.unshift(areaTrace(area, `${color}${BAND_OPACITY}`));
  }
  if (label) {
    const labelSeconds = label.times.map((time) => time / 1000);
    traces.push({
      ...line(labelSeconds, label.values),
      name: `${literal(name)}, label`,
      line: { color: colour("--text"), width: 1.5, dash: "dot" },
      hovertemplate: "%{y:.3f}",
    });
  }
  return traces;
}

/** The weights of a target's modalities, stacked up to 1; a modality is in the legend once. */
function weightTraces({ name: target, weights, drawn, colours }, seconds, inLegend) {
  let low = seconds.map(() => 0);
  return Object.entries(weights).flatMap(([modality, values]) => {
    const color = lineColour(colours[modality]);
    const name = literal(modality);
    const high = values.map((value, frame) => (value === null ? null : low[frame] + value));
    const area = ribbon(seconds, low, drawn(high));
    const showlegend = !inLegend.has(modality);
    inLegend.add(modality);
    low = high;
    return [
      { ...areaTrace(area, `${color}${WEIGHT_OPACITY}`), name, showlegend },
      {
        ...line(seconds, drawn(high), values),
        name,
        line: { color, width: 0 },
        hoverlabel: { namelength: -1 },
        hovertemplate: `%{customdata:.0%}<extra>${name}, trusted for ${literal(target)}</extra>`,
      },
    ];
  });
}

function difficultyTraces({ name, values, colour: number }, seconds) {
  const color = lineColour(number);
  const zeros = seconds.map(() => 0);
  return [
    areaTrace(ribbon(seconds, zeros, values), `${color}${BAND_OPACITY}`),
    {
      ...line(seconds, values),
      name: literal(`${name}, difficulty`),
      line: { color, width: 1.4 },
      hovertemplate: "%{y:.0f} of 100",
    },
  ];
}

function areaTrace(area, fillcolor) {
  // Simplified, areas that touch would no longer do so.
  const outline = { width: 0, simplify: false };
  const shape = { mode: "lines", line: outline, fill: "toself", connectgaps: false };
  return { ...area, ...shape, fillcolor, hoverinfo: "skip" };
}

function lineColour(number) {
  const colours = matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT;
  return colours[number % colours.length];
}

function axisName(index) {
  return index > 0 ? `y${index + 1}` : "y";
}

/** A colour of the page's style sheet, for light or dark. */
function colour(variable) {
  return getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
}

/** A name as Plotly shows it: neither as a tag or entity, nor as a field of a template. */
function literal(name) {
  return name.replace(/[<>&{]/g, (character) => `&#${character.charCodeAt(0)};`);
}
