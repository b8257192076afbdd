"use strict";
// Draws the figures that the page carries as JSON, in the colours of the screen's theme, and again when it changes.
(() => {
  const theme = () => getComputedStyle(document.documentElement);

  const filled = (value, style) => {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      if (name) return style.getPropertyValue(name[1]).trim();
      return value === "inherit" ? getComputedStyle(document.body).fontFamily : value;
    }
    if (Array.isArray(value)) return value.map((each) => filled(each, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, filled(each, style)]));
  };

  const draw = (script) => {
    const figure = filled(JSON.parse(script.textContent), theme());
    const options = { responsive: true, displaylogo: false, displayModeBar: false };
    if (innerWidth < 640) figure.layout.height += 120; // the legend takes several lines there
    Plotly.react(script.dataset.for, figure.data, figure.layout, options);
  };

  const all = () => document.querySelectorAll("script[data-for]").forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  document.querySelectorAll("details").forEach((each) => each.addEventListener("toggle", all));
  all();
})();
