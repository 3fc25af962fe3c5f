// Small switches that change the page alone: which table is shown, forms that submit on change.

function showView(button) {
  const shown = button.dataset.show;
  for (const other of button.parentElement.querySelectorAll("[data-show]")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
  for (const view of button.closest("section").querySelectorAll("[data-view]")) view.hidden = view.dataset.view !== shown;
}

export function startSwitches() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-show]");
    if (button) showView(button);
  });
  for (const form of document.querySelectorAll("form[data-autosubmit]")) {
    form.addEventListener("change", (event) => event.target.tagName === "SELECT" && form.requestSubmit());
  }
  document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}
