// The launch form: sends the document that its controls stand for, and shows what the server says of it.
// The server alone judges the values.
import { changed, inStep, startDraft } from "./launch_draft.js";
import { specification } from "./launch_document.js";
import { clearFaults, showFaults } from "./launch_faults.js";
import { startPlan } from "./launch_plan.js";
import { addShares, chooseData, removeRow, shapeRow, startRows } from "./launch_rows.js";
import { problemText } from "./messages.js";

const form = document.getElementById("launch");

async function launch() {
  clearFaults();
  if (!(await inStep())) return;
  let response;
  try {
    response = await fetch(form.dataset.action, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(specification()),
    });
  } catch {
    showFaults([{ pointer: "", detail: "Nothing was launched and nothing is lost; try again when it is back." }], "The server cannot be reached");
    return;
  }
  if (response.status === 201) {
    location.assign(`/experiments/${encodeURIComponent((await response.json()).id)}`);
    await new Promise(() => {}); // the button stays pressed until the next page is there
  }
  if (response.status === 422) {
    const problem = await response.json();
    showFaults(problem.errors?.length ? problem.errors : [{ pointer: "", detail: problem.detail }], "Not launched");
  } else {
    const title = response.status === 503 ? "Not launched: the queue cannot be reached" : "Not launched";
    showFaults([{ pointer: "", detail: await problemText(response) }], title);
  }
}

async function submit(event) {
  event.preventDefault();
  const button = form.querySelector("[type=submit]");
  if (button.disabled) return;
  button.disabled = true;
  button.firstElementChild.textContent = "Launching…";
  try {
    await launch();
  } finally {
    button.disabled = false;
    button.firstElementChild.textContent = "Launch";
  }
}

function onChange({ target }) {
  if (target.id === "yaml" || target.closest("[data-builder], #cost")) return;
  if (target.name === "data-type") chooseData();
  if (target.tagName === "SELECT" && target.dataset.name) shapeRow(target.closest(".budget"));
  changed("form");
}

function onClick({ target }) {
  const seeds = target.closest("[data-seeds]");
  const remove = target.closest("[data-remove]");
  const add = target.closest("#add-budget");
  if (add) addShares(document.getElementById("add-selector").value, document.getElementById("add-shares").value);
  if (remove) removeRow(remove.closest(".budget"));
  if (seeds) document.getElementById("seeds").value = [...Array(Number(seeds.dataset.seeds)).keys()].join(", ");
  if (add || remove || seeds) changed("form");
}

export function startLaunchForm() {
  startRows();
  form.addEventListener("submit", submit);
  form.addEventListener("input", onChange);
  form.addEventListener("change", onChange);
  form.addEventListener("click", onClick);
  startPlan();
  startDraft();
  form.querySelector("[type=submit]").disabled = false; // before this, the browser itself would send the form
}
