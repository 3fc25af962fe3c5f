// Keeps the form and the file in step: what is typed in one is sent to the server, which answers with the
// other, with what is wrong at which line, and with the runs that it would make and their cost.
//
// While one side has a change that the other has not, the other may not write over it. A step in the form waits until
// the file's change is in the form; the file cannot be typed in until it has the form's, which takes no longer than an
// answer once it is entered.
import { showChanges, startChanges } from "./launch_changes.js";
import { showCommands } from "./launch_commands.js";
import { fill, fillLists, specification } from "./launch_document.js";
import { showGrid } from "./launch_grid.js";
import { shapeFor, startRowsOf } from "./launch_items.js";
import { showPlan } from "./launch_plan.js";
import { changedAlready, controlAt, pointerOf } from "./launch_pointers.js";
import { toast } from "./messages.js";

const TYPING_MS = 250;
const form = document.getElementById("launch");
const file = document.getElementById("yaml");
const parts = document.getElementById("form-parts");
const touched = new Set(); // pointers of what was typed in the form while the file had a change of its own
let typing = null;
let edits = 0;
let ahead = null; // the side that has a change which the other has not
let broken = false;

async function ask(body) {
  const mine = edits;
  const response = await fetch(form.dataset.draft, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  const answer = await response.json();
  return mine === edits ? answer : null; // else something newer was typed, and is sent next
}

function lead(side) {
  ahead = side;
  file.readOnly = side === "form";
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

// The form as the file has it, with what was typed in the form meanwhile; whether there was any of that.
function fillKeeping(spec) {
  const kept = [...touched].map((pointer) => [pointer, controlAt(pointer)]).filter(([, control]) => control);
  const held = kept.map(([pointer, { value, checked, tagName }]) => ({ pointer, value, checked, tagName }));
  const focused = kept.find(([, control]) => control === document.activeElement)?.[0];
  fill(spec);
  held.sort((a, b) => (b.tagName === "SELECT") - (a.tagName === "SELECT")); // first what decides which fields there are
  for (const { pointer, value, checked } of held) {
    const control = controlAt(pointer);
    if (!control) continue;
    if (control.type === "radio") control.checked = checked;
    else control.value = value;
    shapeFor(control);
  }
  if (focused) controlAt(focused)?.focus();
  touched.clear();
  return held.length > 0;
}

async function send(side) {
  clearTimeout(typing);
  try {
    const draft = await ask(side === "file" ? { yaml: file.value } : { document: specification() });
    if (!draft) return;
    lead(null);
    showPlan(draft.document);
    let again = false;
    if (side === "file") {
      showBroken(draft.faults);
      if (!draft.document) return;
      again = fillKeeping(draft.document);
    } else {
      showBroken([]);
      file.value = draft.yaml;
    }
    showGrid(draft.plan);
    showCommands(file.value, specification());
    showChanges(draft.plan);
    if (again) changed("form");
  } catch {
    file.readOnly = false; // the server is away: what is typed stays, and the next change asks again
  }
}

export function changed(side) {
  edits += 1;
  lead(side);
  clearTimeout(typing);
  typing = setTimeout(() => send(side), TYPING_MS);
}

// A value in the form was changed by hand.
export function typed(control) {
  if (ahead !== "file") return changed("form");
  touched.add(pointerOf(control));
  return send("file");
}

// Takes a step that changes more than a value, such as a row more, once the file's last change is in the form.
export async function takeStep(step) {
  if (!(await inStep())) return;
  step();
  changed("form");
}

// Whether the form says what is meant: the file's last change is in it, and the file can be read.
export async function inStep() {
  while (ahead === "file") {
    const before = edits;
    await send("file");
    if (ahead === "file" && edits === before) {
      toast("The server cannot be reached, so the file’s last change is not in the form yet; try again when it is back.");
      return false;
    }
  }
  if (broken) file.focus();
  return !broken;
}

// The page is open to what is typed before this runs, and none of it is lost: not what the form has, nor the file.
export function startDraft() {
  const early = file.value !== file.defaultValue;
  if (early) for (const pointer of changedAlready()) touched.add(pointer);
  startChanges(() => fillLists(JSON.parse(form.dataset.document)));
  for (const choice of form.querySelectorAll("[data-choice]")) startRowsOf(choice);
  file.addEventListener("input", () => changed("file"));
  file.addEventListener("focus", () => ahead === "form" && send("form"));
  document.getElementById("yaml-reset").addEventListener("click", () => {
    touched.clear();
    changed("form");
    send("form");
  });
  if (early) lead("file");
  return send(early ? "file" : "form");
}
