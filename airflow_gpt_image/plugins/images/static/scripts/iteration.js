// Follow Airflow from one iteration of a Task Loop to another: it opens the same frame for all of them.

import { airflow } from "./airflow.js";
import { PLACE, PREFIX } from "./state.js";

const LOOK_AGAIN_MS = 500;

/** Return how Airflow's address (3.4) names the iteration that it shows; empty where it names none. */
function named() {
  const query = new URLSearchParams(airflow.location.search);
  const [id, index] = [query.get("region_id"), query.get("region_index")];
  return id && index ? String(new URLSearchParams({ region_id: id, region_index: index })) : "";
}

/** Open an iteration's own page: the server knows which one that is. */
const open = (region) => location.replace(`${PREFIX}/${PLACE}?${region}`);

if (airflow && /^task\//.test(PLACE)) {
  const begun = named();
  const isOwn = /\/loop-[^/]*$/.test(PLACE) || new URLSearchParams(location.search).has("region_id");
  if (begun && !isOwn) open(begun);
  setInterval(() => named() && named() !== begun && open(named()), LOOK_AGAIN_MS);
}
