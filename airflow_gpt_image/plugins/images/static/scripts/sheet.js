// Draw a sheet: the page of a batch, or of a mapped task.

import { h, has } from "./elements.js";
import { chips, figures, liveMark, pager, placeSwitch, select, spentLine, statusBar } from "./heads.js";
import { icon } from "./icons.js";
import { state } from "./state.js";
import { tileItem } from "./tiles.js";
import { count, imageCount, statusWord } from "./words.js";

export function sheetPage() {
  const batch = state.shown.kind === "batch";
  const captions = state.shown.captions ?? [];
  const placeholder = batch
    ? `Filter by ${captions[0] && captions[0] !== "prompt" ? `${captions[0]}, ` : ""}prompt or any column  ( / )`
    : "Filter by prompt";
  const field = h(
    "label.field",
    null,
    icon("search"),
    h("span.hidden", null, "Filter"),
    h("input", {
      type: "search",
      placeholder,
      value: state.query.text ?? "",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: 200,
    }),
  );
  const tools = [
    field,
    captions.length > 1 &&
      select(
        "Caption",
        "caption",
        captions.map((name) => [name, name]),
        state.shown.caption ?? captions[0],
      ),
    batch &&
      select(
        "Sort",
        "sort",
        [
          ["row", "Row"],
          ["price", "Price"],
          ["seconds", "Seconds"],
          ["status", "Status"],
        ],
        state.query.sort ?? "row",
      ),
    (batch || state.shown.pages > 1) && pager(),
  ];
  const links = (state.shown.links ?? []).map(
    (link) => has(link.url) && h("a", { href: link.url, download: "" }, link.label),
  );
  const top = batch
    ? [
        placeSwitch(state.shown.switch),
        figures(state.shown.figures),
        h("div.aside", null, liveMark(), links.some(Boolean) && h("p.links", null, links)),
      ]
    : [
        placeSwitch(state.shown.switch),
        h("p.counted", null, `${count(state.shown.counts.done)} of ${imageCount(state.shown.counts.all)}`),
        spentLine(state.shown.figures),
        liveMark(),
      ];
  const none = state.shown.total === 0 && state.shown.counts.all > 0;
  return [
    h(
      "header.head",
      null,
      h("div.top", null, top),
      statusBar(state.shown.counts),
      batch
        ? [chips(state.shown.counts), h("div.tools", null, tools)]
        : h("div.tools", null, chips(state.shown.counts), tools),
    ),
    none
      ? nothingMatches(captions)
      : h(
          "ul.tiles.sheet",
          { "aria-label": "Images" },
          state.shown.tiles.map((tile) => tileItem(tile, true)),
        ),
    state.shown.pages > 1 && h("div.foot", null, pager("Pages, below")),
  ];
}

/** Say that the filters find nothing. */
function nothingMatches(captions) {
  const what = state.query.text
    ? `Nothing matches “${state.query.text}”`
    : `Nothing is ${statusWord(state.query.status).toLowerCase()}`;
  const where = [captions[0] !== "prompt" && captions[0], "prompt or another column"]
    .filter(Boolean)
    .join(", ");
  const why = state.query.text
    ? `${imageCount(state.shown.counts.all)}, none of them with this in ${state.shown.kind === "batch" ? where : "its prompt"}.`
    : `${imageCount(state.shown.counts.all)}, none of them with this status.`;
  return h(
    "div.card",
    null,
    icon("search"),
    h("h2", null, what),
    h("p.muted", null, why),
    h("button.small", { type: "button", "data-do": "clear" }, "Clear filters"),
  );
}
