// Draw the whole page, of whichever kind its document is.

import { assetPage } from "./asset.js";
import { h, has, morph } from "./elements.js";
import { emptyPage } from "./empty.js";
import { notice } from "./failures.js";
import { liveMark, select } from "./heads.js";
import { overviewPage } from "./overview.js";
import { singlePage } from "./picture.js";
import { dagPage, runPage } from "./runs.js";
import { sheetPage } from "./sheet.js";
import { main, state } from "./state.js";
import { marked } from "./texts.js";
import { ownStyle } from "./theme.js";

const KINDS = {
  single: singlePage,
  sheet: sheetPage,
  batch: sheetPage,
  run: runPage,
  dag: dagPage,
  asset: assetPage,
  overview: overviewPage,
  empty: emptyPage,
  problem: emptyPage,
};
// What these say is said by the picture's own part of the page.
const SAID_BELOW =
  /^(Not kept\.|This picture may or may not be paid for|The picture is paid for and not stored)/;

function render() {
  const draw =
    KINDS[state.shown.kind] ?? (() => h("p", null, "This page is older than the server. Load it again."));
  const notices = (state.shown.notices ?? []).filter(
    (one) => state.shown.kind !== "single" || !SAID_BELOW.test(one.what),
  );
  const title =
    state.shown.kind === "overview"
      ? [
          h("h1", null, "Images"),
          select(
            "Range",
            "days",
            (state.shown.ranges ?? []).map((days) => [String(days), `Last ${days} days`]),
            String(state.query.days ?? state.shown.query?.days ?? 30),
            true,
          ),
        ]
      : h("h1.hidden", null, state.shown.title || "Images");
  const whole = h(
    "main",
    { id: "images", class: `page-${state.shown.kind}` },
    state.shown.kind === "overview" ? h("div.top", null, title) : title,
    state.trouble && !["sheet", "batch"].includes(state.shown.kind) && liveMark(),
    notices.map((one) => {
      const [, first, rest] = /^(.{1,120}?[.:!])\s+(\S[^]*)$/.exec(one.what) ?? [null, one.what, ""];
      return notice(
        "unknown.alert",
        first.replace(/\.$/, ""),
        h("p", null, marked([rest, one.money, one.do].filter(has).join(" "))),
      );
    }),
    draw(),
  );
  morph(main, whole);
  document.title = `${state.shown.title || "Images"} · Images`;
  for (const field of main.querySelectorAll("select")) {
    if (field !== document.activeElement) field.value = field.dataset.now;
  }
  const head = main.querySelector(".page-batch .head, .head");
  if (head) ownStyle.setProperty("--head", `${Math.ceil(head.offsetHeight)}px`);
}

document.addEventListener("redraw", render);
