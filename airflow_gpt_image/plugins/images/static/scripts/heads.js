// Draw what stands above pictures: figures, bar, chips, switch, pages, the live mark.

import { safePlace } from "./airflow.js";
import { h, has } from "./elements.js";
import { icon } from "./icons.js";
import { PREFIX, state } from "./state.js";
import { ORDER, count, statusWord, ticks } from "./words.js";

/** Draw the numbers that stand above all. */
export const figures = (list) =>
  (list ?? []).length > 0 &&
  h(
    "dl.figures",
    null,
    list.map((one) =>
      h(
        "div",
        null,
        h("dt", null, one.label),
        h("dd", null, one.value, has(one.note) && h("small", null, ` ${one.note}`)),
      ),
    ),
  );

/** Draw how many there are of each status; each that exists can be seen. */
export function statusBar(counts) {
  const shares = ORDER.filter((status) => counts[status] > 0).map((status) => [
    status,
    Math.max(counts[status] / counts.all, 0.003),
  ]);
  const whole = shares.reduce((sum, [, share]) => sum + share, 0);
  let x = 0;
  const parts = shares.map(([status, share]) => {
    const width = (share / whole) * 100;
    const part = h(`rect.mark.${status}`, { x: `${x}%`, width: `${width}%`, height: 8 });
    x += width;
    return part;
  });
  const said = shares
    .map(([status]) => `${count(counts[status])} ${statusWord(status).toLowerCase()}`)
    .join(", ");
  return h("svg.bar", { role: "img", "aria-label": said || "Nothing yet", height: 8 }, parts);
}

/** Draw the choice of a status, with how many have it. */
export function chips(counts) {
  const chosen = state.query.status ?? null;
  const shown = ORDER.filter((status) => counts[status] > 0 || chosen === status);
  const chip = (status, name, number) =>
    h(
      "button.chip",
      {
        type: "button",
        "data-do": "status",
        "data-value": status,
        "aria-pressed": (status || null) === chosen,
      },
      status && h(`span.mark.${status}`),
      `${name} `,
      h("b", null, count(number)),
    );
  return h(
    "div.chips",
    { role: "group", "aria-label": "Status" },
    chip("", "All", counts.all),
    shown.map((status) => chip(status, statusWord(status), counts[status])),
  );
}

/** Draw a choice from a list. */
export const select = (name, action, options, value, unnamed = false) =>
  h(
    "label.select",
    null,
    h(unnamed ? "span.hidden" : "span", null, name),
    h(
      "select",
      { "data-do": action, "data-now": value },
      options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
    ),
  );

/** Draw the switch between one task instance and all of its task. */
export const placeSwitch = (given) =>
  given &&
  h(
    "nav.switch",
    { "aria-label": "Images" },
    [
      ["this", "This image"],
      ["all", `All ${count(given.count)}`],
    ].map(([which, name]) =>
      h(
        "a",
        {
          href: `${PREFIX}/${safePlace(given[which])}`,
          "aria-current": given.current === which ? "page" : null,
        },
        name,
      ),
    ),
  );

/** Say what came of a sheet's images in dollars: what was paid first. */
export const spentLine = (list) =>
  h(
    "p.spent",
    null,
    (list ?? [])
      .filter((one) => /^\$/.test(one.value))
      .map((one, index) => [
        index > 0 && " · ",
        h(index ? "span" : "b", null, one.value),
        ` ${one.label.toLowerCase()}`,
      ]),
  );

/** Say that the page is live, or why it isn't up to date. */
export const liveMark = () =>
  state.trouble
    ? h("p.live.stale", null, `Not updated for `, ticks("heard"), `. ${state.trouble}`)
    : state.shown.live && h("p.live", null, h("span.dot"), "Live · updated ", ticks("heard"), " ago");

/** Draw which tiles are shown of how many, and the way to the others. */
export const pager = (name = "Pages") =>
  (state.shown.pages > 1 || state.shown.total > 0) &&
  h(
    "nav.pager",
    { "aria-label": name },
    h(
      "span.number",
      null,
      `${count(state.shown.first)}–${count(state.shown.last)} of ${count(state.shown.total)}`,
    ),
    state.shown.pages > 1 &&
      [
        ["before", "Previous page", state.shown.page > 1],
        ["after", "Next page", state.shown.page < state.shown.pages],
      ].map(([way, name, can]) =>
        h(
          "button.small",
          {
            type: "button",
            "data-do": "page",
            "data-value": state.shown.page + (way === "after" ? 1 : -1),
            "aria-label": name,
            disabled: !can,
          },
          icon(way),
        ),
      ),
  );
