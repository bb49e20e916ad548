// Open, turn and close the panel of a sheet's tile, and fetch the tile's details.

import { details, load } from "./live.js";
import { drawPanel, last, panel } from "./panel.js";
import { PLACE, PREFIX, indexOf, main, redraw, remember, search, state } from "./state.js";
import { say } from "./status_line.js";
import { statusWord } from "./words.js";

/** Open the panel of a tile, or show it there: at once what the tile says, then its details. */
export async function openTile(key) {
  state.opened = state.at = key;
  drawPanel();
  if (panel.open) say(`${last.tile.caption}, ${statusWord(last.tile.status)}`, true);
  else panel.showModal();
  remember();
  if (details.has(key)) return;
  let picture;
  try {
    const answer = await fetch(`${PREFIX}/data/${PLACE}/tile/${encodeURIComponent(key)}${search()}`);
    picture = answer.ok
      ? await answer.json()
      : { failed: "The details did not load. Open it again to try once more." };
  } catch {
    picture = { failed: "The details did not load: the server does not answer." };
  }
  details.set(key, picture);
  if (panel.open && state.opened === key) drawPanel();
  if (picture.failed) details.delete(key);
}

/** Show the next or the previous picture, also over the end of a page. */
export async function turn(step) {
  const found = indexOf(state.opened);
  let index = found >= 0 ? found + step : last.index + Math.min(step, 0);
  if (index < 0 || index >= state.shown.tiles.length) {
    const wanted = state.shown.page + step;
    if (wanted < 1 || wanted > state.shown.pages) return;
    state.query.page = wanted;
    await load();
    if (state.shown.page !== wanted || !state.shown.tiles.length) return;
    index = step > 0 ? 0 : state.shown.tiles.length - 1;
  }
  await openTile(state.shown.tiles[index].key);
}

panel.addEventListener("close", () => {
  state.at = state.opened;
  state.opened = null;
  remember();
  redraw();
  focusTile(state.at);
});

/** Put the focus on a tile. */
function focusTile(key) {
  const button = [...main.querySelectorAll(".sheet .tile")].find((one) => one.dataset.value === key);
  if (button) button.focus({ preventScroll: false });
}
