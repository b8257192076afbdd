"use strict";

// /dashboard/data, once a second -> numbers, curves and a table. Times are in seconds, energies in joules.

const LEFT = 52, RIGHT = 10, TOP = 12, BOTTOM = 20;
const PRECISIONS = { fp32: "blue", int8: "green", fp16: "violet", bf16: "amber" };
const byId = (id) => document.getElementById(id);
const color = (name) => `var(--${name})`;

const number = (value, digits = 3) =>
  (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(digits)))).replace("-", "−");

function scaled(value, units) {
  if (value === null || value === undefined) return ["–", ""];
  if (value === 0) return ["0", ""];
  const [scale, unit] = units.find(([scale]) => Math.abs(value) >= scale) || units[units.length - 1];
  return [number(value / scale), unit];
}
const time = (value) => scaled(value, [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]);
const energy = (value) => scaled(value, [[1e3, "kJ"], [1, "J"], [1e-3, "mJ"], [1e-6, "µJ"]]);
const power = (value) => scaled(value, [[1, "W"], [1e-3, "mW"]]);
const clock = (value) => scaled(value, [[1e9, "GHz"], [1e6, "MHz"]]);
const count = (value) => [number(value), ""];
const words = (pair) => pair.join(" ").trim();

function show(id, [value, unit], alarm = false) {
  const place = byId(id);
  place.textContent = value;
  if (unit) place.append(" ", Object.assign(document.createElement("small"), { textContent: unit }));
  place.classList.toggle("alarm", alarm);
}

function make(parent, name, attributes, text) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  if (text !== undefined) found.textContent = text;
  parent.append(found);
  return found;
}

function ceiling(value) {  // the next 1, 2, 2.5 or 5 times a power of ten
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= value * 1.0001);
}

