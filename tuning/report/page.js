"use strict";
// Draws a chart when it comes near the screen, in the colours of the page, and again when these change.
(() => {
  const coarse = matchMedia("(pointer: coarse)").matches;
  const drawn = new Set();

  function resolveColours(value, colours) {
    if (typeof value === "string") {
      const name = /^var\((--[a-z]+)\)$/.exec(value);
      return name ? colours.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolveColours(item, colours));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolveColours(item, colours)]));
    }
    return value;
  }

  function draw(plot) {
    const chart = resolveColours(JSON.parse(plot.querySelector("script").textContent), getComputedStyle(document.documentElement));
    const canvas = plot.querySelector(".canvas");
    // A finger that scrolls the page must not zoom into a chart.
    chart.layout.dragmode = coarse ? false : "zoom";
    Plotly.react(canvas, chart.data, chart.layout, { responsive: true, displayModeBar: false });
    drawn.add(plot);
  }

  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
    }
  }, { rootMargin: "400px" });
  const plots = document.querySelectorAll(".plot");
  plots.forEach((plot) => observer.observe(plot));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
  addEventListener("beforeprint", () => plots.forEach(draw));
})();
