// Draw the overview: the latest pictures, and what was spent by day, Dag and connection.

import { linkTo } from "./airflow.js";
import { h } from "./elements.js";
import { figures } from "./heads.js";
import { lying, percent } from "./runs.js";
import { state } from "./state.js";
import { tileList } from "./tiles.js";
import { count, day, dollars } from "./words.js";

export function overviewPage() {
  const days = state.shown.days ?? [];
  const most = days.reduce((best, one) => (Number(one.usd) > Number(best?.usd ?? 0) ? one : best), null);
  const told = most ? `most: ${dollars(most.usd)} on ${day(most.date)}` : "nothing spent";
  const table = (name, head, rows) =>
    h(
      "section.card",
      null,
      h("h2", null, name),
      h(
        "table",
        null,
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "col" }, head),
            h("th.right", { scope: "col" }, "Images"),
            h("td.share"),
            h("th.right", { scope: "col" }, "Spent"),
          ),
        ),
        h(
          "tbody",
          null,
          (rows ?? []).map((row) =>
            h(
              "tr",
              null,
              h("th", { scope: "row" }, row.place ? linkTo(row.place, {}, [row.name]) : row.name),
              h("td.right", null, count(row.images)),
              h("td.share", null, lying(row.share)),
              h("td.right", null, dollars(row.usd)),
            ),
          ),
        ),
      ),
    );
  const bar = (one, index) => {
    const width = 100 / days.length;
    const height = Math.max(percent(one.share), 0.8);
    return h(
      "rect",
      {
        x: `${index * width + width * 0.12}%`,
        width: `${width * 0.76}%`,
        y: `${100 - height}%`,
        height: `${height}%`,
        class: index === days.length - 1 ? "newest" : null,
      },
      h("title", null, `${day(one.date)}: ${dollars(one.usd)}`),
    );
  };
  return [
    figures(state.shown.figures),
    h(
      "section",
      null,
      h("div.top", null, h("h2", null, "Latest"), h("p.fine.muted", null, "Of the Dags you may see")),
      state.shown.latest?.length ? tileList(state.shown.latest) : h("p.muted", null, "No images yet."),
    ),
    h(
      "section.card",
      null,
      h("h2", null, "Spend by day"),
      h("svg.days", { role: "img", "aria-label": `Spend by day; ${told}` }, days.map(bar)),
      h(
        "p.scale",
        null,
        h("span", null, days.length ? day(days[0].date) : ""),
        h("span", null, told),
        h("span", null, days.length ? day(days.at(-1).date) : ""),
      ),
    ),
    h(
      "div.pair",
      null,
      table("By Dag", "Dag", state.shown.by_dag),
      table("By connection", "Connection", state.shown.by_connection),
    ),
  ];
}