// One chart. curves: [{label, color, values, fill, stack}] over `times`; options: {format, limit, most, share}
function chart(id, times, curves, options) {
  const figure = byId(id), svg = figure.querySelector("svg");
  const width = svg.clientWidth, height = svg.clientHeight;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const keys = curves.map((curve) => {
    const key = document.createElement("span"), dot = document.createElement("i");
    dot.style.background = color(curve.color);
    key.append(dot, curve.label);
    return key;
  });
  figure.querySelector(".keys").replaceChildren(...keys);
  const floor = times.map(() => 0);
  const drawn = curves.map((curve) => {
    if (!curve.stack) return { ...curve, tops: curve.values, bottoms: times.map(() => 0) };
    const bottoms = floor.slice();
    curve.values.forEach((value, index) => { floor[index] += value || 0; });
    return { ...curve, tops: floor.slice(), bottoms };
  });
  const known = drawn.flatMap((curve) => curve.tops).filter((value) => value !== null && value !== undefined);
  if (!known.length || options.unknown) {
    make(svg, "text", { class: "none", x: width / 2, y: height / 2 }, options.unknown || "nothing yet");
    return;
  }
  const most = options.most || ceiling(Math.max(...known, options.limit && options.limit < 5 * Math.max(...known) ? options.limit : 0));
  const span = Number(byId("span").value), last = times[times.length - 1];
  const x = (at) => LEFT + (width - LEFT - RIGHT) * (1 - (last - at) / span);
  const y = (value) => height - BOTTOM - (height - TOP - BOTTOM) * Math.min(1, value / most);
  for (const part of [0, 0.5, 1]) {
    make(svg, "line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(part * most), y2: y(part * most) });
    make(svg, "text", { x: LEFT - 8, y: y(part * most) + 4, "text-anchor": "end" }, words(options.format(part * most)));
  }
  for (const part of [1, 0.5, 0]) {
    const label = part ? `−${number(span * part / 60)} min` : "now";
    make(svg, "text", { x: x(last - span * part), y: height - 4, "text-anchor": part === 1 ? "start" : part ? "middle" : "end" }, label);
  }
  for (const curve of drawn) {
    for (const run of runs(times, curve)) {
      const tops = run.map(([at, top]) => `${x(at).toFixed(1)},${y(top).toFixed(1)}`);
      if (curve.fill) {
        const bottoms = run.map(([at, , bottom]) => `${x(at).toFixed(1)},${y(bottom).toFixed(1)}`).reverse();
        make(svg, "polygon", { points: [...tops, ...bottoms].join(" "), fill: color(curve.color), "fill-opacity": curve.stack ? 0.85 : 0.15 });
      }
      if (!curve.stack) make(svg, "polyline", { points: tops.join(" "), fill: "none", stroke: color(curve.color), "stroke-width": 1.75, "stroke-linejoin": "round" });
      if (run.length === 1) make(svg, "circle", { cx: x(run[0][0]), cy: y(run[0][1]), r: 2, fill: color(curve.color) });
    }
  }
  if (options.limit && options.limit <= most) {
    make(svg, "line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: y(options.limit), y2: y(options.limit) });
    make(svg, "text", { x: width - RIGHT, y: y(options.limit) - 4, "text-anchor": "end" }, `objective ${words(options.format(options.limit))}`);
  }
}

function runs(times, curve) {  // stretches without a gap
  const found = [[]];
  times.forEach((at, index) => {
    const top = curve.tops[index];
    if (top === null || top === undefined) found.push([]);
    else found[found.length - 1].push([at, top, curve.bottoms[index]]);
  });
  return found.filter((run) => run.length);
}

const sum = (values) => values.reduce((total, value) => total + (value || 0), 0);

function tiles(data, series) {
  const recent = series.slice(-10), seconds = Math.max(1, recent.length);
  const answered = sum(recent.map((each) => each.answered)), all = sum(data.models.map((model) => model.answered));
  show("rate", [number(answered / seconds), "/s"]);
  byId("total").textContent = `${number(all, 6)} since the start`;
  const tails = recent.map((each) => each.p99_s).filter((value) => value !== null);
  const worst = tails.length ? Math.max(...tails) : null, objective = objectives(data);
  show("p99", time(worst), objective !== null && worst > objective);
  byId("objective").textContent = objective === null ? "worst of ten seconds; no objective" : `objective ${words(time(objective))}`;
  const late = sum(data.models.map((model) => model.late));
  const causes = {};
  for (const model of data.models) for (const [cause, many] of Object.entries(model.refused)) causes[cause] = (causes[cause] || 0) + many;
  const refused = sum(Object.values(causes)), share = all + refused ? (late + refused) / (all + refused) : 0;
  show("missed", [share ? number(100 * share, 2) : "0", "%"], share > 0.01);
  const parts = [late ? `${number(late)} late` : "", ...Object.entries(causes).map(([cause, many]) => `${number(many)} ${cause}`)];
  byId("causes").textContent = parts.filter(Boolean).join(", ") || "all in time";
  const watts = recent.map((each) => each.power_w).filter((value) => value !== null);
  show("power", watts.length ? power(sum(watts) / watts.length) : ["unknown", ""]);
  byId("each").textContent = data.metered ? (all ? `${words(energy(data.energy_j / all))} a request, idling included` : "") : "this device has no meter";
  const ratio = data.baseline_j ? data.saved_j / data.baseline_j : null;
  show("saved", ratio === null ? ["unknown", ""] : [number(100 * ratio, 2), "%"], ratio !== null && ratio < 0);
  byId("savedj").textContent = ratio === null ? "needs a meter" : `${words(energy(data.saved_j))} of a predicted ${words(energy(data.baseline_j))}`;
}

function objectives(data) {
  const found = data.models.map((model) => model.objective_s).filter((value) => value !== null);
  return found.length ? Math.min(...found) : null;
}

function charts(data, series) {
  const times = series.map((each) => each.time_s), of = (name) => series.map((each) => each[name]);
  chart("latency", times, [
    { label: "p99", color: "blue", values: of("p99_s"), fill: true },
    { label: "median", color: "pale", values: of("p50_s") },
  ], { format: time, limit: objectives(data) });
  chart("requests", times, [
    { label: "in time", color: "blue", values: series.map((each) => each.answered - each.late), fill: true, stack: true },
    { label: "late", color: "amber", values: of("late"), fill: true, stack: true },
    { label: "refused", color: "red", values: of("refused"), fill: true, stack: true },
  ], { format: (value) => [number(value), "/s"] });
  chart("watts", times, [{ label: data.device, color: "green", values: of("power_w"), fill: true }],
    { format: power, unknown: data.metered ? "" : "unknown: this device has no meter" });
  chart("joules", times, [{ label: "idling included", color: "green", values: series.map((each) => each.power_w !== null && each.answered ? each.power_w / each.answered : null) }],
    { format: energy, unknown: data.metered ? "" : "unknown: this device has no meter" });
  const fixed = series.every((each) => each.core_hz === null);
  chart("clocks", times, [{ label: "ran", color: "violet", values: of("core_hz") }],
    { format: clock, unknown: fixed ? "unknown: this device does not tell its clock" : "" });
  const names = [...new Set(data.models.flatMap((model) => model.rungs.map((rung) => rung.precision)))];
  const share = (name) => series.map((each) => {
    const all = sum(Object.values(each.rows));
    return all ? (each.rows[name] || 0) / all : null;
  });
  chart("precision", times, names.map((name) => ({ label: name, color: PRECISIONS[name] || "amber", values: share(name), fill: true, stack: true })),
    { format: (value) => [number(100 * value), "%"], most: 1 });
  chart("queue", times, [
    { label: "waiting", color: "amber", values: of("pending"), fill: true },
  ], { format: count });
}

function table(data) {
  const rows = data.models.map((model) => {
    const row = document.createElement("tr");
    const precisions = [...new Set(model.rungs.map((rung) => rung.precision))].join(", ");
    const cells = [
      `${model.name} ${model.version}`, model.governor, words(time(model.objective_s)), number(model.answered, 6), number(model.late),
      number(sum(Object.values(model.refused))), model.energy_j === null ? "unknown" : words(energy(model.energy_j / Math.max(1, model.answered))),
      `${precisions} · ${model.rungs.length} ${model.rungs.length === 1 ? "rung" : "rungs"} · batches to ${model.max_batch}`,
    ];
    cells.forEach((text, index) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (index > 2 && index < 7) cell.className = "n";
      row.append(cell);
    });
    return row;
  });
  byId("models").replaceChildren(...rows);
}

function draw(data) {
  const last = data.series.length ? data.series[data.series.length - 1].time_s : 0;
  const series = data.series.filter((each) => each.time_s >= last - Number(byId("span").value));
  byId("device").textContent = `${data.device} · ${data.calibration}`;
  byId("state").textContent = data.draining ? "draining" : "live";
  byId("state").classList.toggle("bad", data.draining);
  tiles(data, series);
  charts(data, series);
  table(data);
  const changes = `${number(data.clock_changes)} changes of clocks`;
  byId("about").textContent = `amble ${data.version} · ${changes} · the saving compares measured energy with the table's prediction for the same batches at full clocks and full precision`;
  document.body.dataset.drawn = String(data.series.length);
}

let newest = null;

async function refresh() {
  try {
    newest = await (await fetch("/dashboard/data")).json();
    draw(newest);
  } catch (error) {
    byId("state").textContent = "no answer";
    byId("state").classList.add("bad");
    if (!(error instanceof TypeError)) throw error;
  }
}

byId("span").addEventListener("change", () => newest && draw(newest));
addEventListener("resize", () => newest && draw(newest));
refresh();
setInterval(refresh, 1000);
