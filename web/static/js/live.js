// One event stream a tab. What it says is passed on as two events: `natlab:refresh` (htmx fetches the
// page's live parts) and `natlab:metrics` (charts fetch their figures), never more often than once a second.
import { announce } from "./messages.js";

const APART_MS = 1000;
const POLL_MS = 5000;
const SILENT_MS = 45_000; // the server says something every 15 s: a line that is silent for longer has died unnoticed
const states = new Map();
let source = null;
let poll = null;
let heardAt = 0;
let heard = false; // whether the line was ever open: once it is again, what was said meanwhile is fetched

// Calls at most once in APART_MS; a call that comes too early is made later, not dropped.
function spaced(call) {
  let last = 0;
  let timer = null;
  return () => {
    if (timer) return;
    timer = setTimeout(
      () => {
        timer = null;
        last = Date.now();
        call();
      },
      Math.max(0, last + APART_MS - Date.now()),
    );
  };
}

const refresh = spaced(() => document.body.dispatchEvent(new CustomEvent("natlab:refresh")));
const metrics = spaced(() => document.dispatchEvent(new CustomEvent("natlab:metrics")));

function both() {
  refresh();
  metrics();
}

// A page of some runs of all, which hears of all, heeds those alone.
function concerns(id) {
  const { runs } = document.body.dataset;
  return !runs || runs.split(",").includes(id);
}

function onMetrics(event) {
  if (concerns(JSON.parse(event.data).run_id)) both();
}

function onRun(event) {
  const run = JSON.parse(event.data);
  if (!concerns(run.id)) return;
  const before = states.get(run.id);
  if (before && before !== run.state) announce(`${run.label}, seed ${run.seed}: ${run.state}`);
  states.set(run.id, run.state);
  refresh();
  // Savings count finished runs, and after the end no metrics come that would fetch them.
  if (before !== run.state) metrics();
}

function show(tone, word) {
  const pill = document.getElementById("live");
  pill.hidden = false;
  if (pill.lastElementChild.textContent === word) return;
  pill.className = `pill ${tone}`;
  pill.lastElementChild.textContent = word;
}

function open(url) {
  heardAt = Date.now();
  source = new EventSource(url);
  for (const event of ["open", "ping", "run", "metrics", "resync"]) source.addEventListener(event, () => (heardAt = Date.now()));
  source.addEventListener("open", () => {
    show("good", "live");
    if (heard) both();
    heard = true;
  });
  source.addEventListener("error", () => {
    show("warn", "reconnecting");
    if (source?.readyState === EventSource.CLOSED) pollAndRetry(url);
  });
  source.addEventListener("run", onRun);
  source.addEventListener("metrics", onMetrics);
  source.addEventListener("resync", both);
}

// The browser reconnects by itself, unless it was answered by something other than a stream.
function pollAndRetry(url) {
  clearTimeout(poll);
  poll = setTimeout(() => {
    both();
    open(url);
  }, POLL_MS);
}

// After a sleep, or behind a box that drops idle lines, the browser may wait for ever on a line that nobody holds.
function reopenIfSilent(url) {
  if (!source || source.readyState !== EventSource.OPEN || Date.now() - heardAt < SILENT_MS) return;
  show("warn", "reconnecting");
  close();
  open(url);
}

function close() {
  source?.close();
  source = null;
  clearTimeout(poll);
}

export function startLive() {
  const url = document.body.dataset.stream;
  if (!url) return;
  open(url);
  document.addEventListener("visibilitychange", () => {
    close();
    if (document.hidden) return;
    open(url);
    both();
  });
  addEventListener("pagehide", close);
  setInterval(() => reopenIfSilent(url), SILENT_MS / 3);
}
