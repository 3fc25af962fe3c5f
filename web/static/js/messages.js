// Short messages to the reader: a toast for what went wrong, a quiet line for screen readers.

let hideTimer;

export function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(hideTimer);
  hideTimer = setTimeout(() => (place.hidden = true), 8000);
}

export function announce(text) {
  document.getElementById("announce").textContent = text;
}

// The sentence of an RFC 9457 problem document, or the status when the answer is something else.
export async function problemText(response) {
  try {
    return (await response.json()).detail || `The server answered ${response.status}.`;
  } catch {
    return `The server answered ${response.status}.`;
  }
}
