// Do what a person asks for with the keyboard.

import { fullSize } from "./full_size.js";
import { change } from "./live.js";
import { turn } from "./opening.js";
import { panel } from "./panel.js";
import { main } from "./state.js";

const inField = (target) => target.matches?.("input, select, textarea");
const plainKey = (event) => !event.ctrlKey && !event.metaKey && !event.altKey;

/** Move along a list of which one element is a tab stop. */
function move(event, list, stop) {
  const all = [...list.children];
  const here = all.indexOf(stop.closest("li"));
  const columns = Math.max(
    1,
    all.findIndex((one) => one.offsetTop !== all[0].offsetTop) === -1
      ? all.length
      : all.findIndex((one) => one.offsetTop !== all[0].offsetTop),
  );
  const rows = Math.max(1, Math.floor((innerHeight - 100) / (all[0].offsetHeight + 12)));
  const forward = getComputedStyle(list).flexDirection === "row-reverse" ? -1 : 1;
  const down = columns === all.length ? 0 : columns;
  const steps = {
    ArrowRight: forward,
    ArrowLeft: -forward,
    ArrowDown: down,
    ArrowUp: -down,
    PageDown: down * rows,
    PageUp: -down * rows,
    Home: -here,
    End: all.length - 1 - here,
  };
  if (!(event.key in steps)) return;
  event.preventDefault();
  let there = here + steps[event.key];
  if (/^Page/.test(event.key)) there = Math.min(all.length - 1, Math.max(0, there));
  all[there]?.querySelector("button")?.focus();
}

document.addEventListener("keydown", (event) => {
  if (!plainKey(event) || event.defaultPrevented) return;
  const target = event.target;
  if (fullSize.open) return;
  if (panel.open) {
    if (inField(target)) return;
    const keys = {
      ArrowLeft: () => turn(-1),
      ArrowRight: () => turn(1),
      f: () => panel.querySelector("[data-do=full]")?.click(),
      d: () => panel.querySelector("a[download]")?.click(),
      c: () => panel.querySelector("[aria-label='Copy path']")?.click(),
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!keys[key]) return;
    event.preventDefault();
    keys[key]();
    return;
  }
  const stop = target.closest?.(".sheet .tile, .run");
  if (stop) move(event, stop.closest("ul"), stop);
  if (event.key === "Escape" && target.matches?.("input[type=search]") && target.value) {
    target.value = "";
    change({ text: null });
  }
  if (inField(target)) return;
  if (event.key === "/") {
    const field = main.querySelector("input[type=search]");
    if (field) event.preventDefault();
    field?.focus();
  }
  const way = { "[": "before", "]": "after" }[event.key];
  const index = ["before", "after"].indexOf(way);
  const buttons = main.querySelectorAll(".head .pager button");
  if (index >= 0 && buttons[index] && !buttons[index].disabled) buttons[index].click();
});
