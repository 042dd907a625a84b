// Draws a chart when it comes near the screen, in the colours of the page, and again when these
// change or the page goes to paper. Knows no trial.

const coarse = matchMedia("(pointer: coarse)").matches;
const PAPER_WIDTH = 690;
const drawn = new Set();
const builders = {};
let isOnPaper = false;

/** Unpacks plotly, which lies in the page compressed, and runs it. */
async function loadPlotly() {
  const packed = document.getElementById("plotly").textContent;
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function resolveColours(value, colours) {
  if (typeof value === "string") {
    const name = /^var\((--[a-z]+)\)$/.exec(value);
    return name ? colours.getPropertyValue(name[1]).trim() : value;
  }
  if (ArrayBuffer.isView(value)) return value;
  if (Array.isArray(value)) return value.map((item) => resolveColours(item, colours));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolveColours(item, colours)]));
  }
  return value;
}

/** The style that all charts have, as the charts from Python have it. */
function styled(layout) {
  const axis = { gridcolor: "var(--line)", zerolinecolor: "var(--line)", linecolor: "var(--line)", automargin: true, zeroline: false };
  const withAxes = Object.fromEntries(
    Object.entries(layout).map(([key, value]) => [key, /^[xy]axis/.test(key) ? { ...axis, ...value } : value]),
  );
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: "var(--ink)", size: 12, family: "system-ui, sans-serif" },
    hoverlabel: { bgcolor: "var(--panel)", font: { color: "var(--ink)" }, bordercolor: "var(--line)" },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
    showlegend: true,
    hovermode: "closest",
    ...withAxes,
  };
}

/** Draws what a `.plot` holds: a chart from Python, or one that a builder makes of the trials. */
function draw(plot) {
  const canvas = plot.querySelector(".canvas");
  const source = plot.querySelector("script");
  drawn.add(plot);
  const width = isOnPaper ? PAPER_WIDTH : canvas.clientWidth;
  const chart = source ? JSON.parse(source.textContent) : builders[plot.dataset.chart](plot, canvas, width);
  if (!chart) return;
  if (chart.height) canvas.style.height = `${chart.height}px`;
  if (chart.note !== undefined) plot.parentElement.querySelector("figcaption").textContent = chart.note;
  const colours = getComputedStyle(document.documentElement);
  const layout = resolveColours(chart.layout, colours);
  // A finger that scrolls the page must not zoom into a chart.
  layout.dragmode = coarse ? false : "zoom";
  if (isOnPaper) layout.width = PAPER_WIDTH;
  else delete layout.width;
  const options = { responsive: true, displayModeBar: false };
  Plotly.react(canvas, resolveColours(chart.data, colours), layout, options);
  if (!canvas.dataset.hovers) {
    canvas.dataset.hovers = "yes";
    canvas.on("plotly_hover", (event) => showTrialOf(event));
    canvas.on("plotly_unhover", hideTip);
  }
}

function isShown(plot) {
  return plot.checkVisibility ? plot.checkVisibility() : plot.offsetParent !== null;
}

function redraw() {
  drawn.forEach((plot) => isShown(plot) && draw(plot));
}

/** On paper all is light, as wide as a page, and whatever is unfolded is there. */
function toPaper(isPaper) {
  isOnPaper = isPaper;
  document.documentElement.classList.toggle("paper", isPaper);
  document.querySelectorAll(".plot").forEach((plot) => isShown(plot) && draw(plot));
}

function watchPlots() {
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
    },
    { rootMargin: "400px" },
  );
  document.querySelectorAll(".plot").forEach((plot) => observer.observe(plot));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let width = innerWidth;
  let pause;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(pause);
    pause = setTimeout(redraw, 200);
  });
  addEventListener("beforeprint", () => toPaper(true));
  addEventListener("afterprint", () => toPaper(false));
}
