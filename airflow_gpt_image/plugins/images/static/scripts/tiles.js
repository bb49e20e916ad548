// Draw a sheet's tiles: a square with the picture, or with the reason why there is none.

import { linkTo } from "./airflow.js";
import { h, has, safeAddress } from "./elements.js";
import { PATHS, icon } from "./icons.js";
import { broken, reasonFor } from "./loading.js";
import { tabStop } from "./state.js";
import { statusWord } from "./words.js";

/** Draw what stands in a box in place of a picture. */
export const signFor = (status, name, reason) =>
  h(
    "span.sign",
    null,
    h("span.word", null, h(`span.ink.${status}`, null, icon(PATHS[status] ? status : "image")), name),
    has(reason) && h("span.reason", null, reason),
  );

export function thumbnail(image, alt = "", size = 256) {
  const [first, second] = [safeAddress(image.thumb), safeAddress(image.thumb2)];
  const srcset = first && second && second !== first ? `${first} 1x, ${second} 2x` : null;
  return h("img", { src: first, srcset, alt, width: size, height: size, loading: "lazy", decoding: "async" });
}

/** Draw a tile's square: its picture, or why there is none. */
export function box(tile) {
  const image = tile.image;
  if (image && !image.problem && safeAddress(image.thumb) && !broken.has(safeAddress(image.thumb))) {
    return h("span.box", null, thumbnail(image));
  }
  if (image)
    return h("span.box.bare", null, signFor("store", "Not shown", reasonFor(image, safeAddress(image.thumb))));
  return h("span.box.bare", null, signFor(tile.status, statusWord(tile.status), tile.reason ?? tile.money));
}

/** Draw a sheet's tile: a button that opens the panel, or a link to the tile's own page. */
export function tileItem(tile, opens) {
  const label = [tile.caption, statusWord(tile.status), tile.sub].filter(has).join(", ");
  const inside = [box(tile), h("span.caption", null, tile.caption), h("span.sub", null, tile.sub)];
  if (opens) {
    const current = tile.key === tabStop();
    const attributes = {
      type: "button",
      "data-do": "open",
      "data-value": tile.key,
      "aria-label": label,
      tabindex: current ? 0 : -1,
    };
    return h("li", { "data-key": `t${tile.key}` }, h("button.tile", attributes, inside));
  }
  const link = tile.place
    ? linkTo(tile.place, { "aria-label": label }, inside, "a.tile")
    : h("span.tile", null, inside);
  return h("li", { "data-key": `t${tile.key}@${tile.place ?? ""}` }, link);
}
export const tileList = (list) =>
  h(
    "ul.tiles",
    null,
    (list ?? []).map((tile) => tileItem(tile, false)),
  );
