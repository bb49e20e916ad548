// Write numbers, money, times and statuses as people read them.

import { h, has } from "./elements.js";
import { state } from "./state.js";

export const count = (number) => Number(number ?? 0).toLocaleString("en-US");
export const imageCount = (number) => `${count(number)} ${number === 1 ? "image" : "images"}`;
export const dollars = (text) =>
  Number(text) === 0 && !/\.\d\d$/.test(text)
    ? "$0"
    : `$${String(text).replace(/^\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ","))}`;
const moment = (iso) => (has(iso) && !Number.isNaN(Date.parse(iso)) ? new Date(iso) : null);
export const day = (iso, options = {}) =>
  moment(iso)?.toLocaleString("en-US", { month: "short", day: "numeric", timeZone: "UTC", ...options }) ??
  iso;
export const minute = (iso) => day(iso, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const clock = (iso) => moment(iso)?.toISOString().slice(11, 19);
export const timestamp = (iso) => {
  const text = moment(iso)?.toISOString();
  return (
    text &&
    h("time", { datetime: text }, `${text.slice(0, 10)} ${text.slice(11, 19)}`, h("span.muted", null, " UTC"))
  );
};

/** Return how long ago something was, in words that tick. */
function ago(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}
const ticking = {
  since: (iso) => ago(Date.now() - state.clockSkew - Date.parse(iso)),
  heard: () => ago(Date.now() - state.heardAt),
};
export const ticks = (kind, value = "") =>
  h("span.number", { "data-tick": kind, "data-of": value }, ticking[kind](value));

export const ORDER = ["done", "failed", "unknown", "in_flight", "not_sent"];
export const statusWord = (status) =>
  ({ done: "Done", failed: "Failed", unknown: "Unknown", not_sent: "Not sent" })[status] ??
  (state.shown.kind === "batch" ? "In flight" : "Waiting");

setInterval(() => {
  for (const one of document.querySelectorAll("[data-tick]")) {
    const text = ticking[one.dataset.tick](one.dataset.of);
    if (one.textContent !== text) one.textContent = text;
  }
}, 1000);
