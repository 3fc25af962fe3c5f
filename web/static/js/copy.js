// Copy buttons beside commands and specs.

export function startCopy() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const pre = button.parentElement.querySelector("pre");
    const word = button.querySelector("span");
    const before = word.textContent;
    try {
      await navigator.clipboard.writeText(pre.textContent);
      word.textContent = "Copied";
    } catch {
      // Clipboards need a secure page; the text is selected instead.
      getSelection().selectAllChildren(pre);
      word.textContent = "Selected";
    }
    setTimeout(() => (word.textContent = before), 1600);
  });
}
