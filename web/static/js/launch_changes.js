// What a clone changes of the experiment it was made from: marked in colour and said in words.
import { rows } from "./launch_rows.js";

const form = document.getElementById("launch");
const originals = new Map(); // control -> what it showed at first
let budgets = null; // the labels at first, and which of them was the baseline

const shown = (control) => (control.selectedOptions ? control.selectedOptions[0]?.textContent : control.value) || "not set";

function markField(control, first) {
  const field = control.closest(".field");
  const is = control.value !== first.value;
  field.classList.toggle("changed", is);
  const note = field.querySelector(".was") ?? field.appendChild(Object.assign(document.createElement("p"), { className: "was" }));
  note.hidden = !is;
  note.textContent = is ? `was ${first.shown}` : "";
  return is;
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

export function showChanges(plan) {
  if (!("clone" in form.dataset)) return;
  if (!budgets && plan) {
    budgets = { labels: plan.budgets, baseline: plan.budgets[plan.baseline] };
    for (const control of form.querySelectorAll(".field [data-pointer]")) {
      originals.set(control, { value: control.value, shown: shown(control) });
    }
  }
  const fields = [...originals].filter(([control, first]) => markField(control, first)).length;
  const all = fields + (plan ? markBudgets(plan) : 0);
  const note = document.getElementById("changes");
  note.textContent = all === 0 ? "nothing changed yet" : `${all} change${all === 1 ? "" : "s"}`;
}
