// The launch form: builds the document from the controls' JSON pointers, sends it, and puts the
// server's messages beside the controls that they are about. The server alone judges the values.
import { problemText } from "./messages.js";

const form = document.getElementById("launch");
const budgets = document.getElementById("budgets");
const summary = document.getElementById("form-faults");

// What a control holds. Text that is no number is sent as it stands: the server says what is wrong with it.
function valueOf(control) {
  const text = control.value.trim();
  const asNumber = (part) => (part !== "" && Number.isFinite(Number(part)) ? Number(part) : part);
  switch (control.dataset.kind) {
    case "integer":
    case "number":
      return text === "" && "nullable" in control.dataset ? null : asNumber(text);
    case "boolean":
      return text === "true";
    case "integers":
      return text === "" ? [] : text.split(/[\s,;]+/).filter(Boolean).map(asNumber);
    case "words":
      return text.split(",").map((word) => word.trim()).filter(Boolean);
    default:
      return text === "" && "nullable" in control.dataset ? null : control.tagName === "TEXTAREA" ? control.value : text;
  }
}

function put(document_, pointer, value) {
  const parts = pointer.split("/").slice(1);
  const leaf = parts.pop();
  const place = parts.reduce((at, part) => (at[part] ??= {}), document_);
  place[leaf] = value;
}

function controls() {
  return [...form.querySelectorAll("[data-pointer]")].filter(
    (control) => !control.closest("fieldset[disabled]") && (control.type !== "radio" || control.checked),
  );
}

function rows() {
  return [...budgets.querySelectorAll(".budget")];
}

function budgetOf(row) {
  const parts = [...row.querySelectorAll("[data-name]")].filter((control) => !control.closest("[hidden]"));
  return Object.fromEntries(parts.map((control) => [control.dataset.name, valueOf(control)]));
}

function specification() {
  const spec = { name: "", base: {} };
  for (const control of controls()) {
    const untouched = control.closest("[data-expert]") && control.value === control.dataset.default;
    if (!untouched) put(spec, control.dataset.pointer, valueOf(control));
  }
  spec.budgets = rows().map(budgetOf);
  spec.baseline = Math.max(0, rows().findIndex((row) => row.querySelector("[name=baseline]").checked));
  return spec;
}

// --- what is said about the form -------------------------------------------------------------------

function showPlan() {
  const spec = specification();
  const many = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
  const [b, s] = [spec.budgets.length, spec.seeds.length];
  document.getElementById("plan").textContent = `${many(b, "budget")} × ${many(s, "seed")} = ${many(b * s, "run")}`;
  const body = JSON.stringify(spec, null, 2).replaceAll("'", "'\\''");
  const url = new URL(form.dataset.action, location.href);
  const { tokenHeader } = form.dataset; // names a variable of the reader's shell, hence the other quotes
  const headers = ["'Content-Type: application/json'", ...(tokenHeader ? [`"${tokenHeader}"`] : [])];
  const options = [...headers.map((header) => `-H ${header}`), `-d '${body}'`];
  form.querySelector(".copyable pre").textContent = [`curl -X POST ${url}`, ...options].join(" \\\n  ");
}

function clearFaults() {
  for (const place of form.querySelectorAll(".fault")) place.hidden = true;
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  summary.hidden = true;
  summary.replaceChildren();
}

// The place for a message and the control to mark: of the pointer itself, else of its nearest ancestor.
// A rule over several fields of a budget points at the whole row; its sentence names the field.
function placeOf(pointer, detail) {
  const budget = pointer.match(/^\/budgets\/(\d+)(?:\/(.+))?$/);
  const row = budget && rows()[Number(budget[1])];
  if (row) {
    const name = budget[2] ?? detail.match(/^budget\.(\w+)/)?.[1] ?? "";
    const control = row.querySelector(`[data-name="${CSS.escape(name)}"]`);
    return { place: row.querySelector("[data-budget-fault]"), control: control ?? row.querySelector("select") };
  }
  for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) {
    const place = [...form.querySelectorAll("[data-fault]")].find(
      (candidate) => candidate.dataset.fault === at && !candidate.closest("fieldset[disabled]"),
    );
    if (place) return { place, control: controls().find((control) => control.dataset.pointer === at) ?? null };
  }
  return null;
}

function showFaults(faults, title) {
  const unplaced = [];
  const places = [];
  for (const { pointer, detail } of faults) {
    const found = placeOf(pointer ?? "", detail);
    if (!found) {
      unplaced.push(detail);
      continue;
    }
    const { place, control } = found;
    place.textContent = place.hidden ? detail : `${place.textContent} · ${detail}`;
    place.hidden = false;
    for (let details = place.closest("details"); details; details = details.parentElement.closest("details")) details.open = true;
    control?.setAttribute("aria-invalid", "true");
    places.push(control ?? place.closest("section").querySelector("input, select"));
  }
  if (unplaced.length) {
    const heading = document.createElement("strong");
    heading.textContent = title;
    const list = document.createElement("ul");
    list.append(...unplaced.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    summary.replaceChildren(heading, list);
    summary.hidden = false;
    places.push(summary);
  }
  const inOrder = (a, b) => (a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_PRECEDING ? 1 : -1);
  const first = places.sort(inOrder)[0];
  first?.focus();
  first?.scrollIntoView({ block: "center" });
}

// --- sending ----------------------------------------------------------------------------------------

async function launch(button) {
  clearFaults();
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
    await launch(button);
  } finally {
    button.disabled = false;
    button.firstElementChild.textContent = "Launch";
  }
}

// --- rows and sections ------------------------------------------------------------------------------

let ids = 0;

// Ties a row's message to its controls, so that a screen reader reads it with them.
function prepareRow(row) {
  const fault = row.querySelector("[data-budget-fault]");
  fault.id = `budget-fault-${(ids += 1)}`;
  for (const control of row.querySelectorAll("[data-name]")) control.setAttribute("aria-describedby", fault.id);
}

function shapeRow(row) {
  const selector = row.querySelector("[data-name=selector]");
  for (const part of row.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(selector.value);
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

function addRow() {
  budgets.append(document.getElementById("budget-template").content.cloneNode(true));
  const row = budgets.lastElementChild;
  prepareRow(row);
  shapeRow(row);
  shapeRows();
  showPlan();
  row.querySelector("select").focus();
}

function removeRow(row) {
  const neighbour = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  shapeRows();
  showPlan();
  neighbour?.querySelector("select").focus();
}

function chooseData() {
  const type = form.querySelector("[name=data-type]:checked").value;
  for (const part of form.querySelectorAll("[data-data-type]")) {
    part.hidden = part.disabled = part.dataset.dataType !== type;
  }
}

function onChange(event) {
  if (event.target.name === "data-type") chooseData();
  if (event.target.dataset.name === "selector") shapeRow(event.target.closest(".budget"));
  showPlan();
}

export function startLaunchForm() {
  rows().forEach(prepareRow);
  rows().forEach(shapeRow);
  shapeRows();
  chooseData();
  showPlan();
  form.addEventListener("submit", submit);
  form.addEventListener("input", onChange);
  form.addEventListener("change", onChange);
  form.addEventListener("click", (event) => {
    const seeds = event.target.closest("[data-seeds]");
    const remove = event.target.closest("[data-remove]");
    if (event.target.closest("#add-budget")) addRow();
    if (remove) removeRow(remove.closest(".budget"));
    if (seeds) {
      document.getElementById("seeds").value = [...Array(Number(seeds.dataset.seeds)).keys()].join(", ");
      showPlan();
    }
  });
}
