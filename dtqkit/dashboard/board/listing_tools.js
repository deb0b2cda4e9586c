// @ts-check
// The row above a listing: a search, filters, new jobs that wait to be shown, and pages.
import { button, fill, h, set, setText } from "./dom.js";
import { capital, duration, plural } from "./format.js";
import { LANES, STATUSES } from "./records.js";

const TYPING_MS = 250;
const SIZES = [50, 100, 200];

/** Ages of jobs as the API has them, in seconds. */
const AGES = ["900s", "3600s", "86400s", "604800s"];

/** @typedef {"status" | "task" | "priority" | "since"} FilterName */

/**
 * What is done when a filter changes, and when a button is pressed.
 *
 * @typedef {{ reload: () => void, fresh: () => void, newer: () => void, older: () => void }} Deeds
 */

export class ListingTools {
  /** A timer while somebody types. @type {number | undefined} */
  #typing;

  /** @param {FilterName[]} filters @param {Deeds} deeds */
  constructor(filters, deeds) {
    this.search = this.#makeSearch(deeds.reload);
    /** @param {string} label @param {string[]} options */
    const choice = (label, options, labelled = capital) => {
      const any = h("option", { value: "" }, `Any ${label.toLowerCase()}`);
      const rest = options.map((one) => h("option", { value: one }, labelled(one)));
      return h("select", { "aria-label": label, onchange: deeds.reload }, any, rest);
    };
    const choices = {
      status: choice("Status", STATUSES),
      task: choice("Task", []),
      priority: choice("Priority", LANES),
      since: choice("Age", AGES, (age) => `Last ${duration(parseInt(age))}`),
    };
    /** @type {Partial<Record<FilterName, HTMLSelectElement>>} */
    this.selects = Object.fromEntries(filters.map((name) => [name, choices[name]]));
    this.fresh = button("pill", "", deeds.fresh, { hidden: true });
    const sizes = SIZES.map((n) => h("option", { value: n }, `${n} rows`));
    this.size = h("select", { "aria-label": "Rows on a page", onchange: deeds.reload }, sizes);
    this.page = h("span.quiet");
    this.newer = button("plain", "Newer", deeds.newer);
    this.older = button("plain", "Older", deeds.older);
    const pages = h("nav.pages", { "aria-label": "Pages" }, this.size, this.page, this.newer, this.older);
    this.element = h(".tools", this.search, Object.values(this.selects), this.fresh, pages);
  }

  /** @param {() => void} reload */
  #makeSearch(reload) {
    return h("input", {
      type: "search",
      placeholder: "Find an id, key or tag",
      "aria-label": "Find by id, idempotency key or tag",
      "aria-keyshortcuts": "/",
      title: "/",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => {
        clearTimeout(this.#typing);
        this.#typing = setTimeout(reload, TYPING_MS);
      },
    });
  }

  /** Those that are set. @returns {Record<string, string>} */
  get filters() {
    const fields = Object.entries({ q: this.search, ...this.selects });
    const values = fields.map(([name, field]) => [name, field.value.trim()]);
    return Object.fromEntries(values.filter(([, value]) => value));
  }

  /** Rows on a page. */
  get limit() {
    return Number(this.size.value);
  }

  /** @param {{ name: string }[]} tasks */
  offer(tasks) {
    const { task } = this.selects;
    if (!task) return;
    const { value } = task;
    fill(
      task,
      ["", ...tasks.map((one) => one.name)],
      () => h("option"),
      (option, name) => {
        if (!name) return; // the first one says "Any task"
        set(option, "value", name);
        setText(option, name);
      },
    );
    task.value = value;
  }

  /** @param {number} page @param {boolean} more */
  showPage(page, more) {
    this.newer.disabled = page === 1;
    this.older.disabled = !more;
    setText(this.page, `Page ${page}`);
  }

  /** How many new jobs are not shown yet. @param {number} jobs */
  showFresh(jobs) {
    this.fresh.hidden = !jobs;
    setText(this.fresh, plural(jobs, "new job"));
  }
}
