// A prediction as a chart: panels of each target and of whom it trusts, then of each difficulty.

const LIGHT = ["#0b5cad", "#b3460f", "#1a7f5a", "#7a3fa0", "#8a6d00", "#b0215c"];
const DARK = ["#7ab7ff", "#ffb07a", "#6fd6ae", "#cfa3f0", "#e6cf6b", "#ff9cc2"];
const TARGET_SHARE = 3;
const WEIGHTS_SHARE = 1.4;
const DIFFICULTY_SHARE = 1.4;
const GAP = 0.055;
/** Of a band's colour, as the two last digits of a hexadecimal one. */
const BAND_OPACITY = "33";
/** Of one row of the legend, in pixels; the chart's panels shrink for further ones. */
const LEGEND_HEIGHT = 28;
/** Of an area of weights, as the two last digits of a hexadecimal colour. */
const WEIGHT_OPACITY = "99";

/** Draws a response of the endpoint into an element. */
export function drawChart(element, response) {
  const panels = placePanels(response);
  const isNarrow = innerWidth < 640;
  const layout = baseLayout(panels, isNarrow);

  panels.forEach((panel, index) => {
    layout[`yaxis${index ? index + 1 : ""}`] = valueAxis(panel);
    layout.annotations.push(title(panel));
  });
  layout.xaxis = timeAxis(panels);

  const seconds = response.timestamps_ms.map((time) => time / 1000);
  const inLegend = new Set();
  const traces = panels.flatMap((panel, index) =>
    panel.weights
      ? weightTraces(panel, index, seconds, inLegend)
      : [...bandTraces(panel, index, seconds), trace(panel, index, seconds)],
  );
  Plotly.react(element, traces, layout, { responsive: true, displayModeBar: false });
}

/** The panels from top to bottom; `top` and `bottom` are shares of the chart's height. */
function placePanels({ predictions, bands, difficulty, weights }) {
  // A modality has one colour, as difficulty and as weight.
  const firstColour = Object.keys(predictions).length;
  const colours = Object.fromEntries(
    Object.keys(difficulty).map((name, number) => [name, firstColour + number]),
  );

  const panels = [
    ...Object.entries(predictions).flatMap(([name, values], number) => [
      {
        name,
        values,
        band: bands[name],
        colour: number,
        isTarget: true,
        share: TARGET_SHARE,
      },
      ...(weights[name] ? [{ name, weights: weights[name], colours, share: WEIGHTS_SHARE }] : []),
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
  const ofWeights = { range: [0, 1], tickvals: [0, 1] };
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

function title({ name, isTarget, weights, top }) {
  const bold = `<b>${literal(name)}</b>`;
  const other = weights ? `trusted for ${bold}` : `difficulty of ${bold}`;
  return {
    text: isTarget ? bold : other,
    xref: "paper",
    yref: "paper",
    x: 0,
    y: top,
    xanchor: "left",
    yanchor: "bottom",
    showarrow: false,
  };
}

/** A target's band: its lower end, and its upper end filled down to it; nothing without one. */
function bandTraces({ name, band, colour }, index, seconds) {
  if (!band) return [];

  const common = {
    x: seconds,
    yaxis: axisName(index),
    mode: "lines",
    line: { width: 0 },
    connectgaps: false,
    showlegend: false,
    hovertemplate: "%{y:.3f}",
  };
  const fillcolor = `${lineColour(colour)}${BAND_OPACITY}`;
  return [
    { ...common, y: band.low, name: `${literal(name)}, from` },
    { ...common, y: band.high, name: `${literal(name)}, to`, fill: "tonexty", fillcolor },
  ];
}

/** The weights of a target's modalities, stacked up to 1; a modality is in the legend once. */
function weightTraces({ name: target, weights, colours }, index, seconds, inLegend) {
  return Object.entries(weights).map(([modality, values]) => {
    const color = lineColour(colours[modality]);
    const name = literal(modality);
    const showlegend = !inLegend.has(modality);
    inLegend.add(modality);
    return {
      x: seconds,
      y: values,
      name,
      yaxis: axisName(index),
      mode: "lines",
      line: { color, width: 0 },
      fillcolor: `${color}${WEIGHT_OPACITY}`,
      stackgroup: "weights",
      showlegend,
      hoverlabel: { namelength: -1 },
      hovertemplate: `%{y:.0%}<extra>${name}, trusted for ${literal(target)}</extra>`,
    };
  });
}

function trace({ name, values, colour, isTarget }, index, seconds) {
  return {
    x: seconds,
    y: values,
    name: literal(isTarget ? name : `${name}, difficulty`),
    yaxis: axisName(index),
    mode: "lines",
    line: { color: lineColour(colour), width: isTarget ? 2 : 1.4 },
    showlegend: false,
    fill: isTarget ? undefined : "tozeroy",
    connectgaps: false,
    hovertemplate: isTarget ? "%{y:.3f}" : "%{y:.0f} of 100",
  };
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
