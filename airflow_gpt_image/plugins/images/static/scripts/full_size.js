// Show a picture in its own pixels, inside the frame: the frame's sandbox opens no other window.

import { h, morph } from "./elements.js";
import { icon } from "./icons.js";

export const fullSize = h("dialog.full", { "aria-label": "Full size" });

/** Open a picture full size. */
export function openFull(address, alt) {
  morph(
    fullSize,
    h(
      "dialog.full",
      { "aria-label": "Full size", open: fullSize.open },
      h(
        "button.quiet",
        { type: "button", "data-do": "unfull", "aria-label": "Close full size" },
        icon("close"),
      ),
      h("div.pan", { tabindex: 0, role: "group", "aria-label": "Picture" }, h("img", { src: address, alt })),
    ),
  );
  if (!fullSize.open) fullSize.showModal();
}
fullSize.addEventListener("close", () => fullSize.replaceChildren());
