// Saves a chart as a picture, or the numbers behind it: all of them, as the server has them.
import { figureParams } from "./chart_view.js";
import { toast } from "./messages.js";
import { currentTheme } from "./theme.js";

const SIZE = { width: 960, height: 540 };

function download(href, name) {
  const link = Object.assign(document.createElement("a"), { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

// What it is of, then the chart's own name: of that nothing is cut, since by it the files of one page are told apart.
function fileName(panel, name) {
  const plain = (text) => text.split(/[^\p{L}\p{N}]+/u).filter(Boolean).join("-");
  return `${plain(document.querySelector("h1").textContent).slice(0, 60)}-${plain(panel.querySelector("h2").textContent)}.${name}`;
}

// A picture stands alone: it has a title, a legend and a ground of its own.
export async function savePicture(panel, element, format) {
  const ground = getComputedStyle(panel).backgroundColor;
  const ink = getComputedStyle(panel).color;
  const caption = panel.querySelector("[data-caption]")?.textContent ?? "";
  const title = `<b>${panel.querySelector("h2").textContent}</b>  ${caption}`;
  const curves = !["tradeoff", "savings"].includes(element.dataset.chart);
  const layout = {
    ...element.layout,
    ...SIZE,
    paper_bgcolor: ground,
    title: { text: title, x: 0.02, xanchor: "left", font: { size: 15, color: ink } },
    margin: { ...element.layout.margin, t: 52, ...(curves ? { b: 70 } : {}) },
    showlegend: curves,
    legend: { orientation: "h", y: -0.12, font: { color: ink } },
  };
  const data = element.data.map((trace) => ({ ...trace, showlegend: !trace.fill && trace.hoverinfo !== "skip" }));
  const picture = await window.Plotly.toImage({ data, layout }, { format, ...SIZE, scale: format === "png" ? 2 : 1 });
  download(picture, fileName(panel, `${currentTheme()}.${format}`));
}

export function saveNumbers(element, kind) {
  const url = new URL(document.body.dataset.figures.replace("figures.json", `numbers.${kind}`), location.href);
  for (const [name, value] of figureParams()) if (name === "x") url.searchParams.set(name, value);
  url.searchParams.set("name", element.dataset.chart);
  download(url, "");
}

export function startChartFiles() {
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("[data-save]");
    if (!button) return;
    const panel = button.closest(".chart");
    const element = panel.querySelector("[data-chart]");
    button.closest("details").open = false;
    const kind = button.dataset.save;
    if (kind === "csv" || kind === "json") saveNumbers(element, kind);
    else if (element.data) await savePicture(panel, element, kind).catch(() => toast("The picture could not be made."));
  });
}
