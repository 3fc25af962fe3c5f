// Keeps the form and the file in step: what is typed in one is sent to the server, which answers with the
// other, with what is wrong at which line, and with the runs that it would make and their cost.
import { showChanges } from "./launch_changes.js";
import { showCommands } from "./launch_commands.js";
import { fill, specification } from "./launch_document.js";
import { showGrid } from "./launch_grid.js";
import { showPlan } from "./launch_plan.js";

const TYPING_MS = 250;
const form = document.getElementById("launch");
const file = document.getElementById("yaml");
const parts = document.getElementById("form-parts");
let typing = null;
let asked = 0;
let broken = false;
let waiting = null; // the side that was typed in and not sent yet

async function ask(body) {
  const mine = (asked += 1);
  const response = await fetch(form.dataset.draft, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  const answer = await response.json();
  return mine === asked ? answer : null; // else something newer is on its way
}

function showBroken(faults) {
  broken = faults.length > 0;
  const list = document.getElementById("yaml-faults");
  list.hidden = !broken;
  list.replaceChildren(
    ...faults.map(({ line, detail }) =>
      Object.assign(document.createElement("li"), { textContent: line ? `line ${line}: ${detail}` : detail }),
    ),
  );
  document.getElementById("yaml-broken").hidden = !broken;
  parts.inert = broken; // else a change in the form would write over what is typed in the file
  if (broken) file.setAttribute("aria-invalid", "true");
  else file.removeAttribute("aria-invalid");
}

async function send(side) {
  waiting = null;
  clearTimeout(typing);
  try {
    const draft = await ask(side === "file" ? { yaml: file.value } : { document: specification() });
    if (!draft) return;
    showPlan(draft.document);
    if (side === "file") {
      showBroken(draft.faults);
      if (!draft.document) return;
      fill(draft.document);
    } else {
      showBroken([]);
      file.value = draft.yaml;
    }
    showGrid(draft.plan);
    showCommands(file.value, specification());
    showChanges(draft.plan);
  } catch {
    // The server is away: what is typed stays, and the next change asks again.
  }
}

export function changed(side) {
  waiting = side;
  clearTimeout(typing);
  typing = setTimeout(() => send(side), TYPING_MS);
}

// Whether the form says what is meant: the file's last change is in it, and the file can be read.
export async function inStep() {
  if (waiting === "file") await send("file");
  if (broken) file.focus();
  return !broken;
}

export function startDraft() {
  file.addEventListener("input", () => changed("file"));
  document.getElementById("yaml-reset").addEventListener("click", () => send("form"));
  return send("form");
}
