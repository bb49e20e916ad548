// Do what a person asks for with the mouse, in a field or in a list.

import { airflow, airflowPage } from "./airflow.js";
import { fullSize, openFull } from "./full_size.js";
import { icon } from "./icons.js";
import { change, load } from "./live.js";
import { shownImage } from "./loading.js";
import { openTile, turn } from "./opening.js";
import { panel } from "./panel.js";
import { main, redraw, remember, state } from "./state.js";
import { say } from "./status_line.js";

// Not each letter that is typed is asked for.
const TYPING_MS = 100;

async function copy(button) {
  const from = button.parentElement.querySelector("[data-text]");
  try {
    await navigator.clipboard.writeText(from.textContent);
    say("Copied.", true);
    button.replaceChildren(icon("done"));
    setTimeout(() => button.replaceChildren(icon("copy")), 2000);
  } catch {
    // Without https the clipboard is out of reach: the person copies what is selected.
    getSelection().selectAllChildren(from);
    say("Selected. Press Control and C to copy it.", true);
  }
}

const DO = {
  copy: (button) => copy(button),
  status: (button) => change({ status: button.dataset.value || null }),
  clear: () => {
    const field = main.querySelector("input[type=search]");
    if (field) field.value = "";
    change({ status: null, text: null });
    field?.focus();
  },
  page: async (button) => {
    state.query.page = Number(button.dataset.value);
    remember();
    await load();
    state.at = null;
    redraw();
    scrollTo(0, 0);
    say(`Page ${state.shown.page} of ${state.shown.pages}.`, true);
  },
  open: (button) => openTile(button.dataset.value),
  run: (button) => change({ run: button.dataset.value }),
  image: (button) => {
    shownImage.set(button.dataset.of, Number(button.dataset.value));
    redraw();
  },
  full: (button) => openFull(button.dataset.value, button.dataset.alt),
  turn: (button) => turn(Number(button.dataset.value)),
  close: () => panel.close(),
  unfull: () => fullSize.close(),
};

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-place]");
  const there = link && airflow && airflowPage(link.dataset.place);
  if (there && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    // The frame's sandbox forbids _top: Airflow's router follows its own history.
    event.preventDefault();
    airflow.history.pushState({}, "", there);
    airflow.dispatchEvent(new airflow.PopStateEvent("popstate"));
    return;
  }
  const button = event.target.closest("button[data-do]");
  if (button) DO[button.dataset.do]?.(button);
});
document.addEventListener("change", (event) => {
  const name = event.target.matches("select[data-do]") && event.target.dataset.do;
  if (name) change({ [name]: event.target.value });
});
document.addEventListener(
  "input",
  (event) =>
    event.target.matches("input[type=search]") &&
    change({ text: event.target.value.trim() || null }, TYPING_MS),
);
document.addEventListener("focusin", (event) => {
  const tile = event.target.closest?.(".sheet .tile, .run");
  if (!tile) return;
  if (tile.matches(".tile")) state.at = tile.dataset.value;
  for (const one of tile.closest("ul").querySelectorAll(".tile, .run")) one.tabIndex = one === tile ? 0 : -1;
});
