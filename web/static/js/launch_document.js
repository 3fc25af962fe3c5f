// Between the launch form's controls and the document they stand for.
import { addItem, chooseKinds, clearItems } from "./launch_items.js";
import { isOpen, itemsOf, keyControl, keyOf } from "./launch_pointers.js";
import { addRow, clearRows, rows } from "./launch_rows.js";

const form = document.getElementById("launch");
const TAB = "\\t"; // as it is written where it could not be seen

// `{max_terms: 3}` as people write it, and as JSON has it; what is neither is sent as it stands.
function asMapping(text) {
  if (text === "") return {};
  for (const written of [text, text.replaceAll(/([{,]\s*)([A-Za-z_]\w*)\s*:/g, '$1"$2":')]) {
    try {
      return JSON.parse(written);
    } catch {
      // The server says what is wrong with it.
    }
  }
  return text;
}

// What a control holds. Text that is no number is sent as it stands: the server says what is wrong with it.
export function valueOf(control, held = control.value) {
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
    case "mapping":
      return asMapping(text);
    case "character":
      return held === TAB ? "\t" : held;
    default:
      if (text === "" && "nullable" in control.dataset) return null;
      return control.tagName === "TEXTAREA" || "verbatim" in control.dataset ? held : text;
  }
}

function textOf(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const partsOf = (pointer) => pointer.split("/").slice(1);
const at = (place, pointer) => partsOf(pointer).reduce((inside, part) => inside?.[part], place);

function put(document_, pointer, value) {
  const parts = partsOf(pointer);
  const leaf = parts.pop();
  const place = parts.reduce((inside, part) => (inside[part] ??= {}), document_);
  place[leaf] = value;
}

// The controls and lists of the form, or of one row in it, that are in no row below it.
function own(scope) {
  const parts = [...scope.querySelectorAll("[data-pointer], [data-list]")];
  return parts.filter((part) => isOpen(part) && (part.closest("[data-item]") ?? form) === scope);
}

export const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const isDefault = (control) => same(valueOf(control), valueOf(control, control.dataset.default));
const isLeftOut = (control) =>
  "chooses" in control.dataset ? control.value === "" : control.closest("[data-omit]") && isDefault(control);

function itemsValue(list) {
  const items = itemsOf(list);
  if (!("named" in list.dataset)) return items.map((item) => partOf(item));
  return items.length ? Object.fromEntries(items.map((item) => [keyOf(item), partOf(item)])) : undefined;
}

function partOf(scope, part = {}) {
  for (const element of own(scope)) {
    const { list, pointer } = element.dataset;
    const value = list ? itemsValue(element) : valueOf(element);
    if (list ? value !== undefined : !isLeftOut(element)) put(part, list ?? pointer, value);
  }
  return part;
}

function budgetOf(row) {
  const parts = [...row.querySelectorAll("[data-name]")].filter((control) => !control.closest("[hidden]"));
  return Object.fromEntries(parts.map((control) => [control.dataset.name, valueOf(control)]));
}

export function specification() {
  const spec = partOf(form, { name: "", base: {} });
  spec.budgets = rows().map(budgetOf);
  spec.baseline = Math.max(0, rows().findIndex((row) => row.querySelector("[name=baseline]").checked));
  return spec;
}

// Shows a part of the document, which has every field, in the form or in a row of it; kinds that are not chosen keep
// what was typed for them.
function show(scope, value) {
  for (const select of own(scope).filter((part) => "chooses" in part.dataset)) {
    select.value = textOf(at(value, select.dataset.pointer));
  }
  chooseKinds(scope);
  for (const element of own(scope)) {
    const { list, pointer } = element.dataset;
    const found = at(value, list ?? pointer);
    if (list) showItems(element, found ?? {});
    else if (found !== undefined) element.value = element.dataset.kind === "character" && found === "\t" ? TAB : textOf(found);
  }
}

function showItems(list, values) {
  clearItems(list);
  for (const [key, value] of Object.entries(values)) {
    const item = addItem(list);
    if (keyControl(item)) keyControl(item).value = key;
    show(item, value);
  }
}

// The page comes with every value but those of rows, which are made here.
export function fillLists(spec) {
  chooseKinds(form);
  for (const list of own(form).filter((part) => "list" in part.dataset)) showItems(list, at(spec, list.dataset.list) ?? {});
}

// Shows a whole document, every field of it.
export function fill(spec) {
  show(form, spec);
  clearRows();
  for (const budget of spec.budgets) {
    addRow((name) => (name in budget ? textOf(budget[name]) : null));
  }
  rows()[spec.baseline].querySelector("[name=baseline]").checked = true;
}
