// Tell a screen reader what has changed: one line, what happens by itself at most each ten seconds.

const SAY_AGAIN_MS = 10_000;

// The page's line can't be heard while the panel is open, so that has one, too.
const line = () =>
  document.querySelector("dialog.panel[open] [role=status]") ?? document.getElementById("said");

let saidAt = -SAY_AGAIN_MS;
let waiting = 0;

/** Say a text: what a person asked for at once, everything else when ten seconds are over. */
export function say(text, asked = false) {
  clearTimeout(waiting);
  waiting = setTimeout(
    () => {
      saidAt = performance.now();
      line().textContent = text;
    },
    asked ? 0 : Math.max(0, saidAt + SAY_AGAIN_MS - performance.now()),
  );
}
