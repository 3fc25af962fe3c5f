// Tables of rows to filter, walk through, select and compare. The server draws them from the address.
import { announce } from "./messages.js";
import { param, refresh, setParams } from "./state.js";

const TYPING_MS = 180;
const MAX_COMPARED = 200;

const shownRows = () => [...document.querySelectorAll("[data-rows] tbody tr, [data-row-list] tbody tr")].filter((row) => row.offsetParent);
const handle = (row) => row.querySelector("[data-select]") ?? row.querySelector("a");
const currentRow = () => document.activeElement?.closest("tbody tr");

export function walk(by) {
  const rows = shownRows();
  if (!rows.length) return;
  const at = rows.indexOf(currentRow());
  const to = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  handle(rows[to])?.focus();
  rows[to].scrollIntoView({ block: "nearest" });
}

export function toggleRow() {
  currentRow()?.querySelector("[data-select]")?.click();
}

export function openRow() {
  const link = currentRow()?.querySelector("th a");
  if (link && document.activeElement !== link) link.click();
}

export function focusFilter() {
  const filter = document.getElementById("filter");
  filter?.focus();
  filter?.select();
  return Boolean(filter);
}

export function compareSelected() {
  const link = document.getElementById("compare-selected");
  if (!link) return;
  if (link.hidden) announce("Select two rows or more to compare them.");
  else link.click();
}

function selectedRows() {
  return [...document.querySelectorAll("[data-select]:checked")];
}

// Keeps the selection in the address and what the Compare button leads to.
function showSelection() {
  const link = document.getElementById("compare-selected");
  if (!link) return;
  const boxes = selectedRows();
  const runs = boxes.flatMap((box) => box.closest("tr").dataset.runs.split(",")).filter(Boolean);
  link.hidden = boxes.length < 2 || runs.length > MAX_COMPARED;
  link.href = `/compare?runs=${runs.join(",")}`;
  link.lastElementChild.textContent = boxes.length;
}

function onSelect() {
  setParams({ sel: selectedRows().map((box) => box.dataset.select).join(",") });
  showSelection();
}

function onColumns(list) {
  const chosen = [...list.querySelectorAll("input:checked")].map((box) => box.value);
  setParams({ cols: chosen.join(",") });
  refresh();
}

function onFilter(input) {
  setParams({ q: input.value.trim(), cursor: "" });
  refresh();
}

export function startTables() {
  let typing = null;
  document.addEventListener("input", (event) => {
    if (event.target.id !== "filter" || event.target.form) return; // a form sends its words itself
    clearTimeout(typing);
    typing = setTimeout(() => onFilter(event.target), TYPING_MS);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-select]")) onSelect();
    const columns = event.target.closest("[data-columns]");
    if (columns) onColumns(columns);
  });
  document.addEventListener("natlab:state", () => {
    const filter = document.getElementById("filter");
    if (filter && document.activeElement !== filter) filter.value = param("q");
  });
  document.body.addEventListener("htmx:afterSettle", showSelection);
  showSelection();
}
