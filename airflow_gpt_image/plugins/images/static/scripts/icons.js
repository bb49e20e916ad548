// Draw the icons: lines of 24 by 24 pixels.

import { h } from "./elements.js";

export const PATHS = {
  done: "M20 6 9 17l-5-5",
  failed: "M18 6 6 18M6 6l12 12",
  in_flight: "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 7v5l3 2",
  unknown: "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M9.3 9.2a2.8 2.8 0 0 1 5.4.9c0 1.9-2.7 2.6-2.7 2.6M12 16.5v.1",
  not_sent: "M5 12h14",
  alert: "M12 3.5 2.5 20h19ZM12 10v4M12 17v.1",
  copy: "M9 9h11v11H9ZM5 15H4V4h11v1",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  full: "M15 4h5v5M20 4 4 20M9 20H4v-5",
  search: "M11 4a7 7 0 1 0 0 14a7 7 0 1 0 0-14M20 20l-4-4",
  before: "M15 5l-7 7 7 7",
  after: "M9 5l7 7-7 7",
  close: "M18 6 6 18M6 6l12 12",
  image: "M4 4h16v16H4ZM4 17l5-5 4 4 3-3 4 4M8.5 7.5a1 1 0 1 0 0 2a1 1 0 1 0 0-2",
  gone: "M8 4h12v12M20 20H4V4M3 3l18 18",
  store: "M4 6c0-4 16-4 16 0v12c0 4-16 4-16 0ZM4 6c0 4 16 4 16 0M4 12c0 4 16 4 16 0",
  lock: "M5 11h14v9H5ZM8 11V7.5a4 4 0 0 1 8 0V11",
};
export const icon = (name) =>
  h(
    "svg.icon",
    { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    h("path", { d: PATHS[name] }),
  );
