// Puts the server's messages beside the controls that they are about, and the focus on the first of them.
import { controlAt, isOpen, pointerOf } from "./launch_pointers.js";
import { rows } from "./launch_rows.js";

const form = document.getElementById("launch");
const summary = document.getElementById("form-faults");

export function clearFaults() {
  for (const place of form.querySelectorAll(".fault[data-fault], [data-budget-fault]")) place.hidden = true;
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  summary.hidden = true;
  summary.replaceChildren();
}

// The place for a message and the control to mark: of the pointer itself, else of its nearest ancestor.
// A rule over several fields of a budget points at the whole row; its sentence names the field.
function placeOf(pointer, detail) {
  const budget = pointer.match(/^\/budgets\/(\d+)(?:\/(.+))?$/);
  const row = budget && rows()[Number(budget[1])];
  if (row) {
    const name = budget[2] ?? detail.match(/^budget\.(\w+)/)?.[1] ?? "";
    const control = row.querySelector(`[data-name="${CSS.escape(name)}"]`);
    return { place: row.querySelector("[data-budget-fault]"), control: control ?? row.querySelector("select") };
  }
  const places = [...form.querySelectorAll(".fault[data-fault]")].filter(isOpen);
  for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) {
    const place = places.find((candidate) => pointerOf(candidate) === at);
    if (place) return { place, control: controlAt(at) ?? controlAt(`${at}/type`) };
  }
  return null;
}

export function showFaults(faults, title) {
  const unplaced = [];
  const places = [];
  for (const { pointer, detail } of faults) {
    const found = placeOf(pointer ?? "", detail);
    if (!found) {
      unplaced.push(detail);
      continue;
    }
    const { place, control } = found;
    place.textContent = place.hidden ? detail : `${place.textContent} · ${detail}`;
    place.hidden = false;
    for (let details = place.closest("details"); details; details = details.parentElement.closest("details")) details.open = true;
    control?.setAttribute("aria-invalid", "true");
    places.push(control ?? place.closest("section").querySelector("input, select"));
  }
  if (unplaced.length) {
    const heading = document.createElement("strong");
    heading.textContent = title;
    const list = document.createElement("ul");
    list.append(...unplaced.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    summary.replaceChildren(heading, list);
    summary.hidden = false;
    places.push(summary);
  }
  const inOrder = (a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_PRECEDING ? 1 : -1);
  const first = places.sort(inOrder)[0];
  first?.focus();
  first?.scrollIntoView({ block: "center" });
}
