// Tables of rows to filter, walk through, select and compare. The server draws them from the address.
import { toast } from "./messages.js";
import { param, refresh, setParams } from "./state.js";

const TYPING_MS = 180;
const MAX_COMPARED = 200;

const shownRows = () => [...document.querySelectorAll("[data-rows] tbody tr, [data-row-list] tbody tr")].filter((row) => row.offsetParent);
const handle = (row) => row.querySelector("[data-row-list] th a") ?? row.querySelector("[data-select]") ?? row.querySelector("a");
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
  currentRow()?.querySelector("th a")?.click();
}

export function focusFilter() {
  const filter = document.getElementById("filter") ?? document.getElementById("find");
  filter?.focus();
  filter?.select();
  return Boolean(filter);
}

export function compareSelected() {
  const link = document.getElementById("compare-selected");
  if (!link) return;
  if (!link.hidden) link.click();
  else toast(tooMany() || "Select two rows or more to compare them.");
}

const selection = () => new Set(param("sel").split(",").filter(Boolean));
const ofExperiments = () => "experiments" in document.getElementById("compare-selected").dataset;
const selectedRows = () => [...document.querySelectorAll("[data-select]:checked")].map((box) => box.closest("tr"));
const runsOf = (rows) => rows.flatMap((row) => (row.dataset.runs ?? "").split(",")).filter(Boolean);

function tooMany() {
  const { length } = runsOf(selectedRows());
  return length > MAX_COMPARED ? `These rows have ${length} runs, and at most ${MAX_COMPARED} are compared; select fewer.` : "";
}

// The address says what is selected: an answer that was under way when a box was ticked does not take the tick away.
// Experiments are compared by their names alone, so that those on other pages of the list stay selected.
function showSelection() {
  const link = document.getElementById("compare-selected");
  if (!link) return;
  const chosen = selection();
  for (const box of document.querySelectorAll("[data-select]")) box.checked = chosen.has(box.dataset.select);
  const rows = selectedRows();
  const number = ofExperiments() ? chosen.size : rows.length;
  link.hidden = number < 2 || Boolean(tooMany());
  link.href = ofExperiments() ? `/compare?experiments=${[...chosen].join(",")}` : `/compare?runs=${runsOf(rows).join(",")}`;
  link.lastElementChild.textContent = number;
  for (const way of document.querySelectorAll("[data-carries]")) {
    const url = new URL(way.href);
    url.searchParams.set("sel", [...chosen].join(","));
    way.href = url;
  }
}

function onSelect({ checked, dataset }) {
  const chosen = selection();
  if (checked) chosen.add(dataset.select);
  else chosen.delete(dataset.select);
  setParams({ sel: [...chosen].join(",") });
  showSelection();
  if (checked && tooMany()) toast(tooMany());
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
    if (event.target.matches("[data-select]")) onSelect(event.target);
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
