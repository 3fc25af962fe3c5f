// What the reader chose on a page stands in its address: shared, reopened and reloaded, it shows the same.

const TABLE_PARAMS = ["table", "sort", "q", "cols", "sel"];

export function param(name, otherwise = "") {
  return new URLSearchParams(location.search).get(name) ?? otherwise;
}

// Sets parameters without a new entry in the history; an empty one is taken out.
export function setParams(changes) {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  url.search = url.search.replaceAll("%2C", ",").replaceAll("%2F", "/");
  history.replaceState(null, "", url);
}

// Asks for the page's live parts as the address now wants them.
export function refresh() {
  document.body.dispatchEvent(new CustomEvent("natlab:refresh"));
}

export function startState() {
  // Live parts are always those of the address as it stands, not as it stood when the page came.
  document.body.addEventListener("htmx:configRequest", (event) => {
    if (document.hidden) event.preventDefault(); // nobody looks; when somebody does, all is fetched at once
    event.detail.path = location.pathname + location.search;
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-state-link]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const asked = new URLSearchParams(link.search);
    setParams(Object.fromEntries(TABLE_PARAMS.map((name) => [name, asked.get(name)]))); // charts keep their own
    document.dispatchEvent(new CustomEvent("natlab:state"));
    refresh();
  });
}
