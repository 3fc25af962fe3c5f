// The rows of the form's lists, and the fields of the kinds that are chosen in it: which of them stand there.
import { isOpen, itemsOf, keyControl } from "./launch_pointers.js";
import { shapeRow } from "./launch_rows.js";

let copies = 0;

// Shows in each choice inside `place` the fields of its kind.
export function chooseKinds(place) {
  for (const select of place.querySelectorAll("[data-chooses]")) {
    const choice = select.closest("[data-choice]");
    for (const part of choice.querySelectorAll("[data-of-kind]")) {
      if (part.closest("[data-choice]") !== choice) continue;
      part.hidden = part.dataset.ofKind !== select.value;
      if (part.tagName === "FIELDSET") part.disabled = part.hidden;
    }
  }
}

// Ids of a copy are its own, and what refers to them follows.
function ownIds(item) {
  copies += 1;
  const renamed = (ids) => ids.split(" ").map((id) => `${id}-${copies}`).join(" ");
  for (const name of ["id", "for", "aria-describedby"]) {
    for (const element of item.querySelectorAll(`[${name}]`)) element.setAttribute(name, renamed(element.getAttribute(name)));
  }
}

function number(list) {
  for (const [i, item] of itemsOf(list).entries()) item.setAttribute("aria-label", `${list.dataset.noun} ${i + 1}`);
}

export function addItem(list) {
  list.querySelector("[data-items]").append(document.getElementById(list.dataset.template).content.cloneNode(true));
  const item = itemsOf(list).at(-1);
  ownIds(item);
  chooseKinds(item);
  number(list);
  return item;
}

export function removeItem(item) {
  const list = item.parentElement.closest("[data-list]");
  item.remove();
  number(list);
  list.querySelector(":scope > [data-add-item]").focus();
}

export function clearItems(list) {
  list.querySelector("[data-items]").replaceChildren();
}

export const focusItem = (item) => (keyControl(item) ?? item.querySelector("input, select")).focus();

// Shows what a control's new value calls for: the fields of the kind that was chosen, or those of the selector.
export function shapeFor(control) {
  if ("chooses" in control.dataset) {
    const choice = control.closest("[data-choice]");
    chooseKinds(choice);
    startRowsOf(choice);
  }
  if (control.tagName === "SELECT" && control.dataset.name) shapeRow(control.closest(".budget"));
}

// A kind that is made of rows starts with one: none would be refused.
export function startRowsOf(choice) {
  for (const list of choice.querySelectorAll("fieldset [data-list]:not([data-named])")) {
    if (isOpen(list) && !itemsOf(list).length) addItem(list);
  }
}
