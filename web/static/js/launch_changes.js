// What a clone changes of the experiment it was made from: marked in colour and said in words.
import { same, valueOf } from "./launch_document.js";
import { controls, firstShown, isOpen, itemsOf, keyOf, pointerOf } from "./launch_pointers.js";
import { rows } from "./launch_rows.js";

const form = document.getElementById("launch");
const originals = new Map(); // pointer -> what its control showed at first
const listed = new Map(); // pointer of a list -> the names of its rows at first
const budgets = form.dataset.clone ? JSON.parse(form.dataset.clone) : null; // the labels at first, and the baseline's

const now = (control) => ({ value: control.value, shown: control.selectedOptions?.[0]?.textContent ?? control.value });
const lists = () => [...form.querySelectorAll("[data-list]")].filter(isOpen);
const namesOf = (list) => itemsOf(list).map((item) => keyOf(item));

// A field that was not there at first, of another kind or in a new row, is changed where it leaves its default. Values
// are held together, not how they are written: 1e-06 and 0.000001 are the same learning rate.
function markField(control) {
  const field = control.closest(".field");
  const first = originals.get(pointerOf(control));
  const before = first ? first.value : (control.dataset.default ?? control.value);
  const is = !same(valueOf(control), valueOf(control, before));
  field.classList.toggle("changed", is);
  const note = field.querySelector(".was") ?? field.appendChild(Object.assign(document.createElement("p"), { className: "was" }));
  note.hidden = !is;
  note.textContent = is ? (first ? `was ${first.shown || "not set"}` : "new") : "";
  return is;
}

function markList(list) {
  const first = listed.get(pointerOf(list)) ?? [];
  const names = namesOf(list);
  const [added, gone] = [names.filter((name) => !first.includes(name)), first.filter((name) => !names.includes(name))];
  for (const item of itemsOf(list)) item.classList.toggle("changed", added.includes(keyOf(item)));
  const note = list.querySelector(":scope > [data-list-was]");
  const words = "named" in list.dataset ? gone.join(", ") : `${gone.length} of ${first.length}`;
  note.hidden = !gone.length;
  note.textContent = gone.length ? `Taken out: ${words}.` : "";
  return added.length + gone.length;
}

function markRow(row, label) {
  const is = !budgets.labels.includes(label);
  row.classList.toggle("changed", is);
  return is;
}

function markBudgets(plan) {
  const added = rows().filter((row, i) => markRow(row, plan.budgets[i])).length;
  const removed = budgets.labels.filter((label) => !plan.budgets.includes(label));
  const moved = plan.budgets[plan.baseline] !== budgets.baseline;
  const words = [removed.length ? `Taken out: ${removed.join(", ")}.` : "", moved ? `The baseline was ${budgets.baseline}.` : ""];
  const note = document.getElementById("budgets-was");
  note.textContent = words.join(" ").trim();
  note.hidden = !note.textContent;
  return added + removed.length + Number(moved);
}

const fields = () => controls().filter((control) => "pointer" in control.dataset && control.closest(".field"));

const isRow = (control) => Boolean(control.closest("[data-item]"));

// Keeps what the page came with; `fillRows` makes the rows of its lists, which come as a document alone.
export function startChanges(fillRows) {
  for (const control of fields()) originals.set(pointerOf(control), firstShown(control));
  fillRows();
  for (const control of fields().filter(isRow)) originals.set(pointerOf(control), now(control));
  for (const list of lists()) listed.set(pointerOf(list), namesOf(list));
}

export function showChanges(plan) {
  if (!budgets) return;
  const changes = fields().filter(markField).length + lists().reduce((sum, list) => sum + markList(list), 0);
  const all = changes + (plan ? markBudgets(plan) : 0);
  const note = document.getElementById("changes");
  note.textContent = all === 0 ? "nothing changed yet" : `${all} change${all === 1 ? "" : "s"}`;
}
