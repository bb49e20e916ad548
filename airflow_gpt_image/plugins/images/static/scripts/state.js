// What the page shows now and where: the document, how it was asked for, and the tile that is open.

import { has } from "./elements.js";

// Addresses: of our own pages, of Airflow's, and the path of the place that this page shows.
const SCRIPT = new URL(import.meta.url).pathname;
export const PREFIX = SCRIPT.slice(0, SCRIPT.lastIndexOf("/static/"));
export const AIRFLOW = PREFIX.slice(0, PREFIX.lastIndexOf("/"));
export const PLACE = location.pathname.slice(PREFIX.length + 1);

export const main = document.getElementById("images");

export const state = {
  /** The document that is shown, as the server made it. */
  shown: {},
  /** How it is asked for: page, status, text, sort, caption, days, run, runs. */
  query: {},
  /** Why the last request had no answer, in words. */
  trouble: null,
  /** When the server was heard last, and by how much its clock and the browser's differ, in milliseconds. */
  heardAt: Date.now(),
  clockSkew: 0,
  /** The key of the tile whose panel is open, and of the one that is the sheet's tab stop. */
  opened: null,
  at: null,
};

export const indexOf = (key) => (state.shown.tiles ?? []).findIndex((tile) => tile.key === key);
export const tabStop = () => (indexOf(state.at) >= 0 ? state.at : state.shown.tiles?.[0]?.key);

const DEFAULTS = { page: 1, sort: "row", days: 30, runs: 14 };

/** Return what stands behind the address for the filters and the page, as the server reads it. */
export function search() {
  const given = Object.entries(state.query).filter(
    ([key, value]) => has(value) && String(value) !== String(DEFAULTS[key]),
  );
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** Put filters, page and open tile into the address, so that it can be loaded again and sent to somebody. */
export const remember = () =>
  history.replaceState(
    history.state,
    "",
    location.pathname + search() + (state.opened === null ? "" : `#${encodeURIComponent(state.opened)}`),
  );

/** Draw the page and the panel again, as the state is now. */
export const redraw = () => document.dispatchEvent(new Event("redraw"));
export const redrawPanel = () => document.dispatchEvent(new Event("redraw-panel"));
