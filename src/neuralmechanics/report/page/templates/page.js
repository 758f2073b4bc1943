"use strict";
const page = JSON.parse(document.getElementById("page-data").textContent);
const claims = new Set(page.claims);
const element = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const narrow = window.matchMedia("(max-width: 640px)");
const decoded = new Map();
const near = new Set();
const stale = new Set(Object.keys(page.charts));
const drawnChoice = {};
let printing = false;

// Each array is decoded when the first trace that names it is drawn.
function numbers(position) {
  if (!decoded.has(position)) {
    const bytes = Uint8Array.from(atob(page.arrays[position]), (sign) => sign.charCodeAt(0));
    decoded.set(position, new Float32Array(bytes.buffer));
  }
  return decoded.get(position);
}

// Plotly takes longer to begin than all the rest of the page: its text runs when the first figure is drawn.
function plotly() {
  if (!window.Plotly) {
    const script = document.createElement("script");
    script.textContent = element("plotly").textContent;
    document.head.appendChild(script);
  }
  return window.Plotly;
}

function state() {
  const value = (id) => (element(id) ? element(id).value : "");
  const on = (id) => Boolean(element(id) && element(id).checked);
  return {
    layer: value("filter-layer"),
    kind: value("filter-kind"),
    law: value("filter-law"),
    everyLaw: on("every-law"),
    singles: on("singles"),
    family: element("family") ? Number(element("family").value) : -1,
  };
}

const lawShown = (law, now) => (now.law ? law === now.law : now.everyLaw || claims.has(law));

function traceShown(trace, now) {
  if (trace.only && trace.only !== (now.singles ? "single" : "band")) return false;
  if (trace.law && !lawShown(trace.law, now)) return false;
  return !(now.layer && trace.layer && trace.layer !== now.layer);
}

function choiceOf(name, now) {
  const chart = page.charts[name];
  if (!chart.linked) {
    const menu = document.querySelector(`select[data-chart="${name}"]`);
    const wanted = chart.choices.findIndex((choice) => now.layer && choice.layer === now.layer);
    if (menu && wanted >= 0) menu.value = String(wanted);
    return chart.choices[menu ? Number(menu.value) : 0];
  }
  const family = page.families[now.family];
  return family && chart.choices.find((choice) => choice.name === family.name);
}

// Change points on an axis of their own from 0 to 1, so that they reach from bottom to top of any scale.
function marks() {
  return [false, true].flatMap((grave) => {
    const mine = page.marks.filter((mark) => mark.grave === grave);
    if (!mine.length) return [];
    const x = mine.flatMap((mark) => [...Array(9).fill(mark.step), null]);
    const y = mine.flatMap(() => [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1, null]);
    const text = mine.flatMap((mark) => [...Array(9).fill(mark.text), ""]);
    const line = grave ? { color: "#d55e00", width: 1.2, dash: "dashdot" } : { color: "#555", width: 1, dash: "dot" };
    const name = grave ? "warnings" : "change points";
    return [{ type: "scatter", mode: "lines", x, y, text, line, name, yaxis: "y2", hovertemplate: "step %{x}: %{text}" }];
  });
}

// Ticks at 1, 2 and 5 where a logarithmic scale spans little, else at every power of ten, or every other.
function logarithmicTicks(traces) {
  const sizes = traces.filter((trace) => trace.yaxis !== "y2").flatMap((trace) => [...trace.y].filter((y) => y > 0 && Number.isFinite(y)));
  const span = Math.log10(sizes.reduce((a, b) => Math.max(a, b), 0) / sizes.reduce((a, b) => Math.min(a, b), Infinity));
  return { dtick: span < 1.5 ? "D2" : span < 8 ? 1 : 2 };
}

function layoutOf(choice, traces) {
  const small = narrow.matches && !printing;
  // A phone and paper have no room beside the figure: the legend goes below, and the figure grows by it.
  const under = small || printing;
  const below = under ? 10 + 19 * traces.filter((trace) => trace.showlegend !== false).length : 0;
  const height = small ? 300 : 380;
  const legend = { orientation: "v", x: 0, xanchor: "left", y: -46 / (height - 54), yanchor: "top", font: { size: 11 }, tracegroupgap: 2 };
  const layout = structuredClone(choice.layout);
  if (layout.yaxis.type === "log") Object.assign(layout.yaxis, logarithmicTicks(traces));
  return {
    margin: { l: small ? 52 : 70, r: small ? 8 : 20, t: under ? 8 : 34, b: 46 + below },
    font: { family: "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif", size: small ? 11 : 12, color: "#222" },
    hovermode: "closest",
    hoverlabel: { namelength: -1 },
    paper_bgcolor: "#fff",
    plot_bgcolor: "#fff",
    showlegend: true,
    legend: under ? legend : { traceorder: "normal" },
    height: height + below,
    ...(printing ? { width: 660 } : { autosize: true }),
    ...layout,
    yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
  };
}

