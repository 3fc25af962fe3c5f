// What a clone changes of the experiment it was made from: marked in colour and said in words.
import { controls, isOpen, itemsOf, keyOf, pointerOf } from "./launch_pointers.js";
import { rows } from "./launch_rows.js";

const form = document.getElementById("launch");
const originals = new Map(); // pointer -> what its control showed at first
const listed = new Map(); // pointer of a list -> the names of its rows at first
let budgets = null; // the labels at first, and which of them was the baseline

const shown = (control) => (control.selectedOptions ? control.selectedOptions[0]?.textContent : control.value) || "not set";
const lists = () => [...form.querySelectorAll("[data-list]")].filter(isOpen);
const namesOf = (list) => itemsOf(list).map((item) => keyOf(item));

// A field that was not there at first, of another kind or in a new row, is changed where it leaves its default.
function markField(control) {
  const field = control.closest(".field");
  const first = originals.get(pointerOf(control));
  const is = first ? control.value !== first.value : control.value !== (control.dataset.default ?? control.value);
  field.classList.toggle("changed", is);
  const note = field.querySelector(".was") ?? field.appendChild(Object.assign(document.createElement("p"), { className: "was" }));
  note.hidden = !is;
  note.textContent = is ? (first ? `was ${first.shown}` : "new") : "";
  return is;
}

function markList(list) {
  const first = listed.get(pointerOf(list)) ?? [];
  const now = namesOf(list);
  const [added, gone] = [now.filter((name) => !first.includes(name)), first.filter((name) => !now.includes(name))];
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

export function showChanges(plan) {
  if (!("clone" in form.dataset)) return;
  if (!budgets && plan) {
    budgets = { labels: plan.budgets, baseline: plan.budgets[plan.baseline] };
    for (const control of fields()) originals.set(pointerOf(control), { value: control.value, shown: shown(control) });
    for (const list of lists()) listed.set(pointerOf(list), namesOf(list));
  }
  const changes = budgets ? fields().filter(markField).length + lists().reduce((sum, list) => sum + markList(list), 0) : 0;
  const all = changes + (plan && budgets ? markBudgets(plan) : 0);
  const note = document.getElementById("changes");
  note.textContent = all === 0 ? "nothing changed yet" : `${all} change${all === 1 ? "" : "s"}`;
}
