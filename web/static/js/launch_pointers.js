// Where in the document a control of the launch form stands, as a JSON pointer. In a row of a list a control knows
// its place in the row alone: the row knows its own by its position, or by the name that was given to it.
import { rows } from "./launch_rows.js";

const form = document.getElementById("launch");

export const itemsOf = (list) => [...list.querySelector("[data-items]").children];
export const keyControl = (item) => item.querySelector(":scope > .field > [data-key]");
export const isOpen = (element) => !element.closest("fieldset[disabled]");

// A second row of one name gets a name that the server refuses, so that neither is lost without a word.
export function keyOf(item) {
  const siblings = [...item.parentElement.children];
  const place = siblings.indexOf(item);
  if (!keyControl(item)) return String(place);
  const name = keyControl(item).value.trim();
  return siblings.slice(0, place).some((other) => keyControl(other).value.trim() === name) ? `${name} (again)` : name;
}

function pointerOfItem(item) {
  const key = keyOf(item).replaceAll("~", "~0").replaceAll("/", "~1");
  return `${pointerOf(item.parentElement.closest("[data-list]"))}/${key}`;
}

export function pointerOf(element) {
  const budget = element.closest(".budget");
  if (budget) return `/budgets/${rows().indexOf(budget)}/${element.dataset.name ?? element.name}`;
  const item = element.closest("[data-item]");
  const { pointer = "", list = "", fault = "" } = element.dataset;
  return (item ? pointerOfItem(item) : "") + (pointer || list || fault);
}

// Every control that the document has a value of: those of kinds that are not chosen are none.
export function controls() {
  return [...form.querySelectorAll("[data-pointer], [data-key]")].filter(isOpen);
}

const budgetControls = () => [...form.querySelectorAll(".budget :is([data-name], [name=baseline])")];

// What a control showed when the page came, whatever was done to it since.
export function firstShown(control) {
  const option = control.options && ([...control.options].find((one) => one.defaultSelected) ?? control.options[0]);
  return option ? { value: option.value, shown: option.textContent } : { value: control.defaultValue, shown: control.defaultValue };
}

// Where the form was changed by hand before its script was there to hear of it.
export function changedAlready() {
  const is = (control) =>
    control.type === "radio" ? control.checked !== control.defaultChecked : control.value !== firstShown(control).value;
  return [...controls(), ...budgetControls()].filter(is).map(pointerOf);
}

// The control of a pointer as the form stands now: rows may have been made anew since.
export function controlAt(pointer) {
  return [...controls(), ...budgetControls()].find((control) => pointerOf(control) === pointer) ?? null;
}

export const listAt = (pointer) => [...form.querySelectorAll("[data-list]")].filter(isOpen).find((list) => pointerOf(list) === pointer);
