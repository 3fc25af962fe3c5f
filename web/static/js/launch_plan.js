// What each budget is expected to cost: drawn by the server anew as the draft changes, or what it is reckoned with.
import { announce } from "./messages.js";

const TYPING_MS = 250;
const panel = document.getElementById("cost");
const place = document.getElementById("cost-table");
let drafted = null; // the newest document without faults
let asked = 0;
let typing = null;

const inputs = () => [...panel.querySelectorAll("[data-plan]")];

function assumed() {
  const given = inputs().filter((input) => input.value.trim() !== "");
  const number = (text) => (Number.isFinite(Number(text)) ? Number(text) : text); // else the server says what is wrong
  return Object.fromEntries(given.map((input) => [input.dataset.plan, input.type === "text" ? number(input.value) : input.value]));
}

function showFaults(faults) {
  for (const input of inputs().filter((one) => one.type === "text")) {
    const found = faults.find(({ pointer }) => pointer === `/${input.dataset.plan}`);
    const fault = panel.querySelector(`[data-plan-fault="${input.dataset.plan}"]`);
    fault.hidden = !found;
    fault.textContent = found?.detail ?? "";
    if (found) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
}

// A screen reader hears the warnings when they change, not the table at every letter.
function sayWarnings(before) {
  const now = warnings();
  if (now && now !== before) announce(now);
}

const warnings = () => [...place.querySelectorAll(".notice")].map((notice) => notice.textContent.trim()).join(" ");

async function ask() {
  const mine = (asked += 1);
  try {
    const response = await fetch(panel.dataset.url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ document: drafted, ...assumed() }),
    });
    if (mine !== asked) return; // something newer is on its way
    if (response.status === 422) showFaults((await response.json()).errors ?? []);
    if (!response.ok) return;
    showFaults([]);
    const drawn = await response.text();
    if (mine !== asked) return;
    const before = warnings();
    place.innerHTML = drawn;
    sayWarnings(before);
    const { dataset } = place.querySelector("[data-assumed]");
    for (const input of inputs()) if (input.dataset.plan in dataset) input.placeholder = dataset[input.dataset.plan];
    place.classList.remove("stale");
  } catch {
    // The server is away: what was said last stays, and the next change asks again.
  }
}

// A draft with faults has no plan: what was said last stays, in the faintest ink that is still read.
export function showPlan(document_) {
  place.classList.toggle("stale", !document_);
  if (!document_ || JSON.stringify(document_) === JSON.stringify(drafted)) return;
  drafted = document_;
  ask();
}

export function startPlan() {
  panel.addEventListener("input", () => {
    clearTimeout(typing);
    if (drafted) typing = setTimeout(ask, TYPING_MS);
  });
}
