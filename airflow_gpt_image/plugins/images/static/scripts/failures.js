// Say what went wrong with a picture: what happened, the money, what to do.

import { tabbed } from "./airflow.js";
import { h, has } from "./elements.js";
import { icon } from "./icons.js";
import { chosenImage, isUsable } from "./loading.js";
import { state } from "./state.js";
import { paragraphs } from "./texts.js";
import { clock, dollars } from "./words.js";

export const notice = (tone, title, ...inside) =>
  h(
    `section.notice.${tone}`,
    null,
    icon(tone === "unknown" ? "unknown" : "alert"),
    h("div", null, h("h2", null, title), inside),
  );
const whereToClear = () => (tabbed ? " with ↻ above" : " in Airflow");
const inCredits = (picture) => has(picture.credits) && ` (${picture.credits} credits)`;

const KEEP_STATE = " with “Keep task state and resume” ticked";

/** Say what failed (the API, its picture on the way to us, the task), the money, and what to do. */
export function failure(picture) {
  const answer = [picture.code, picture.message].filter(has).join(": ") || picture.reason;
  const paid = Number(picture.paid) > 0 && !picture.refunded;
  const ofApi = has(picture.code) || picture.refunded;
  const title = paid
    ? "The picture is paid for and not stored"
    : ofApi
      ? "The API could not make this picture"
      : "The task failed before anything was paid";
  const money = picture.refunded
    ? "Refunded."
    : paid
      ? `Paid: ${dollars(picture.paid)}.`
      : "Nothing was charged.";
  const again = ["Clear the task", whereToClear()];
  const pays = has(picture.price) ? [". A new try pays ", dollars(picture.price), inCredits(picture), " once."] : " to try again.";
  const steps = paid
    ? [[again, picture.outlives_clear ? "" : KEEP_STATE, ": it is fetched again without a new charge."]]
    : ofApi
      ? [
          "If the prompt may hold something the API refuses, change it in the Dag.",
          [again, pays],
          [
            "If it fails again with another prompt, the service may be down: wait, or set ",
            h("code", null, "retries"),
            ".",
          ],
        ]
      : ["Mend in the Dag, or in the connection, what it says.", [again, pays]];
  return [
    notice(
      "failed",
      title,
      has(answer) && [
        h("p.muted", null, ofApi && !paid ? "It answered:" : "It said:"),
        h("blockquote", null, answer),
      ],
      h(
        "p",
        null,
        h("b", null, money),
        has(picture.spent) && ` This task has spent ${dollars(picture.spent)}.`,
      ),
    ),
    state.shown.kind === "single" &&
      h(
        "section",
        null,
        h("h2.minor", null, "What to do"),
        h(
          "ol.steps",
          null,
          steps.map((step) => h("li", null, h("span", null, step))),
        ),
      ),
  ];
}

/** Say that nobody knows whether a picture is paid for, and what can be decided. */
export function doubt(picture) {
  const at = clock(picture.since);
  const paid = [
    has(picture.price) && [" At stake: ", h("b", null, dollars(picture.price)), inCredits(picture), "."],
    " Nothing is sent again until you decide.",
  ];
  return [
    notice(
      "unknown",
      "This picture may or may not be paid for",
      h(
        "p",
        null,
        at
          ? `The request was sent at ${at} UTC and no answer came back.`
          : "The request was sent and no answer came back.",
        paid,
      ),
    ),
    h(
      "h2.minor",
      null,
      at
        ? `Look in your account: is there a charge at ${at} UTC?`
        : "Look in your account: is there a charge?",
    ),
    (picture.deciding ?? []).map((one) =>
      h(
        "section.card",
        null,
        h("h3", null, one.title),
        paragraphs(String(one.text).replace("clear the task.", `clear the task${whereToClear()}.`)),
      ),
    ),
  ];
}

/** Say that only the API has a picture, and what can be done. */
export function notKept(picture) {
  const begin = isUsable(chosenImage(picture)) ? "Download it now, or set " : "Set ";
  const again = `${picture.outlives_clear ? "" : KEEP_STATE}: fetching it again pays nothing.`;
  const told = "This picture is only at the API, which does not keep it for ever. ";
  const set = [begin, h("code", null, 'destination="…"'), " on the task and clear it", again];
  return notice("unknown.alert", "Not kept", h("p", null, told, set));
}
