// The keys of every page; `?` lists them. Never while the reader types.
import { compareSelected, focusFilter, openRow, toggleRow, walk } from "./table.js";

const KEYS = {
  j: () => walk(1),
  k: () => walk(-1),
  x: toggleRow,
  c: compareSelected,
  o: openRow,
  "?": () => document.getElementById("help").showModal(),
};

const typing = (element) => element.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");

export function startKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (typing(event.target)) {
      if (event.key === "Escape" && ["filter", "find"].includes(event.target.id)) event.target.blur();
      return;
    }
    if (event.key === "/" && focusFilter()) event.preventDefault();
    KEYS[event.key]?.();
  });
  document.getElementById("help-open").addEventListener("click", () => document.getElementById("help").showModal());
}
