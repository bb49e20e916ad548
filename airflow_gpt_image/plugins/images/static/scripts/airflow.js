// Find Airflow's window around the frame, and lead to its pages and to our own.

import { h } from "./elements.js";
import { AIRFLOW, PREFIX } from "./state.js";

/** Return Airflow's window if this page is in a tab of it; it is of the same origin. */
export const airflow = (() => {
  try {
    return parent !== window && parent.location.origin === location.origin ? parent : null;
  } catch {
    return null;
  }
})();
export const tabbed = airflow !== null;

export const decode = (part) => {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
};
// Airflow underlines a tab only where `:` and `+` of a run's id stand as they are.
const encode = (part) => encodeURIComponent(decode(part)).replace(/%(3A|2B|40)/g, decodeURIComponent);

/** Return a place's path, safe to stand behind our prefix; null for anything else. */
export function safePlace(place) {
  const parts = String(place ?? "").split("/");
  const right =
    /^(task|mapped|task-runs|run|dag|asset|all)$/.test(parts[0]) &&
    parts.every((part) => part && !/^\.+$/.test(decode(part)));
  return right ? parts.map(encode).join("/") : null;
}

/** Return the address of the page of Airflow's whose Images tab shows a place; null where there is none. */
export function airflowPage(place) {
  const [kind, first, second, third, index] = place.split("/");
  const mapped = /^\d+$/.test(index) ? `/mapped/${index}` : "";
  const pages = {
    task: [`dags/${first}/runs/${second}/tasks/${third}${mapped}`, "task-instance"],
    run: [`dags/${first}/runs/${second}`, "dag-run"],
    dag: [`dags/${first}`, "dag"],
    "task-runs": [`dags/${first}/tasks/${second}`, "task"],
  };
  return pages[kind] && !/^loop-/.test(index)
    ? `${AIRFLOW}/${pages[kind][0]}/plugin/gpt-images-${pages[kind][1]}`
    : null;
}

/** Draw a link to a place; one that is none is plain text. */
export function linkTo(place, attributes, inside, name = "a") {
  const safe = safePlace(place);
  return safe
    ? h(name, { href: `${PREFIX}/${safe}`, "data-place": safe, ...attributes }, inside)
    : h(name.replace(/^a/, "span"), null, inside);
}
