// Between the launch form's controls and the document they stand for; each control knows its JSON pointer.
import { addRow, chooseData, clearRows, rows } from "./launch_rows.js";

const form = document.getElementById("launch");
const usual = JSON.parse(form.dataset.usual); // a run of which nothing was said
let whole = JSON.parse(form.dataset.document); // all that was written, shown in the form or not

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

const at = (place, pointer) => partsOf(pointer).reduce((inside, part) => inside?.[part], place);
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// Whether the document has such a field: a reward's controls are those of the type that it had at first.
const isThere = ({ dataset: { pointer } }) => pointer.startsWith("/base/data/") || at(whole, pointer) !== undefined;

// What was written and has no control goes along as it is: the form knows not every kind of data and reward.
function carry(spec, shown, value, pointer) {
  const isChosenAnew = pointer === "/base/data" && shown.has("/base/data/type") && at(spec, "/base/data/type") !== value.type;
  if (shown.has(pointer) || isChosenAnew || ["/base/budget", "/base/seed"].includes(pointer)) return;
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    for (const [name, part] of Object.entries(value)) carry(spec, shown, part, `${pointer}/${name}`);
  } else if (!same(value, at({ base: usual }, pointer))) put(spec, pointer, value);
}

const isDefault = (control) => valueOf(control) === valueOf(control, control.dataset.default);

export function specification() {
  const spec = { name: "", base: {} };
  const present = controls().filter(isThere);
  for (const control of present) {
    const untouched = control.closest("[data-expert]") && isDefault(control);
    if (!untouched) put(spec, control.dataset.pointer, valueOf(control));
  }
  carry(spec, new Set(present.map((control) => control.dataset.pointer)), whole.base, "/base");
  spec.budgets = rows().map(budgetOf);
  spec.baseline = Math.max(0, rows().findIndex((row) => row.querySelector("[name=baseline]").checked));
  return spec;
}

// Shows a whole document, every field of it.
export function fill(spec) {
  whole = spec;
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
