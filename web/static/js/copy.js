// Copy buttons beside commands and specs, and the one that copies the page's own address.
import { announce, toast } from "./messages.js";

const SHOWN_MS = 1600;

function say(place, text) {
  place.dataset.word ??= place.textContent;
  place.textContent = text;
  announce(text);
  setTimeout(() => (place.textContent = place.dataset.word), SHOWN_MS);
}

async function copyText(button) {
  const pre = button.parentElement.querySelector("pre");
  const word = button.querySelector("span");
  try {
    await navigator.clipboard.writeText(pre.textContent);
    say(word, "Copied");
  } catch {
    // Clipboards need a secure page; the text is selected instead.
    getSelection().selectAllChildren(pre);
    say(word, "Selected");
  }
}

async function copyAddress(button) {
  try {
    await navigator.clipboard.writeText(location.href);
    say(button, "Link copied");
  } catch {
    toast(`The browser lets no page but a secure one copy. The link to this view is its address: ${location.href}`);
  }
}

export function startCopy() {
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-copy], [data-share]");
    if (button) ("copy" in button.dataset ? copyText : copyAddress)(button);
  });
}
