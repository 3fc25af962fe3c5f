// The rows of budgets, and which of a row's fields say something.

const budgets = document.getElementById("budgets");
let ids = 0;

export function rows() {
  return [...budgets.querySelectorAll(".budget")];
}

// Ties a row's message to its controls, so that a screen reader reads it with them.
function prepareRow(row) {
  const fault = row.querySelector("[data-budget-fault]");
  fault.id = `budget-fault-${(ids += 1)}`;
  for (const control of row.querySelectorAll("[data-name]")) control.setAttribute("aria-describedby", fault.id);
}

// Whether a field says something in a row. `data-for` lists selectors, each with the choice of another field that it
// may hang on: `completions rpc:law=optimal`.
function applies(row, selector, rule) {
  const [wanted, limit] = rule.split(":");
  if (wanted !== selector || !limit) return wanted === selector;
  const [name, choices] = limit.split("=");
  return choices.split("|").includes(row.querySelector(`[data-name="${name}"]`).value);
}

export function shapeRow(row) {
  const selector = row.querySelector("[data-name=selector]");
  for (const part of row.querySelectorAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").some((rule) => applies(row, selector.value, rule));
  }
  const help = row.querySelector("[data-budget-help]");
  const words = selector.selectedOptions[0].dataset.help.split("`");
  help.replaceChildren(...words.map((word, i) => (i % 2 ? Object.assign(document.createElement("code"), { textContent: word }) : word)));
}

function shapeRows() {
  const all = rows();
  if (all.length && !all.some((row) => row.querySelector("[name=baseline]").checked)) {
    all[0].querySelector("[name=baseline]").checked = true;
  }
  for (const row of all) row.querySelector("[data-remove]").disabled = all.length === 1;
}

export function clearRows() {
  budgets.replaceChildren();
}

// Adds a row; `value(name)` is what a control of it shows, null where it keeps its default.
export function addRow(value = () => null) {
  budgets.append(document.getElementById("budget-template").content.cloneNode(true));
  const row = budgets.lastElementChild;
  for (const control of row.querySelectorAll("[data-name]")) {
    const text = value(control.dataset.name);
    if (text !== null) control.value = text;
  }
  prepareRow(row);
  shapeRow(row);
  shapeRows();
  return row;
}

export function removeRow(row) {
  const neighbour = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  shapeRows();
  neighbour?.querySelector("select").focus();
}

// One row for each of the shares named; what is no number stands in its row, where the server's message finds it.
export function addShares(selector, shares) {
  const wanted = shares.split(/[\s,;]+/).filter(Boolean);
  const added = (wanted.length ? wanted : [null]).map((share) =>
    addRow((name) => (name === "selector" ? selector : name === "fraction" ? share : null)),
  );
  added[0].querySelector("select").focus();
}

export function startRows() {
  rows().forEach(prepareRow);
  rows().forEach(shapeRow);
  shapeRows();
}
