// @ts-check
/** @import { Pause } from "./types.ts" */
// The word "paused" on a tile: it opens the panel of pauses, and shows the reasons while it is pointed at or focused.
import { button, h, set, setText } from "./dom.js";
import { whyPaused } from "./pauses.js";

export class PausedMark {
  #tip;
  #button;
  element;

  /** @param {string} name of the tile @param {() => void} open */
  constructor(name, open) {
    this.#tip = h("span.tip", { role: "tooltip", id: `paused-${name}` });
    this.#button = button("holds", "paused", open, { "aria-describedby": `paused-${name}` });
    this.element = h("span.held", { hidden: true }, this.#button, this.#tip);
  }

  /** @param {string} what is paused @param {Pause[]} pauses */
  show(what, pauses) {
    this.element.hidden = !pauses.length;
    set(this.#button, "aria-label", `${what} paused: see the pauses`);
    setText(this.#tip, whyPaused(pauses));
  }
}
