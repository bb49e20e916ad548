// Follow Airflow's theme: light or dark, and a deployment's own colours.

import { airflow } from "./airflow.js";

/** Properties of the page's root that are set here; there is no attribute `style`. */
export const ownStyle = (() => {
  const sheet = new CSSStyleSheet();
  sheet.insertRule(":root {}");
  document.adoptedStyleSheets = [sheet];
  return sheet.cssRules[0].style;
})();
// Ours and Chakra's names of the same colours: a deployment's own theme is followed.
const COLOURS = {
  page: "bg",
  text: "fg",
  muted: "fg-muted",
  line: "border",
  edge: "border-emphasized",
  stage: "bg-muted",
  track: "bg-emphasized",
  link: "fg-info",
  focus: "brand-focus-ring",
  brand: "brand-solid",
  "brand-hover": "brand-700",
  spend: "brand-500",
};

function theme() {
  const root = airflow?.document.documentElement;
  let dark = root?.classList.contains("dark");
  if (!root || !(dark || root.classList.contains("light"))) {
    let chosen = "system";
    try {
      chosen = localStorage.getItem("theme") ?? "system";
    } catch {
      // No storage: as the system has it.
    }
    dark = chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  }
  document.documentElement.className = dark ? "dark" : "light";
  const given = root && airflow.getComputedStyle(root);
  for (const [name, chakra] of Object.entries(COLOURS)) {
    const value = given?.getPropertyValue(`--chakra-colors-${chakra}`).trim();
    if (value) ownStyle.setProperty(`--${name}`, value);
    else ownStyle.removeProperty(`--${name}`);
  }
}
theme();
if (airflow)
  new MutationObserver(theme).observe(airflow.document.documentElement, {
    attributes: true,
    attributeFilter: ["class", "style"],
  });
addEventListener("storage", theme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
