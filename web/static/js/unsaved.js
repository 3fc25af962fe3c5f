// Asks before what was typed is left behind. Nothing is asked, and nothing listens, while there is nothing to lose.

const unsaved = new Set(); // the forms that hold something

const ask = (event) => event.preventDefault();

export function setUnsaved(form, is) {
  const before = unsaved.size;
  if (is) unsaved.add(form);
  else unsaved.delete(form);
  if (!before && unsaved.size) addEventListener("beforeunload", ask);
  if (before && !unsaved.size) removeEventListener("beforeunload", ask);
}
