// @ts-check
/** @import { Child } from "./parts.ts" */
// What stands around the panels: the bar, the tabs, the place for a panel, and notices.
import { button, h, icon, set } from "./dom.js";

const NOTICE_MS = 5_000;

/**
 * @typedef {object} Parts
 * @property {string[]} names of the tabs
 * @property {(name: string) => void} onopen a tab was pressed
 * @property {() => void} onsubmit the button "Submit job" was pressed
 * @property {() => void} onclose Escape was pressed
 * @property {() => void} onfind the search is wanted
 * @property {Child} light in the bar
 * @property {Child} banner below it
 * @property {Child} overview the first row
 * @property {Child} side on the right
 * @property {Child} prompt in place of the rest
 */

export class Frame {
  /** Whether the first row has left the view. */
  scrolled = false;
  #view = h(".view");
  #edge = h(".edge");
  #toast = h(".toast", { role: "status" });
  /** A timer of the notice. @type {number | undefined} */
  #notice;

  /** @param {Parts} parts */
  constructor(parts) {
    const { names, onopen, onsubmit, overview, side } = parts;
    this.parts = parts;
    this.submit = button("primary", "Submit job", onsubmit, { title: "n", "aria-keyshortcuts": "n" });
    this.tabs = names.map((name) => button("tab", name, () => onopen(name)));
    const tabs = h("nav.tabs", { "aria-label": "Views" }, this.tabs);
    const scroller = h(".scroller", overview, this.#edge, tabs, this.#view);
    this.main = h("main", scroller, side);
    this.element = h(
      ".board",
      { tabindex: "-1", onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) },
      h("header.bar", h("h1", icon("mark"), "dtqkit"), parts.light, this.submit),
      parts.banner,
      this.main,
      parts.prompt,
      this.#toast,
    );
    // An observer, since reading a position would make the browser lay the page out.
    this.observer = new IntersectionObserver(
      ([{ isIntersecting, boundingClientRect, rootBounds }]) => {
        this.scrolled = !isIntersecting && boundingClientRect.top < (rootBounds?.top ?? 0);
      },
      { root: scroller },
    );
    this.observer.observe(this.#edge);
  }

  close() {
    this.observer.disconnect();
    clearTimeout(this.#notice);
  }

  /** The tab of the panel that is shown. */
  get tab() {
    return this.tabs.find((tab) => tab.hasAttribute("aria-current"));
  }

  /** @param {string} name @param {HTMLElement} element */
  show(name, element) {
    for (const tab of this.tabs) set(tab, "aria-current", tab.textContent === name ? "page" : null);
    this.#view.replaceChildren(element);
  }

  toTop() {
    if (this.scrolled) this.#edge.scrollIntoView();
  }

  /** @param {string} text */
  announce(text) {
    clearTimeout(this.#notice);
    this.#toast.replaceChildren(h("span", text));
    this.#notice = setTimeout(() => this.#toast.replaceChildren(), NOTICE_MS);
  }

  /** Keys of the board are no shortcuts of the notebook around it. @param {KeyboardEvent} event */
  #key(event) {
    event.stopPropagation();
    if (this.main.hidden) return;
    if (event.key === "Escape") {
      this.parts.onclose();
      return;
    }
    const target = /** @type {Element} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input, select, textarea")) return;
    const act = this.#shortcut(event.key);
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** @param {string} key */
  #shortcut(key) {
    if (key === "/") return this.parts.onfind;
    if (key === "n") return this.parts.onsubmit;
    const tab = this.tabs[Number(key) - 1];
    if (!tab) return undefined;
    return () => {
      tab.click();
      tab.focus();
    };
  }
}
