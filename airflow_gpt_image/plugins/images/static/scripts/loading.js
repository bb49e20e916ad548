// Know of a picture's images: which one is shown, which have come, and which could not be had and why.

import { safeAddress } from "./elements.js";
import { redraw, redrawPanel } from "./state.js";

export const loaded = new Set();
export const broken = new Set();
export const reasons = new Map();

/** The number of the image that is shown of a picture of several, by the picture's key. */
export const shownImage = new Map();
export const chosenImage = (picture) =>
  picture.images?.[shownImage.get(picture.key) ?? 0] ?? picture.images?.[0] ?? picture.image ?? null;

/** Return whether an image can be loaded, as far as is known. */
export const isUsable = (image) => {
  const source = safeAddress(image?.stage);
  return source !== null && !image.problem && !broken.has(source);
};

/** Load the picture for the stage behind its thumbnail. */
export function loadAhead(image) {
  const source = safeAddress(image?.stage);
  if (!source || image.problem || loaded.has(source) || broken.has(source)) return;
  const loading = new Image();
  loading.onload = () => {
    loaded.add(source);
    redrawPanel();
  };
  loading.onerror = () => failedToLoad(source);
  loading.src = source;
}

/** Return why a picture did not come: as the server said it, else in words of our own. */
export const reasonFor = (image, source) => image.problem ?? reasons.get(source) ?? "The picture did not load.";

let asked = Promise.resolve();

/** Remember that a picture can't be had, and ask the server for its reason. */
function failedToLoad(source) {
  if (!source || broken.has(source)) return;
  broken.add(source);
  redraw();
  // One at a time: a store that doesn't answer has enough to do.
  asked = asked.then(() => askWhy(source)).then(redraw);
}

async function askWhy(source) {
  if (new URL(source).origin !== location.origin) return;
  try {
    const answer = await fetch(source);
    if (!answer.ok && /^text\/plain/.test(answer.headers.get("Content-Type") ?? ""))
      reasons.set(source, (await answer.text()).slice(0, 300));
  } catch {
    // The page's own words say enough.
  }
}

// By its first address, also where the screen had the browser ask for a larger one.
document.addEventListener(
  "error",
  (event) => event.target.tagName === "IMG" && failedToLoad(safeAddress(event.target.src)),
  true,
);
