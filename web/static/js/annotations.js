// Tags and notes: saved by the API, its messages beside their field, what was typed kept.
import { problemText } from "./messages.js";
import { refresh } from "./state.js";
import { setUnsaved } from "./unsaved.js";

function clear(form) {
  for (const place of form.querySelectorAll(".fault")) place.hidden = true;
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
}

function show(form, faults) {
  for (const { pointer, detail } of faults.toReversed()) {
    const name = (pointer ?? "").split("/")[1];
    const control = form.elements[name] ?? form.elements.tags;
    const place = form.querySelector(`[data-fault="/${control.name}"]`);
    place.textContent = detail;
    place.hidden = false;
    control.setAttribute("aria-invalid", "true");
    control.focus();
  }
}

const typed = (form) => JSON.stringify([form.elements.tags.value, form.elements.notes.value]);

async function save(form) {
  const said = form.querySelector("[data-saved]");
  said.textContent = "";
  clear(form);
  const sent = typed(form);
  const tags = form.elements.tags.value.split(",").map((word) => word.trim()).filter(Boolean);
  try {
    const response = await fetch(form.dataset.edit, {
      method: "PATCH",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ tags, notes: form.elements.notes.value }),
    });
    if (response.ok) {
      if (typed(form) === sent) {
        said.textContent = "Saved.";
        setUnsaved(form, false);
      }
      refresh();
    } else if (response.status === 422) {
      show(form, (await response.json()).errors);
    } else {
      said.textContent = await problemText(response);
    }
  } catch {
    said.textContent = "The server cannot be reached; nothing is saved. Try again when it is back.";
  }
}

export function startAnnotations() {
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("[data-edit]");
    if (!form) return;
    event.preventDefault();
    save(form);
  });
  document.addEventListener("input", ({ target }) => {
    const form = target.closest("[data-edit]");
    if (!form) return;
    form.querySelector("[data-saved]").textContent = ""; // what is typed now is not saved yet
    setUnsaved(form, true);
  });
}
