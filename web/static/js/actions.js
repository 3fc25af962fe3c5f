// Buttons that ask the API to do something: stop, archive, delete.
import { problemText, toast } from "./messages.js";

function confirmed(text) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function act(button) {
  const { action, method, confirm, then } = button.dataset;
  if (button.disabled || (confirm && !(await confirmed(confirm)))) return;
  button.disabled = true;
  try {
    const response = await fetch(action, { method, headers: { Accept: "application/json" } });
    if (!response.ok) {
      toast(await problemText(response));
    } else if (then) {
      location.assign(then);
      return;
    }
  } catch {
    toast("The server cannot be reached; try again when it is back.");
  }
  button.disabled = false;
  const menu = button.closest("details.menu");
  if (menu) menu.open = false; // an open menu would be kept as it is
  document.body.dispatchEvent(new CustomEvent("natlab:refresh"));
}

export function startActions() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (button && button.tagName === "BUTTON") act(button);
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
