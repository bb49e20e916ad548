// Begin: show the document that the page came with.

import "./clicks.js";
import "./iteration.js";
import "./keys.js";
import "./page.js";
import { decode } from "./airflow.js";
import { has } from "./elements.js";
import { fullSize } from "./full_size.js";
import { pollAgain, take } from "./live.js";
import { openTile } from "./opening.js";
import { panel } from "./panel.js";
import { indexOf, redraw, state } from "./state.js";

document.body.append(panel, fullSize);
take(JSON.parse(document.getElementById("document").textContent));
// What the server made of the address counts, not the address.
for (const key of ["page", "status", "text", "sort", "caption", "days", "run", "runs"]) {
  if (has(state.shown.query?.[key])) state.query[key] = state.shown.query[key];
}
redraw();
if (location.hash.length > 1 && indexOf(decode(location.hash.slice(1))) >= 0)
  openTile(decode(location.hash.slice(1)));
pollAgain();
