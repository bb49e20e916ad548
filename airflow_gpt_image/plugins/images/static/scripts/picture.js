// Draw one picture as large as there is room, with its facts beside it.

import { h, has, safeAddress } from "./elements.js";
import { actions, facts } from "./facts.js";
import { doubt, failure, notKept } from "./failures.js";
import { placeSwitch } from "./heads.js";
import { icon } from "./icons.js";
import { broken, chosenImage, loaded, reasons } from "./loading.js";
import { state } from "./state.js";
import { codeBlock, paragraphs } from "./texts.js";
import { thumbnail } from "./tiles.js";
import { statusWord, ticks } from "./words.js";

/** Return a picture's shape in pixels, or one of its ratio. */
function shape(picture, image) {
  if (image?.width > 0 && image?.height > 0) return [image.width, image.height];
  const [, wide, high] = /^(\d{1,3}):(\d{1,3})$/.exec(picture.ratio ?? "") ?? [0, 1, 1];
  return [wide * 100 || 100, high * 100 || 100];
}

/** Draw a picture as large as there is room, its other pictures below; or what is there in its place. */
export function stage(picture, preview) {
  const image = chosenImage(picture);
  if (image) {
    const several =
      (picture.images?.length ?? 0) > 1 &&
      h(
        "ul.strip",
        { "aria-label": "Images" },
        picture.images.map((one, index) => stripItem(picture, one, index, image)),
      );
    return h("div.stage", null, large(picture, image, preview), several);
  }
  if (!picture.images && picture.status !== "in_flight") {
    // Its details are on their way: what the tile says is right, and nothing more is known.
    return h(
      "div.stage",
      null,
      h(
        "div.card",
        null,
        icon(picture.status),
        h("h2", null, statusWord(picture.status)),
        h("p", null, picture.reason),
        h("p", null, picture.money),
      ),
    );
  }
  if (picture.status === "failed") return h("div.stage", null, failure(picture));
  if (picture.status === "unknown") return h("div.stage", null, doubt(picture));
  const [width, height] = shape(picture, null);
  return h(
    "div.stage",
    null,
    h(
      "div.waiting",
      null,
      // It has the picture's shape, so that nothing moves when the picture comes.
      h("svg.sizer", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }),
      h(
        "div",
        null,
        picture.status === "in_flight" && h("span.pulse"),
        h("h2", null, picture.status === "in_flight" ? "The API is making this picture" : "Not sent yet"),
        h(
          "p.number",
          null,
          has(picture.since) && [ticks("since", picture.since), " so far"],
          [picture.ratio, picture.tier]
            .filter(has)
            .map((part, index) => `${index || has(picture.since) ? " · " : ""}${part}`),
        ),
        h(
          "p.fine",
          null,
          picture.status === "in_flight"
            ? [
                "This page shows it when it is stored.",
                picture.deferred && " No worker slot is held meanwhile.",
              ]
            : picture.reason,
        ),
      ),
    ),
  );
}

const stripItem = (picture, image, index, shown) =>
  h(
    "li",
    null,
    h(
      "button.thumb",
      {
        type: "button",
        "data-do": "image",
        "data-value": index,
        "data-of": picture.key,
        "aria-pressed": image === shown,
        "aria-label": `Image ${index + 1} of ${picture.images.length}`,
      },
      image.problem ? icon("store") : thumbnail(image, "", 96),
    ),
  );

function large(picture, image, preview) {
  const source = safeAddress(image.stage);
  if (image.problem || !source || broken.has(source)) return unseen(image, picture, source);
  const [width, height] = shape(picture, image);
  const shown = preview && !loaded.has(source) ? (safeAddress(preview) ?? source) : source;
  return h("img.large", {
    src: shown,
    alt: picture.prompt || picture.caption,
    width,
    height,
    decoding: "async",
  });
}

/** Say why a picture isn't shown. Its first line is a heading where there are two. */
function unseen(image, picture, source) {
  const lost =
    picture.kept === false ? "The API has it no more, or can't be reached." : "The picture did not load.";
  // That it isn't kept is said above, with what to do.
  const problem = /^Not kept\./.test(image.problem) ? "Not shown here." : image.problem;
  const told = String(problem ?? reasons.get(source) ?? lost);
  const [, first, rest] = /^([^\n]+?[.:])\s+(?=[A-Z])([^]+)$/.exec(told) ?? [null, told, ""];
  return h(
    "div.card",
    null,
    icon("store"),
    h("h2", null, first.trim().replace(/\.$/, "")),
    paragraphs(rest),
    has(image.path) && codeBlock(image.path),
  );
}

export const pictureWithFacts = (picture) =>
  h("div.one", null, stage(picture), h("div.side", null, facts(picture), actions(picture)));

export function singlePage() {
  const picture = state.shown.picture;
  const unkept = picture.status === "done" && picture.kept === false;
  return [
    h("div.top", null, placeSwitch(state.shown.switch)),
    unkept && notKept(picture),
    pictureWithFacts(picture),
  ];
}
