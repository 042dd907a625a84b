// A prediction as a chart: one panel per target, and below them one per modality's difficulty.

const LIGHT = ["#0b5cad", "#b3460f", "#1a7f5a", "#7a3fa0", "#8a6d00", "#b0215c"];
const DARK = ["#7ab7ff", "#ffb07a", "#6fd6ae", "#cfa3f0", "#e6cf6b", "#ff9cc2"];
const TARGET_SHARE = 3;
const DIFFICULTY_SHARE = 1.4;
const GAP = 0.055;
/** Of a band's colour, as the two last digits of a hexadecimal one. */
const BAND_OPACITY = "33";

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
  const traces = panels.flatMap((panel, index) => [
    ...bandTraces(panel, index, seconds),
    trace(panel, index, seconds),
  ]);
  Plotly.react(element, traces, layout, { responsive: true, displayModeBar: false });
}

/** The panels from top to bottom; `top` and `bottom` are shares of the chart's height. */
function placePanels({ predictions, bands, difficulty }) {
  const panels = [
    ...Object.entries(predictions).map(([name, values]) => {
      return { name, values, band: bands[name], isTarget: true, share: TARGET_SHARE };
    }),
    ...Object.entries(difficulty).map(([name, { percentile }]) => {
      return { name, values: percentile, isTarget: false, share: DIFFICULTY_SHARE };
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
  const modalities = panels.length - targets;
  return {
    height: (isNarrow ? 110 : 125) * targets + 72 * modalities + 110,
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
    showlegend: false,
    annotations: [],
  };
}

function valueAxis({ isTarget, top, bottom }) {
  const ticks = isTarget ? { nticks: 5 } : { range: [0, 100], tickvals: [0, 50, 100] };
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
    title: { text: "seconds" },
    unifiedhovertitle: { text: "%{x} s" },
    anchor: axisName(panels.length - 1),
    gridcolor: colour("--line"),
    zeroline: false,
  };
}

function title({ name, isTarget, top }) {
  const bold = `<b>${withoutMarkup(name)}</b>`;
  return {
    text: isTarget ? bold : `difficulty of ${bold}`,
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
function bandTraces({ name, band }, index, seconds) {
  if (!band) return [];

  const common = {
    x: seconds,
    yaxis: axisName(index),
    mode: "lines",
    line: { width: 0 },
    connectgaps: false,
    hovertemplate: "%{y:.3f}",
  };
  const fillcolor = `${lineColour(index)}${BAND_OPACITY}`;
  return [
    { ...common, y: band.low, name: `${name}, from` },
    { ...common, y: band.high, name: `${name}, to`, fill: "tonexty", fillcolor },
  ];
}

function trace({ name, values, isTarget }, index, seconds) {
  return {
    x: seconds,
    y: values,
    name: isTarget ? name : `${name}, difficulty`,
    yaxis: axisName(index),
    mode: "lines",
    line: { color: lineColour(index), width: isTarget ? 2 : 1.4 },
    fill: isTarget ? undefined : "tozeroy",
    connectgaps: false,
    hovertemplate: isTarget ? "%{y:.3f}" : "%{y:.0f} of 100",
  };
}

function lineColour(index) {
  const colours = matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT;
  return colours[index % colours.length];
}

function axisName(index) {
  return index > 0 ? `y${index + 1}` : "y";
}

/** A colour of the page's style sheet, for light or dark. */
function colour(variable) {
  return getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
}

/** A name that cannot be taken for markup. */
function withoutMarkup(name) {
  return name.replace(/[<>&]/g, "");
}
