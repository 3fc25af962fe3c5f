// The grid of runs that the budgets and seeds make.

const MAX_SEEDS = 12;

const cell = (tag, text, attributes = {}) => Object.assign(document.createElement(tag), { textContent: text, ...attributes });

function mark(budget, biased) {
  const dot = cell("i", "", { className: `dot c${budget % 8}${biased ? " hollow" : ""}` });
  dot.setAttribute("aria-hidden", "true");
  return dot;
}

const many = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

export function showGrid(plan) {
  const words = document.getElementById("plan");
  const table = document.getElementById("grid");
  table.hidden = !plan;
  document.getElementById("grid-note").hidden = Boolean(plan);
  if (!plan) words.textContent = "";
  if (!plan) return;
  const [b, s] = [plan.budgets.length, plan.seeds.length];
  words.textContent = `${many(b, "budget")} × ${many(s, "seed")} = ${many(b * s, "run")}`;
  const shown = plan.seeds.slice(0, MAX_SEEDS);
  const head = document.createElement("tr");
  head.append(cell("th", "Budget", { scope: "col" }), ...shown.map((seed) => cell("th", `seed ${seed}`, { scope: "col" })));
  if (s > shown.length) head.append(cell("th", `and ${s - shown.length} more`, { scope: "col" }));
  const lines = plan.budgets.map((label, i) => {
    const line = document.createElement("tr");
    const name = cell("th", "", { scope: "row" });
    name.append(mark(i, plan.biased[i]), label, i === plan.baseline ? cell("span", " baseline", { className: "sub" }) : "");
    line.append(name, ...shown.map(() => cell("td", many(plan.steps, "step"))));
    if (s > shown.length) line.append(cell("td", "…"));
    return line;
  });
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...lines);
}
