// Draw the pages of a run and of a Dag: tasks with their tiles, runs with their spending.

import { linkTo } from "./airflow.js";
import { h } from "./elements.js";
import { figures, liveMark, select } from "./heads.js";
import { pictureWithFacts } from "./picture.js";
import { state } from "./state.js";
import { box, signFor, tileList } from "./tiles.js";
import { count, dollars, imageCount, minute, statusWord } from "./words.js";

const taskSection = (one) =>
  h(
    "section",
    { "data-key": `k${one.task_id}` },
    h(
      "h2",
      null,
      linkTo(one.place, {}, [one.task_id, one.indexes > 0 && ` [${count(one.indexes)}]`], "a.plain"),
      " ",
      h(
        "span.muted",
        null,
        `${one.counts.done < one.counts.all ? `${count(one.counts.done)} of ` : ""}${imageCount(one.counts.all)} · ${dollars(one.usd)}`,
      ),
    ),
    tileList(one.tiles),
    one.more > 0 && h("p", null, linkTo(one.place, {}, [`Show all ${count(one.count)}`], "a.small")),
  );

export const runPage = () => [
  figures(state.shown.figures),
  liveMark(),
  (state.shown.tasks ?? []).map(taskSection),
  !state.shown.tasks?.length && h("p.muted", null, "No images in this run yet."),
];

/** Draw how large a share is, upright or lying. */
const upright = (share) =>
  h(
    "svg.upright",
    { "aria-hidden": "true", preserveAspectRatio: "none" },
    h("rect", { y: `${100 - percent(share)}%`, width: "100%", height: `${percent(share)}%` }),
  );
export const lying = (share) =>
  h("svg.lying", { "aria-hidden": "true" }, h("rect", { width: `${percent(share)}%`, height: "100%" }));
export const percent = (share) => Math.min(100, Math.max(0, Number(share) || 0) * 100);

/** Draw the choice of how many runs are shown. */
const runsChoice = () =>
  select(
    "Runs",
    "runs",
    (state.shown.ranges ?? []).map((runs) => [String(runs), `Last ${runs}`]),
    String(state.shown.query?.runs ?? ""),
  );

export function dagPage() {
  const runs = state.shown.runs ?? [];
  const chosen = state.shown.chosen;
  const inChosen = Array.isArray(chosen) ? chosen : (chosen?.tasks ?? []);
  const now = state.query.run ?? chosen?.run_id ?? runs[0]?.run_id;
  const open = chosen?.run_id ? chosen : runs.find((one) => one.run_id === now);
  const listed = runs.some((one) => one.run_id === now);
  const item = (one, index) =>
    h(
      "li",
      { "data-key": `r${one.run_id}` },
      h(
        "button.run",
        {
          type: "button",
          "data-do": "run",
          "data-value": one.run_id,
          "aria-pressed": one.run_id === now,
          tabindex: one.run_id === now || (!listed && index === 0) ? 0 : -1,
          class: index ? "run" : "run newest",
        },
        upright(one.share),
        h("span.usd", null, dollars(one.usd)),
        one.image || one.status
          ? box({ ...one, money: null })
          : h("span.box.bare", null, signFor("image", "None")),
        h("span.date", null, minute(one.date)),
        h(
          "span.sub",
          null,
          one.images || !one.status ? imageCount(one.images) : statusWord(one.status).toLowerCase(),
        ),
        lying(one.share),
      ),
    );
  return [
    h("div.top", null, figures(state.shown.figures), runsChoice()),
    h("h2.minor", null, "Spend and images by run"),
    runs.length
      ? h("ul.runs", { "aria-label": "Runs, newest first" }, runs.map(item))
      : h("p.muted", null, "No runs with images yet."),
    open &&
      h(
        "h2.minor.chosen",
        null,
        minute(open.date),
        h(
          "span.muted",
          null,
          " · ",
          linkTo(open.place, {}, [open.run_id], "a.plain"),
          ` · ${dollars(open.usd)}`,
        ),
      ),
    chosen?.picture ? pictureWithFacts(chosen.picture) : inChosen.map(taskSection),
  ];
}
