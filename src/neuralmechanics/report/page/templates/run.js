"use strict";
const charts = JSON.parse(document.getElementById("charts").textContent);
const common = {
  margin: { l: 70, r: 20, t: 34, b: 48 },
  font: { family: "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif", size: 12, color: "#222" },
  hovermode: "closest",
  hoverlabel: { namelength: -1 },
  paper_bgcolor: "#fff",
  plot_bgcolor: "#fff",
};
const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "sendChartToCloud"] };

function draw(name, position) {
  const chart = charts[name];
  const { data, layout } = chart.choices[position];
  const traces = [...chart.shared, ...data].map(({ steps, ...trace }) => ({ ...trace, x: chart.steps[steps] }));
  return Plotly.react("plot-" + name, traces, { ...common, ...layout }, options);
}

for (const menu of document.querySelectorAll("select[data-chart]")) {
  const name = menu.dataset.chart;
  menu.addEventListener("change", () => draw(name, Number(menu.value)));
  menu.value = "0";
}
Promise.all(Object.keys(charts).map((name) => draw(name, 0))).then(() => document.body.setAttribute("data-drawn", "yes"));
