// What the reader is at in a live part while it is drawn anew: the focus, what is unfolded, how far it is scrolled.

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
const kept = new Map(); // the id of a part -> what is brought back in it

// An element is known again by its id, else by where it leads, else by what it says; of several alike, by its place
// among them. One that is gone, as a button is after it was pressed, leaves the focus to the first that is there.
function nameOf(element) {
  const said = ["href", "aria-label", "value"].map((name) => element.getAttribute(name)).find((text) => text !== null);
  return `${element.tagName} ${said ?? element.textContent.trim()}`;
}

const alike = (part, name) => [...part.querySelectorAll(FOCUSABLE)].filter((element) => nameOf(element) === name);
const unfolded = (part) => [...part.querySelectorAll("details:not(.menu)")];
const scrolled = (part) => [part, ...part.querySelectorAll(".scroll")];

function focusIn(part) {
  const at = document.activeElement;
  if (!at || at === part || !part.contains(at)) return null;
  const name = nameOf(at);
  return { id: at.id, name, place: alike(part, name).indexOf(at) };
}

function remember(part) {
  kept.set(part.id, {
    focus: focusIn(part),
    open: unfolded(part).map((details) => details.open),
    places: scrolled(part).map((element) => [element.scrollLeft, element.scrollTop]),
  });
}

function bringBack(part) {
  const found = kept.get(part.id);
  if (!found) return;
  kept.delete(part.id);
  for (const [i, details] of unfolded(part).entries()) if (found.open[i]) details.open = true;
  for (const [i, element] of scrolled(part).entries()) {
    if (found.places[i]) [element.scrollLeft, element.scrollTop] = found.places[i];
  }
  if (!found.focus) return;
  const { id, name, place } = found.focus;
  const again = id ? document.getElementById(id) : alike(part, name)[place];
  (again ?? part.querySelector(FOCUSABLE))?.focus({ preventScroll: true });
}

// A part whose new text equals the old one stays as it is: selections survive; and so does one with an open menu.
export function startKeeping() {
  document.body.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    const fresh = fragment.firstElementChild;
    const busy = target.querySelector("details.menu[open]");
    if (fresh && (busy || target.innerHTML === fresh.innerHTML)) event.detail.shouldSwap = false;
    else remember(target);
  });
  document.body.addEventListener("htmx:oobAfterSwap", ({ target }) => bringBack(target));
}
