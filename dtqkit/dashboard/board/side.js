// @ts-check
/** @import { SidePanel } from "./parts.ts" */
// The place on the right for one panel: a job, or the form.
import { button, focusedIn, h } from "./dom.js";

export class Side {
  /** @type {SidePanel | null} */
  panel = null;
  /** What had the focus before. @type {HTMLElement | null} */
  #opener = null;
  element = h("aside.side", { "aria-labelledby": "panel-title", hidden: true });

  /** @param {() => void} close */
  constructor(close) {
    this.onclose = close;
  }

  /** @param {SidePanel} panel */
  open(panel) {
    if (!this.panel) this.#opener = /** @type {HTMLElement | null} */ (focusedIn(this.element));
    this.panel?.close?.();
    this.panel = panel;
    const close = button("plain.icon-only.close", "×", this.onclose, { "aria-label": "Close", title: "Close (Esc)" });
    this.element.replaceChildren(close, panel.element);
    this.element.hidden = false;
    panel.title.focus({ preventScroll: true });
  }

  /** Returns what had the focus before, if it is still there. */
  close() {
    this.panel?.close?.();
    this.panel = null;
    this.element.hidden = true;
    this.element.replaceChildren();
    return this.#opener?.isConnected ? this.#opener : null;
  }
}
