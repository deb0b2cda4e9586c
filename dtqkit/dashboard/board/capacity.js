// @ts-check
/** @import { View } from "./parts.ts" */
// The panel for a capacity plan: a place that the page around the board may fill (the slot `capacity`).
import { h } from "./dom.js";

function make() {
  const question = h("strong", "How many workers will be enough?");
  const hint = "Ask dtqkit plan --jobs-per-day …, or capacity.explore(…) in a notebook.";
  return { element: h(".listing", h("slot", { name: "capacity" }, h(".note", question, hint))) };
}

/** @type {View} */
export const view = { name: "Capacity", make };
