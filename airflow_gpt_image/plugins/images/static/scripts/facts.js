// List what is known of a picture, and what can be done with it.

import { linkTo } from "./airflow.js";
import { h, has, safeAddress } from "./elements.js";
import { icon } from "./icons.js";
import { chosenImage, isUsable } from "./loading.js";
import { state } from "./state.js";
import { copyButton } from "./texts.js";
import { clock, count, dollars, timestamp } from "./words.js";

const fact = (label, value, wide = false) =>
  has(value) &&
  value !== false &&
  h(wide ? "div.wide" : "div", null, h("dt", null, label), h("dd", null, value));
const copied = (label, value, name) =>
  has(value) &&
  h(
    "div.wide",
    null,
    h("dt", null, label),
    h("dd.copied", null, h("code", { "data-text": true }, value), copyButton(name)),
  );

const priced = (picture, amount = picture.price) =>
  has(amount) && [
    dollars(amount),
    has(picture.credits) && h("span.muted", null, ` (${picture.credits} credits)`),
  ];

/** List what is known of a picture; of one whose details are still on their way only the prompt. */
export function facts(picture, known = true) {
  const image = chosenImage(picture);
  const status = picture.status;
  const tries = picture.tries;
  const list = [
    image?.width && image?.height && fact("Size", `${image.width} × ${image.height}`),
    has(picture.ratio) &&
      (status === "done" || status === "not_sent") &&
      fact("Ratio", [picture.ratio, has(picture.tier) && h("span.muted", null, ` · ${picture.tier}`)]),
    status === "unknown"
      ? fact("At stake", priced(picture))
      : fact(
          status === "done" || status === "not_sent" ? "Price" : "Charged",
          priced(picture, status === "failed" && Number(picture.paid) > 0 ? picture.paid : picture.price),
        ),
    status === "in_flight" && fact("API status", picture.api_status ?? "processing"),
    status === "in_flight" && fact("If it fails", "refunded by the API", true),
    status === "failed" && picture.refunded && fact("Refunded", dollars(picture.price ?? "0")),
    status === "failed" && tries && fact("Tries", `${tries.number} of ${tries.most}`),
    ["done", "failed"].includes(status) && has(picture.seconds) && fact("Took", `${picture.seconds} s`),
    status === "unknown" && fact("Sent", has(picture.since) && `${clock(picture.since)} UTC`),
    status === "unknown" && fact("Why", picture.message, true),
    status === "unknown" && copied("Connection", picture.connection, "Copy connection"),
    has(picture.row) && fact("Row", count(picture.row)),
    has(picture.variant) && fact("Variant", String(picture.variant)),
    Object.entries(picture.columns ?? {}).map(([name, value]) =>
      fact(name, value, String(value).length > 24),
    ),
    status === "done" &&
      (has(image?.path)
        ? copied("Stored at", image.path, "Copy path")
        : picture.kept === false && fact("Stored at", "nowhere of yours", true)),
    copied("Generation", picture.generation_id, "Copy generation id"),
    status === "in_flight" && has(picture.since) && fact("Submitted", timestamp(picture.since), true),
    status === "done" && has(picture.time) && fact("Made", timestamp(picture.time), true),
  ];
  return h(
    "div.facts",
    null,
    picture.reused && h("p", null, h("span.badge.done", null, "Reused, nothing paid")),
    has(picture.prompt) && h("div.prompt", null, h("h2.label", null, "Prompt"), h("p", null, picture.prompt)),
    known && h("dl", null, list),
  );
}

export function actions(picture) {
  const image = chosenImage(picture);
  const usable = isUsable(image);
  const own =
    state.shown.kind !== "single" &&
    picture.place &&
    h("span.own", null, linkTo(picture.place, {}, ["Open task"]));
  if (!usable && !own) return null;
  return h(
    "div.actions",
    null,
    usable &&
      safeAddress(image.download) &&
      h("a.button.primary", { href: image.download, download: "" }, icon("download"), "Download"),
    usable &&
      safeAddress(image.full) &&
      h(
        "button.button",
        {
          type: "button",
          "data-do": "full",
          "data-value": safeAddress(image.full),
          "data-alt": picture.prompt || picture.caption,
        },
        icon("full"),
        "Full size",
      ),
    own,
  );
}
