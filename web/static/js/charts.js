// Draws the figures that the server builds. A chart is fetched when it comes near the view, all that
// are due in one request, and keeps the reader's zoom when its numbers change.
import { currentTheme } from "./theme.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset" };
const NARROW = 620;
const near = new Set();
const hiddenCells = new Set();
const params = new Map();
const charts = new Map(); // element -> the chart as the server sent it
let plotly = null;
let fetching = false;
let rested = 0; // when the next event may fetch: after a slow answer the server is given a rest
let again = false;

function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.plotly;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("Plotly's script could not be loaded"));
    document.head.append(script);
  });
  return plotly;
}

function figuresUrl(elements) {
  const url = new URL(document.body.dataset.figures, location.href);
  const query = url.searchParams;
  for (const [name, value] of params) query.set(name, value);
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
    const [response] = await Promise.all([fetch(figuresUrl(due)), loadPlotly()]);
    if (response.ok) {
      const answer = await response.json();
      for (const element of due) {
        const chart = answer.figures[element.dataset.chart];
        if (chart) await draw(element, chart);
      }
    }
  } catch {
    // The page keeps what it shows; the next event tries again.
  } finally {
    fetching = false;
    rested = Date.now() + 2 * (Date.now() - began);
  }
  if (again) {
    again = false;
    update();
  }
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
  if (caption) caption.textContent = chart.caption;
  fillTable(panel.querySelector(".plot-data"), chart.table);
  if (empty) return;
  if (element.dataset.chart === "savings") pressShown(chart);
  const data = chart.figure.data.map((trace) =>
    element.dataset.chart !== "savings" && hiddenCells.has(String(trace.meta?.cell)) ? { ...trace, visible: false } : trace,
  );
  await window.Plotly.react(element, data, chart.figure.layout, CONFIG);
}

function fillTable(details, { columns, rows }) {
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
  details.lastElementChild.replaceChildren(table);
}

function press(button) {
  for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
}

function choose(button) {
  params.set(button.dataset.param, button.dataset.value);
  press(button);
  update();
}

// Until the reader chooses, the server shows the savings of the best budget so far: its chip follows.
function pressShown(chart) {
  const cell = chart.figure.data[0]?.meta.cell;
  const chip = document.querySelector(`[data-param="cell"][data-value="${cell}"]`);
  if (chip) press(chip);
}

function toggleCell(chip) {
  const shown = chip.getAttribute("aria-pressed") !== "true";
  chip.setAttribute("aria-pressed", String(shown));
  if (shown) hiddenCells.delete(chip.dataset.cell);
  else hiddenCells.add(chip.dataset.cell);
  for (const [element, chart] of charts) if (element.isConnected && window.Plotly) draw(element, chart);
}

// The panels are watched, not the plots: a plot that has nothing to show yet has no place of its own.
function watch(observer) {
  for (const element of document.querySelectorAll("[data-chart]")) observer.observe(element.closest(".chart"));
}

export function startCharts() {
  if (!document.body.dataset.figures) return;
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
  document.addEventListener("click", (event) => {
    const param = event.target.closest("[data-param]");
    const chip = event.target.closest(".legend [data-cell]");
    if (param) choose(param);
    if (chip) toggleCell(chip);
  });
  let wide = innerWidth >= NARROW;
  addEventListener("resize", () => {
    if (wide !== innerWidth >= NARROW) {
      wide = !wide;
      update();
    }
  });
}
