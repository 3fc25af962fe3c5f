// The charts of a report, which is one file: drawn from the numbers in it, in the reader's light or dark.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Set();

  function draw(element) {
    const { data, layout } = figures[document.documentElement.dataset.theme][element.dataset.chart];
    return window.Plotly.react(element, data, layout, { displayModeBar: false, responsive: true });
  }

  function paint() {
    document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
    for (const element of drawn) draw(element);
  }

  // A chart in a closed part has no size yet: each is drawn when it first comes near the view.
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting || drawn.has(target)) continue;
        drawn.add(target);
        draw(target);
      }
    },
    { rootMargin: "400px" },
  );

  // Paper cannot be unfolded: on it all is open, and light.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.group:not([open])")];
    for (const details of opened) details.open = true;
    document.documentElement.dataset.theme = "light";
    for (const element of document.querySelectorAll("[data-chart]")) {
      drawn.add(element);
      draw(element);
    }
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
    paint();
  });

  dark.addEventListener("change", paint);
  paint();
  for (const element of document.querySelectorAll("[data-chart]")) observer.observe(element);
})();
