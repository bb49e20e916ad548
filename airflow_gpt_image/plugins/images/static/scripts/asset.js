// Draw the page of an asset: its newest picture, then its events.

import { linkTo } from "./airflow.js";
import { h } from "./elements.js";
import { pictureWithFacts } from "./picture.js";
import { state } from "./state.js";
import { tileItem } from "./tiles.js";
import { minute } from "./words.js";

export const assetPage = () => [
  state.shown.newest
    ? pictureWithFacts(state.shown.newest)
    : h("p.muted", null, "No image of this asset yet."),
  (state.shown.events ?? []).length > 0 && h("h2", null, "Events"),
  h(
    "ul.events",
    null,
    (state.shown.events ?? []).map((one) =>
      h(
        "li",
        null,
        h(
          "p",
          null,
          h("b", null, minute(one.time)),
          " ",
          linkTo(one.place, {}, [`${one.dag_id} · ${one.run_id}`]),
        ),
        h(
          "ul.strip",
          null,
          (one.tiles ?? []).map((tile) => tileItem(tile, false)),
        ),
      ),
    ),
  ),
];
