// Draw the page of a place where nothing can be shown: why, and what to do.

import { h } from "./elements.js";
import { placeSwitch } from "./heads.js";
import { icon } from "./icons.js";
import { state } from "./state.js";
import { marked, paragraphs } from "./texts.js";

const SIGNS = [
  [/may not|root|log in/i, "lock"],
  [/read|server/i, "store"],
  [/gone/i, "gone"],
  [/yet/i, "in_flight"],
];
export function emptyPage() {
  const sign =
    SIGNS.find(([words]) => words.test(state.shown.what))?.[1] ??
    (state.shown.kind === "problem" ? "alert" : "image");
  return [
    placeSwitch(state.shown.switch),
    h(
      "section.card.alone",
      null,
      icon(sign),
      h("h2", null, marked(state.shown.what)),
      paragraphs(state.shown.why),
      paragraphs(state.shown.do),
    ),
  ];
}
