// Buttons that ask the API to do something: stop, archive, delete.
import { problemText, toast } from "./messages.js";

function confirmed(text) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

function close(menu) {
  const holds = menu.contains(document.activeElement);
  menu.open = false;
  if (holds) menu.querySelector("summary").focus();
}

async function act(button) {
  const { action, method, confirm, then } = button.dataset;
  const isBusy = () => button.ariaDisabled === "true";
  if (isBusy() || (confirm && !(await confirmed(confirm))) || isBusy()) return;
  button.ariaDisabled = "true"; // one that is `disabled` would lose the focus
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
  button.ariaDisabled = "false";
  const menu = button.closest("details.menu");
  if (menu) close(menu); // an open one would be kept as it is
  document.body.dispatchEvent(new CustomEvent("natlab:refresh"));
}

// A menu that one has gone on from closes; one that asks in a dialog waits for the answer.
function leaveMenus(target) {
  if (target.closest("dialog")) return;
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(target)) menu.open = false;
}

export function startActions() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (button && button.tagName === "BUTTON") act(button);
    leaveMenus(event.target);
  });
  document.addEventListener("focusin", ({ target }) => leaveMenus(target));
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (menu) close(menu);
  });
}
