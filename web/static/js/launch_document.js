// Between the launch form's controls and the document they stand for; each control knows its JSON pointer.
import { addRow, chooseData, clearRows, rows } from "./launch_rows.js";

const form = document.getElementById("launch");

// What a control holds. Text that is no number is sent as it stands: the server says what is wrong with it.
function valueOf(control, held = control.value) {
  const text = held.trim();
  const asNumber = (part) => (part !== "" && Number.isFinite(Number(part)) ? Number(part) : part);
  switch (control.dataset.kind) {
    case "integer":
    case "number":
      return text === "" && "nullable" in control.dataset ? null : asNumber(text);
    case "boolean":
      return text === "true";
    case "integers":
      return text === "" ? [] : text.split(/[\s,;]+/).filter(Boolean).map(asNumber);
    case "words":
      return text.split(",").map((word) => word.trim()).filter(Boolean);
    default:
      return text === "" && "nullable" in control.dataset ? null : control.tagName === "TEXTAREA" ? held : text;
  }
}

function textOf(value) {
  if (value === null || value === undefined) return "";
  return Array.isArray(value) ? value.join(", ") : String(value);
}

const partsOf = (pointer) => pointer.split("/").slice(1);

function put(document_, pointer, value) {
  const parts = partsOf(pointer);
  const leaf = parts.pop();
  const place = parts.reduce((at, part) => (at[part] ??= {}), document_);
  place[leaf] = value;
}

export function controls() {
  return [...form.querySelectorAll("[data-pointer]")].filter(
    (control) => !control.closest("fieldset[disabled]") && (control.type !== "radio" || control.checked),
  );
}

function budgetOf(row) {
  const parts = [...row.querySelectorAll("[data-name]")].filter((control) => !control.closest("[hidden]"));
  return Object.fromEntries(parts.map((control) => [control.dataset.name, valueOf(control)]));
}

const isDefault = (control) => valueOf(control) === valueOf(control, control.dataset.default);

export function specification() {
  const spec = { name: "", base: {} };
  for (const control of controls()) {
    const untouched = control.closest("[data-expert]") && isDefault(control);
    if (!untouched) put(spec, control.dataset.pointer, valueOf(control));
  }
  spec.budgets = rows().map(budgetOf);
  spec.baseline = Math.max(0, rows().findIndex((row) => row.querySelector("[name=baseline]").checked));
  return spec;
}

// Shows a whole document, every field of it.
export function fill(spec) {
  for (const control of form.querySelectorAll("[data-pointer]")) {
    const value = partsOf(control.dataset.pointer).reduce((at, part) => at?.[part], spec);
    if (control.type === "radio") control.checked = control.value === value;
    else if (value !== undefined) control.value = textOf(value);
  }
  clearRows();
  for (const budget of spec.budgets) {
    addRow((name) => (name in budget ? textOf(budget[name]) : null));
  }
  rows()[spec.baseline].querySelector("[name=baseline]").checked = true;
  chooseData();
}
