// Light or dark: the system's choice until the button is pressed, then the reader's.

export function currentTheme() {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

function apply(theme) {
  if (theme === currentTheme()) return;
  document.documentElement.dataset.theme = theme;
  document.dispatchEvent(new CustomEvent("natlab:theme"));
}

function stored() {
  try {
    return localStorage.getItem("natlab-theme");
  } catch {
    return null;
  }
}

export function startTheme() {
  document.getElementById("theme").addEventListener("click", () => {
    const next = currentTheme() === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("natlab-theme", next);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    apply(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    if (!stored()) apply(event.matches ? "dark" : "light");
  });
}
