// How the charts of a page are shown, as its address says: axis, smoothing, hidden budgets, the zoom they share.
import { param, setParams } from "./state.js";

const FIGURE_PARAMS = ["x", "cost", "cell"]; // each has buttons; what no button offers counts as not said
const TYPING_MS = 120;
let resets = 0;
let alone = false; // whether a chart is zoomed along its own axis

const buttonOf = (name, value) => document.querySelector(`[data-param="${name}"][data-value="${CSS.escape(value)}"]`);

function press(button) {
  for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
}

export const smoothing = () => Math.min(0.99, Math.max(0, Number(param("smooth", "0")) || 0));
export const logScale = () => param("log") === "1";

// What the server must know to draw.
export function figureParams() {
  const chosen = FIGURE_PARAMS.map((name) => [name, param(name)]).filter(([name, value]) => value && buttonOf(name, value));
  if (smoothing()) chosen.push(["smooth", String(smoothing())]);
  if (logScale()) chosen.push(["log", "1"]);
  if (zoom()) chosen.push(["range", zoom().join(",")]); // a long line is drawn in full where one looks closely
  return chosen;
}

export function hiddenCells() {
  return new Set(param("hide").split(",").filter(Boolean));
}

export function zoom() {
  const range = param("range").split(",").map(Number);
  return range.length === 2 && range.every(Number.isFinite) && range[0] < range[1] ? range : null;
}

// The layout of a curve with the shared zoom in it. The revisions tell Plotly when to forget a zoom of its own.
export function zoomed(layout) {
  const range = zoom();
  const xaxis = { ...layout.xaxis, uirevision: String(range) };
  if (range) Object.assign(xaxis, { range, autorange: false });
  return { ...layout, xaxis, uirevision: `${layout.uirevision} ${resets}` };
}

// What a relayout of one chart says of the shared axis: undefined when nothing.
export function rangeOf(change) {
  const pair = change["xaxis.range"] ?? [change["xaxis.range[0]"], change["xaxis.range[1]"]];
  return pair.every(Number.isFinite) ? pair.map((value) => Number(value.toPrecision(6))) : undefined;
}

export function setZoom(range) {
  if (!range) {
    resets += 1;
    alone = false;
  }
  setParams({ range: range ? range.join(",") : "" });
  showZoom();
}

// Shows another part of the axis: at once with what is there, then with what the server has of that part.
export function zoomTo(range, { update, redraw }) {
  setZoom(range);
  redraw();
  update();
}

function showZoom() {
  const button = document.getElementById("reset-zoom");
  if (button) button.hidden = !zoom() && !alone;
}

// Upwards each chart has an axis of its own, which is in no address; the way back is the same.
export function zoomedAlone() {
  alone = true;
  showZoom();
}

// Until the reader chooses, the server shows the savings of the best budget so far: its chip follows.
export function pressShown(name, value) {
  const button = buttonOf(name, String(value));
  if (button) press(button);
}

function showChoices() {
  for (const [name, value] of figureParams()) {
    const button = buttonOf(name, value);
    if (button) press(button);
  }
  const slider = document.getElementById("smooth");
  if (slider) {
    slider.value = smoothing();
    slider.nextElementSibling.textContent = smoothing().toFixed(2);
    document.getElementById("log").setAttribute("aria-pressed", String(logScale()));
  }
  const hidden = hiddenCells();
  for (const chip of document.querySelectorAll(".legend [data-cell]")) {
    chip.setAttribute("aria-pressed", String(!hidden.has(chip.dataset.cell)));
  }
  for (const id of param("open").split(",").filter(Boolean)) {
    const group = document.getElementById(`group-${id}`);
    if (group) group.open = true;
  }
  showZoom();
}

function toggleCell(chip) {
  const hidden = hiddenCells();
  if (!hidden.delete(chip.dataset.cell)) hidden.add(chip.dataset.cell);
  chip.setAttribute("aria-pressed", String(!hidden.has(chip.dataset.cell)));
  setParams({ hide: [...hidden].join(",") });
}

// `update` fetches the figures again, `redraw` draws what is there.
export function startChartView(update, redraw) {
  showChoices();
  document.addEventListener("click", ({ target }) => {
    const choice = target.closest("[data-param]");
    const chip = target.closest(".legend [data-cell]");
    const log = target.closest("#log");
    if (choice) {
      const { param: name, value } = choice.dataset;
      if (name === "x" && value !== param("x")) setZoom(null); // another axis has other numbers
      setParams({ [name]: value });
      press(choice);
      update();
    }
    if (log) {
      setParams({ log: logScale() ? "" : "1" });
      log.setAttribute("aria-pressed", String(logScale()));
      update();
    }
    if (chip) {
      toggleCell(chip);
      redraw();
    }
    if (target.closest("#reset-zoom")) zoomTo(null, { update, redraw });
  });
  let typing = null;
  document.getElementById("smooth")?.addEventListener("input", ({ target }) => {
    target.nextElementSibling.textContent = Number(target.value).toFixed(2);
    clearTimeout(typing);
    typing = setTimeout(() => {
      setParams({ smooth: Number(target.value) ? target.value : "" });
      update();
    }, TYPING_MS);
  });
  for (const group of document.querySelectorAll("details.group[id^=group-]")) {
    group.addEventListener("toggle", () => {
      const open = [...document.querySelectorAll("details.group[id^=group-][open]")];
      setParams({ open: open.map((one) => one.id.slice(6)).join(",") });
    });
  }
}
