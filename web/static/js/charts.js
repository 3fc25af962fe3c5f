// Draws the figures that the server builds. A chart is fetched when it comes near the view, all that
// are due in one request, and keeps the reader's zoom when its numbers change.
import { startChartFiles } from "./chart_files.js";
import { figureParams, hiddenCells, pressShown, rangeOf, startChartView, zoomTo, zoomed, zoomedAlone } from "./chart_view.js";
import { currentTheme } from "./theme.js";

const CONFIG = { displayModeBar: false, responsive: true };
const touch = matchMedia("(pointer: coarse)"); // a finger on a chart scrolls the page: there are charts from edge to edge
const OWN_AXES = ["tradeoff", "savings"]; // not over the steps of a run: no shared zoom, nothing hidden
const NARROW = 620;
const PATIENCE_MS = 30_000;
const [SOON_MS, AT_LAST_MS] = [2000, 60_000]; // after a failure it is tried again, ever more seldom
const near = new Set();
const charts = new Map(); // element -> the chart as the server sent it
let plotly = null;
let fetching = false;
let rested = 0; // when the next event may fetch: after a slow answer the server is given a rest
let again = false;
let failures = 0;
let retry = null;

function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.plotly;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      plotly = null; // the next one tries again
      script.remove();
      reject(new Error("Plotly's script could not be loaded"));
    };
    document.head.append(script);
  });
  return plotly;
}

function figuresUrl(elements) {
  const url = new URL(document.body.dataset.figures, location.href);
  const query = url.searchParams;
  for (const [name, value] of figureParams()) query.set(name, value);
  query.set("theme", currentTheme());
  if (innerWidth < NARROW) query.set("compact", "1");
  query.set("names", [...new Set(elements.map((element) => element.dataset.chart))].join(","));
  return url;
}

// Fetches and draws these charts; while a request is out, what comes due waits for the next one.
async function update(elements) {
  const due = elements ?? [...near].filter((element) => element.isConnected);
  if (!due.length) return;
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  const began = Date.now();
  try {
    const [response] = await Promise.all([fetch(figuresUrl(due), { signal: AbortSignal.timeout(PATIENCE_MS) }), loadPlotly()]);
    if (!response.ok) throw new Error(`The server answered ${response.status}`);
    const answer = await response.json();
    for (const element of due) {
      const chart = answer.figures[element.dataset.chart];
      if (chart) await draw(element, chart);
      await breath();
    }
    failures = 0;
  } catch {
    failed(due);
  } finally {
    fetching = false;
    rested = Date.now() + 2 * (Date.now() - began);
  }
  if (again) {
    again = false;
    update();
  }
}

// What is shown stays; where nothing is yet, it is said. Events may be over for good, so that none would try again.
function failed(elements) {
  for (const element of elements.filter((one) => !charts.has(one))) {
    const note = element.closest(".chart").querySelector(".plot-note");
    note.textContent = "The figure could not be fetched; it is tried again.";
    note.hidden = false;
    element.classList.add("nothing");
  }
  clearTimeout(retry);
  retry = setTimeout(() => document.hidden || update(), Math.min(AT_LAST_MS, SOON_MS * 2 ** failures));
  failures += 1;
}

async function draw(element, chart) {
  charts.set(element, chart);
  const panel = element.closest(".chart");
  const note = panel.querySelector(".plot-note");
  const caption = panel.querySelector("[data-caption]");
  const empty = chart.num_points === 0;
  element.classList.toggle("nothing", empty);
  element.dataset.points = chart.num_points;
  element.setAttribute("aria-label", chart.summary);
  note.hidden = !empty;
  note.textContent = empty ? chart.summary : "";
  if (caption) caption.textContent = caption.title = chart.caption;
  fillTable(panel.querySelector(".plot-data"), chart);
  panel.querySelector(".save").hidden = empty;
  if (empty) return;
  if (element.dataset.chart === "savings") pressShown("cell", chart.figure.data[0]?.meta.cell);
  if (OWN_AXES.includes(element.dataset.chart)) {
    await window.Plotly.react(element, chart.figure.data, dragged(chart.figure.layout), { ...CONFIG, doubleClick: "reset" });
    return;
  }
  const hidden = hiddenCells();
  const data = chart.figure.data.map((trace) => (hidden.has(String(trace.meta?.cell)) ? { ...trace, visible: false } : trace));
  await window.Plotly.react(element, data, zoomed(dragged(chart.figure.layout)), { ...CONFIG, doubleClick: false });
  if (!element.dataset.linked) link(element);
}

const dragged = (layout) => (touch.matches ? { ...layout, dragmode: false } : layout);

// Zooming into one curve zooms into all of them; a double click shows everything again.
function link(element) {
  element.dataset.linked = "yes";
  element.on("plotly_relayout", (change) => {
    const range = rangeOf(change);
    if ("yaxis.range[0]" in change) zoomedAlone();
    if (range) zoomTo(range, { update, redraw });
  });
  element.on("plotly_doubleclick", () => zoomTo(null, { update, redraw }));
}

// Between two charts the browser may answer the reader: many drawn in one go would hold it up.
const breath = () => new Promise((resume) => setTimeout(resume));

async function redraw() {
  for (const element of [...charts.keys()]) {
    if (!element.isConnected || !window.Plotly) continue;
    await draw(element, charts.get(element));
    await breath();
  }
}

// The table view: what the chart is of, a sentence on what it shows, and the numbers.
function fillTable(details, { summary, table: { columns, rows } }) {
  details.hidden = !rows.length;
  const table = document.createElement("table");
  const line = (cells, tag) => {
    const tr = document.createElement("tr");
    for (const [index, text] of cells.entries()) {
      const cell = document.createElement(tag === "td" && index === 0 ? "th" : tag);
      if (cell.tagName === "TH") cell.scope = tag === "td" ? "row" : "col";
      cell.textContent = text;
      tr.append(cell);
    }
    return tr;
  };
  table.createTHead().append(line(columns, "th"));
  table.createTBody().append(...rows.map((row) => line(row, "td")));
  const about = details.closest(".chart").querySelector("h2").title; // a tip that no keyboard and no finger reaches
  const words = [about, summary].filter(Boolean).map((textContent) => Object.assign(document.createElement("p"), { textContent }));
  details.lastElementChild.replaceChildren(...words, table);
}

// The panels are watched, not the plots: a plot that has nothing to show yet has no place of its own.
function watch(observer) {
  for (const element of document.querySelectorAll("[data-chart]")) observer.observe(element.closest(".chart"));
}

export function startCharts() {
  if (!document.body.dataset.figures) return;
  startChartView(() => update(), redraw);
  const observer = new IntersectionObserver(
    (entries) => {
      const fresh = [];
      for (const { target, isIntersecting } of entries) {
        const plot = target.querySelector("[data-chart]");
        if (isIntersecting && !near.has(plot)) fresh.push(plot);
        if (isIntersecting) near.add(plot);
        else near.delete(plot);
      }
      if (fresh.length) update(fresh);
    },
    { rootMargin: "300px" },
  );
  watch(observer);
  let waiting = null;
  document.addEventListener("natlab:metrics", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, Math.max(0, rested - Date.now()));
  });
  document.addEventListener("natlab:theme", () => update());
  startChartFiles();
  let wide = innerWidth >= NARROW;
  addEventListener("resize", () => {
    if (wide !== innerWidth >= NARROW) {
      wide = !wide;
      update();
    }
  });
}
