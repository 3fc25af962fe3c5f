// The launch form: sends the document that its controls stand for, and shows what the server says of it.
// The server alone judges the values.
import { specification } from "./launch_document.js";
import { inStep, startDraft, takeStep, typed } from "./launch_draft.js";
import { clearFaults, showFaults } from "./launch_faults.js";
import { addItem, focusItem, removeItem, shapeFor } from "./launch_items.js";
import { startPlan } from "./launch_plan.js";
import { itemsOf, listAt, pointerOf } from "./launch_pointers.js";
import { addShares, removeRow, rows, startRows } from "./launch_rows.js";
import { problemText } from "./messages.js";
import { setUnsaved } from "./unsaved.js";

const form = document.getElementById("launch");
const asked = { body: "", key: "" }; // the launch that was asked for last, and the name it goes by

// The same launch asked for again goes by the same name, so that the server makes it once: an answer may be lost on its way.
function nameOf(body) {
  if (body !== asked.body) {
    const bytes = crypto.getRandomValues(new Uint8Array(16)); // `randomUUID` is for secure pages alone
    Object.assign(asked, { body, key: [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("") });
  }
  return asked.key;
}

async function launch() {
  clearFaults();
  if (!(await inStep())) return;
  const body = JSON.stringify(specification());
  let response;
  try {
    response = await fetch(form.dataset.action, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "Idempotency-Key": nameOf(body) },
      body,
    });
  } catch {
    const detail = "Nothing that you typed is lost. Press Launch again when it is back: what may have been launched is not launched twice.";
    showFaults([{ pointer: "", detail }], "The server cannot be reached");
    return;
  }
  if (response.ok) {
    setUnsaved(form, false);
    asked.body = ""; // who comes back and launches the same means another one
    location.assign(`/experiments/${encodeURIComponent((await response.json()).id)}`);
    // The button stays pressed until the next page is there, and no longer than until one comes back to this one.
    await new Promise((resolve) => addEventListener("pageshow", resolve, { once: true }));
    return;
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

function onInput({ target }) {
  if (target.closest("[data-builder], #cost")) return;
  setUnsaved(form, true);
  if (target.id === "yaml") return;
  shapeFor(target);
  typed(target);
}

// What each button does, worked out when it is pressed: by the time it is done, rows may have been made anew.
const STEPS = {
  "#add-budget": () => {
    const [selector, shares] = ["add-selector", "add-shares"].map((id) => document.getElementById(id).value);
    return () => addShares(selector, shares);
  },
  "[data-remove]": (button) => {
    const place = rows().indexOf(button.closest(".budget"));
    return () => rows().length > 1 && rows()[place] && removeRow(rows()[place]);
  },
  "[data-seeds]": (button) => () => {
    document.getElementById("seeds").value = [...Array(Number(button.dataset.seeds)).keys()].join(", ");
  },
  "[data-add-item]": (button) => {
    const pointer = pointerOf(button.closest("[data-list]"));
    return () => listAt(pointer) && focusItem(addItem(listAt(pointer)));
  },
  "[data-remove-item]": (button) => {
    const item = button.closest("[data-item]");
    const list = item.parentElement.closest("[data-list]");
    const [pointer, place] = [pointerOf(list), itemsOf(list).indexOf(item)];
    return () => {
      const again = listAt(pointer) && itemsOf(listAt(pointer))[place];
      if (again) removeItem(again);
    };
  },
};

function onClick({ target }) {
  const found = Object.entries(STEPS).map(([selector, step]) => [target.closest(selector), step]);
  const [button, step] = found.find(([pressed]) => pressed) ?? [];
  if (!button) return;
  setUnsaved(form, true);
  takeStep(step(button));
}

// Buttons of the page, and of the rows that are made from templates, that do nothing without this script.
function enableButtons() {
  const places = [form, ...[...document.querySelectorAll("template")].map((template) => template.content)];
  for (const button of places.flatMap((place) => [...place.querySelectorAll("button:disabled")])) button.disabled = false;
}

export function startLaunchForm() {
  enableButtons();
  startRows();
  form.addEventListener("submit", submit);
  form.addEventListener("input", onInput);
  form.addEventListener("click", onClick);
  startPlan();
  startDraft();
}
