// The Logs tab: the newest line stays in view until the reader scrolls up or says so.

const NEAR_PX = 24;

export function startLog() {
  const follow = document.getElementById("follow");
  const log = () => document.querySelector("#logs .log");
  let place = 0;

  function show() {
    const now = log();
    if (now) now.scrollTop = follow.checked ? now.scrollHeight : place;
  }

  // Scroll events do not bubble, but they can be caught on their way down; the part itself is replaced as lines come.
  document.addEventListener(
    "scroll",
    ({ target }) => {
      if (target !== log()) return;
      place = target.scrollTop;
      follow.checked = target.scrollHeight - target.scrollTop - target.clientHeight < NEAR_PX;
    },
    true,
  );
  follow.addEventListener("change", show);
  document.body.addEventListener("htmx:oobAfterSwap", show);
  show();
}