function draw(name) {
  const now = state();
  const choice = choiceOf(name, now);
  const shown = choice ? choice.traces.filter((trace) => traceShown(trace, now)) : [];
  const plot = element("plot-" + name);
  element("nothing-" + name).hidden = shown.length > 0;
  plot.hidden = shown.length === 0;
  drawnChoice[name] = shown;
  fillNumbers(name);
  if (!shown.length) return Promise.resolve();
  const traces = shown.map(({ x, y, trace }) => ({ ...trace, line: { ...trace.line }, x: numbers(x), y: numbers(y) }));
  const drawn = [...traces, ...(choice.layout.barmode ? [] : marks())];
  const options = { responsive: true, displaylogo: false, displayModeBar: narrow.matches ? false : "hover", modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  return plotly().react(plot, drawn, layoutOf(choice, drawn), options);
}

// Names are written for plotly, which reads three signs as HTML.
const plain = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

// What a figure shows, for those who cannot see or point at it; filled when it is opened.
function fillNumbers(name) {
  const details = document.querySelector(`details[data-numbers="${name}"]`);
  if (!details || !details.open) return;
  const table = document.createElement("table");
  const row = (cells, tag) => {
    const line = document.createElement("tr");
    for (const cell of cells) line.appendChild(document.createElement(tag)).textContent = cell;
    return line;
  };
  table.appendChild(row(["line", "first", "last", "smallest", "largest"], "th"));
  for (const { y, trace } of drawnChoice[name] || []) {
    const values = [...numbers(y)].filter(Number.isFinite);
    if (!values.length || trace.hoverinfo === "skip") continue;
    const said = [trace.name, trace.text].filter((text) => typeof text === "string" && text).join(", ");
    const ends = [values[0], values[values.length - 1], values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    table.appendChild(row([plain(said), ...ends.map((value) => value.toPrecision(4))], "td"));
  }
  details.lastElementChild.replaceChildren(table);
}

// Figures near the window are drawn, others when they come near.
function drawNear() {
  const due = [...stale].filter((name) => near.has(name) || printing);
  for (const name of due) stale.delete(name);
  return Promise.all(due.map(draw));
}

function redraw() {
  for (const name of Object.keys(page.charts)) stale.add(name);
  return drawNear();
}

function filterTables(now) {
  const fits = (place) => (!now.layer || !place.dataset.layer || place.dataset.layer === now.layer) && (!now.kind || !place.dataset.kind || place.dataset.kind === now.kind);
  for (const place of all("tr[data-layer], .layer, .layer li[data-kind]")) place.hidden = !fits(place);
  for (const layer of all(".layer")) layer.hidden ||= Boolean(now.kind) && ![...layer.querySelectorAll("li[data-kind]")].some((family) => !family.hidden);
  for (const cell of all("[data-law]")) cell.hidden = !lawShown(cell.dataset.law, now);
}

const familyFits = (family, now) => (!now.layer || family.layer === now.layer) && (!now.kind || family.kind === now.kind);

function filterFamilies() {
  const menu = element("family");
  if (!menu) return;
  const now = state();
  for (const option of menu.options) {
    const fits = familyFits(page.families[Number(option.value)], now);
    option.hidden = option.disabled = !fits;
  }
  const fitting = [...menu.options].filter((option) => !option.disabled);
  element("no-family").hidden = fitting.length > 0;
  if (fitting.length && menu.selectedOptions[0].disabled) menu.value = fitting[0].value;
}

function showFamily() {
  const { family } = state();
  const chosen = page.families[family];
  if (!chosen) return;
  element("family-kind").textContent = `${chosen.kind}, in ${chosen.layer || "the model"}`;
  for (const chip of all("button[data-family]")) chip.setAttribute("aria-pressed", String(Number(chip.dataset.family) === family));
}

function update() {
  filterFamilies();
  filterTables(state());
  showFamily();
  return redraw();
}

function step(by) {
  const menu = element("family");
  const fitting = [...menu.options].filter((option) => !option.disabled);
  const at = fitting.indexOf(menu.selectedOptions[0]);
  if (!fitting.length) return;
  menu.value = fitting[(at + by + fitting.length) % fitting.length].value;
  update();
}

for (const id of ["filter-layer", "filter-kind", "filter-law", "every-law", "singles", "family"]) {
  if (element(id)) element(id).addEventListener("change", update);
}
if (element("filters")) {
  element("filters").addEventListener("submit", (event) => event.preventDefault());
  element("filters").addEventListener("reset", () => setTimeout(update));
  element("filters").reset();
}
if (element("family")) {
  element("family").value = String(page.first);
  element("previous").addEventListener("click", () => step(-1));
  element("next").addEventListener("click", () => step(1));
}
for (const chip of all("button[data-family]")) {
  chip.addEventListener("click", () => {
    element("family").value = chip.dataset.family;
    update();
    element("family-charts").scrollIntoView();
  });
}
for (const menu of all("select[data-chart]")) {
  menu.value = "0";
  menu.addEventListener("change", () => draw(menu.dataset.chart));
}
for (const details of all("details[data-numbers]")) details.addEventListener("toggle", () => fillNumbers(details.dataset.numbers));
narrow.addEventListener("change", redraw);

window.addEventListener("beforeprint", () => {
  printing = true;
  redraw();
});
window.addEventListener("afterprint", () => {
  printing = false;
  redraw();
});

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) near[entry.isIntersecting ? "add" : "delete"](entry.target.dataset.plot);
  drawNear().then(() => document.body.setAttribute("data-drawn", "yes"));
}, { rootMargin: "300px" });
update();
for (const plot of all(".frame")) watcher.observe(plot);
// Where no figure is near at first, it runs once the page has been shown, so that scrolling need not wait for it.
if (window.requestIdleCallback) window.addEventListener("load", () => requestIdleCallback(plotly));
