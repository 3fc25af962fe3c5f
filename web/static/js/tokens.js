// The Tokens tab: a token's details on hover and on keyboard focus; arrow keys walk the completion.

export function startTokens() {
  const list = document.querySelector(".tokens");
  const tokens = [...list.querySelectorAll(".t")];
  if (!tokens.length) return;
  const panel = document.querySelector(".side");
  let chosen = tokens[0];

  function describe(token) {
    panel.querySelector("[data-token]").textContent = token.textContent;
    for (const field of panel.querySelectorAll("[data-field]")) field.textContent = token.dataset[field.dataset.field];
  }

  function choose(token) {
    chosen.setAttribute("aria-selected", "false");
    chosen.tabIndex = -1;
    chosen = token;
    token.setAttribute("aria-selected", "true");
    token.tabIndex = 0;
    describe(token);
  }

  describe(chosen);
  list.addEventListener("pointerover", (event) => event.target.closest(".t") && describe(event.target.closest(".t")));
  list.addEventListener("pointerleave", () => describe(chosen));
  list.addEventListener("focusin", (event) => choose(event.target));
  list.addEventListener("click", (event) => event.target.closest(".t")?.focus());
  list.addEventListener("keydown", (event) => {
    const last = tokens.length - 1;
    const at = tokens.indexOf(chosen);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    tokens[Math.min(last, Math.max(0, to))].focus();
  });
}
