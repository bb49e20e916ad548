// Draw the panel of a sheet: one tile's picture and facts, over the whole frame.

import { h, morph, safeAddress } from "./elements.js";
import { actions, facts } from "./facts.js";
import { icon } from "./icons.js";
import { details } from "./live.js";
import { chosenImage, loadAhead } from "./loading.js";
import { stage } from "./picture.js";
import { indexOf, state } from "./state.js";
import { count } from "./words.js";

export const panel = h("dialog.panel", { "aria-labelledby": "panel-title" });
// A tile may leave the page while its panel is open: what was shown of it last, and where it was.
export let last = { tile: null, index: 0 };

export function drawPanel() {
  const found = indexOf(state.opened);
  if (found >= 0) last = { tile: state.shown.tiles[found], index: found };
  const { tile, index } = last;
  const picture = { columns: {}, ...tile, ...details.get(state.opened) };
  const number = state.shown.first + index;
  const arrow = (way, name, can) =>
    h(
      `button.arrow.${way}`,
      {
        type: "button",
        "data-do": "turn",
        "data-value": way === "after" ? 1 : -1,
        "aria-label": name,
        disabled: !can,
      },
      icon(way),
    );
  const key = (...names) => names.map((name) => h("kbd", null, name));
  const tree = h(
    "dialog.panel",
    { "aria-labelledby": "panel-title", open: panel.open },
    h(
      "header",
      null,
      h("h2", { id: "panel-title" }, tile.caption),
      h("span.fine.muted.number", null, `${count(number)} of ${count(state.shown.total)}`),
      h("button.quiet", { type: "button", "data-do": "close", "aria-label": "Close" }, icon("close")),
    ),
    h(
      "div.view",
      null,
      arrow("before", "Previous image", number > 1),
      stage(picture, tile.image?.thumb2 ?? tile.image?.thumb),
      arrow("after", "Next image", number < state.shown.total),
    ),
    h(
      "div.side",
      null,
      h(
        "div.scroll",
        { tabindex: 0, role: "group", "aria-label": "Facts" },
        details.get(state.opened)?.failed && h("p.muted", null, details.get(state.opened).failed),
        facts(picture, details.has(state.opened)),
      ),
      actions(picture),
    ),
    h("p.hidden", { role: "status" }, panel.open && panel.querySelector("[role=status]").textContent),
    h(
      "footer",
      null,
      h("span", null, key("←", "→"), "previous, next"),
      h("span", null, key("F"), "full size"),
      h("span", null, key("D"), "download"),
      h("span", null, key("C"), "copy path"),
      h("span", null, key("Esc"), "close"),
    ),
  );
  morph(panel, tree);
  loadAhead(chosenImage(picture));
  for (const near of [state.shown.tiles[index + 1], state.shown.tiles[index - 1]])
    if (near?.image?.thumb2) new Image().src = safeAddress(near.image.thumb2) ?? "";
}

for (const event of ["redraw", "redraw-panel"])
  document.addEventListener(event, () => panel.open && drawPanel());
