// Loaded as a plain blocking script: sets the theme before the first paint.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  let chosen = null;
  try {
    chosen = localStorage.getItem("natlab-theme");
  } catch {
    // Storage may be switched off; the system's theme will do.
  }
  document.documentElement.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : system;
})();
