// Ask the server for the document: when a person filters, and every three seconds of what is still at work.

import { PLACE, PREFIX, redraw, remember, search, state } from "./state.js";
import { say } from "./status_line.js";
import { count, imageCount, statusWord } from "./words.js";

const POLL_MS = 3_000;

/** Details of the tiles that were opened, by key. */
export const details = new Map();

let etag = null;
let asking = null;
let polling = 0;

/** Take a document: as it was embedded, or as it was answered. */
export function take(told) {
  const before = state.shown;
  state.shown = told;
  const made = Date.parse(state.shown.updated);
  state.heardAt = Date.now();
  if (!Number.isNaN(made)) state.clockSkew = state.heardAt - made;
  for (const tile of state.shown.tiles ?? []) {
    if (before.tiles?.find((one) => one.key === tile.key)?.status !== tile.status) details.delete(tile.key);
  }
  if (state.shown.kind === "single" && before.kind && before.picture?.status !== state.shown.picture.status)
    say(`${statusWord(state.shown.picture.status)}.`);
  else if (state.shown.counts && before.counts && before.counts.done !== state.shown.counts.done)
    say(`${count(state.shown.counts.done)} of ${imageCount(state.shown.counts.all)} done.`);
}

/** Ask for the document of what is shown now; only the latest question's answer counts. */
export async function load() {
  asking?.abort();
  const mine = (asking = new AbortController());
  clearTimeout(polling);
  const address = `${PREFIX}/data/${PLACE}${search()}`;
  const known = etag?.address === address ? { "If-None-Match": etag.value } : {};
  try {
    const answer = await fetch(address, { headers: known, cache: "no-store", signal: mine.signal });
    if (answer.status === 304) {
      state.heardAt = Date.now();
      state.trouble = null;
    } else if (answer.ok) {
      const told = await answer.json();
      if (mine.signal.aborted) return;
      etag = { address, value: answer.headers.get("ETag") ?? "" };
      state.trouble = null;
      take(told);
    } else {
      state.trouble =
        answer.status === 401
          ? "Log in again."
          : answer.status === 403
            ? "You may not see this Dag any more."
            : "The server has an error. Trying again.";
      if ([401, 403, 404].includes(answer.status)) state.shown.live = false;
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    state.trouble = "The server does not answer. Trying again.";
  }
  if (mine.signal.aborted) return;
  redraw();
  pollAgain();
}

/** Ask again in three seconds, while something is at work and somebody looks. */
export function pollAgain() {
  clearTimeout(polling);
  if (state.shown.live && !document.hidden) polling = setTimeout(load, POLL_MS);
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(polling);
  else if (state.shown.live) load();
});

let typing = 0;
/** Change filters and ask for what they find, once nothing has been typed for a while. */
export function change(changes, wait = 0) {
  state.query = { ...state.query, page: 1, ...changes };
  clearTimeout(typing);
  typing = setTimeout(async () => {
    remember();
    await load();
    if (state.shown.counts)
      say(state.shown.total ? `${imageCount(state.shown.total)}.` : "Nothing matches.", true);
  }, wait);
}
