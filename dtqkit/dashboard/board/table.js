// @ts-check
/** @import { BoardApi } from "./parts.ts" */
/** @import { Job } from "./types.ts" */
/** @import { Column } from "./columns.js" */
// A table of jobs, newest first. A row keeps its element and its focus while its job changes.
import { COLUMNS, paintStatus } from "./columns.js";
import { focusedIn, h, set } from "./dom.js";
import { short } from "./format.js";
import { renewed } from "./records.js";

/**
 * @typedef {object} Row
 * @property {Job} job
 * @property {HTMLTableRowElement} tr
 * @property {Record<string, HTMLElement>} cells
 * @property {HTMLButtonElement} opener
 * @property {HTMLInputElement | null} box
 */

export class JobTable {
  /** @type {Map<string, Row>} */
  rows = new Map();
  /** The ids of the rows that are ticked. @type {Set<string>} */
  chosen = new Set();
  /** Rows whose job has changed since they were painted. @type {Set<Row>} */
  #changed = new Set();
  /** The one row that the Tab key reaches. @type {Row | null} */
  #tabbable = null;

  /**
   * @param {string} label
   * @param {Column[]} columns
   * @param {BoardApi} board
   * @param {() => void} [choose] rows can be ticked, and were
   */
  constructor(label, columns, board, choose) {
    this.columns = columns;
    this.board = board;
    this.choose = choose;
    this.body = h("tbody", {
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#move(event),
      onfocusin: (/** @type {FocusEvent} */ event) => this.#aim(this.#rowOf(event)),
      onclick: (/** @type {MouseEvent} */ event) => this.#clicked(event),
    });
    this.all = h("input", { type: "checkbox", "aria-label": "Select all on this page" });
    this.all.addEventListener("change", () => this.chooseAll(this.all.checked));
    const heads = columns.map((key) => h(`th.${key}`, { scope: "col" }, COLUMNS[key].head));
    heads.splice(1, 0, h("th.task", { scope: "col" }, "Task"));
    if (choose) heads.unshift(h("th.choose", { scope: "col" }, this.all));
    this.element = h("table.jobs", { "aria-label": label }, h("thead", h("tr", heads)), this.body);
  }

  /** What has the focus inside of the rows. */
  get focused() {
    const focused = focusedIn(this.body);
    return focused && this.body.contains(focused) ? focused : null;
  }

  /** Whether somebody points at a row: none may move then. */
  get held() {
    return this.focused !== null || this.body.matches(":hover");
  }

  /** The id of the oldest row. */
  get lowest() {
    return this.#last?.dataset.id ?? "";
  }

  get #last() {
    return /** @type {HTMLElement | null} */ (this.body.lastElementChild);
  }

  /** @param {Job} job */
  put(job) {
    const row = this.rows.get(job.id);
    if (!row) this.#insert(job);
    else if (job.rev >= row.job.rev) this.patch(job.id, (was) => renewed(job, was));
  }

  /** @param {string} id @param {(job: Job) => Job} change */
  patch(id, change) {
    const row = this.rows.get(id);
    if (!row) return;
    row.job = change(row.job);
    this.#changed.add(row);
  }

  /** @param {string} id */
  remove(id) {
    const row = this.rows.get(id);
    if (!row) return;
    row.tr.remove();
    this.rows.delete(id);
    this.#changed.delete(row);
    if (this.chosen.delete(id)) this.#chosenChanged();
    if (this.#tabbable === row) this.#aim(this.rows.values().next().value ?? null);
  }

  clear() {
    for (const id of [...this.rows.keys()]) this.remove(id);
  }

  /** Only the row that has the focus outlives a page without it. @param {Job[]} jobs */
  replace(jobs) {
    const wanted = new Set(jobs.map((job) => job.id));
    for (const [id, { tr }] of this.rows) {
      if (!wanted.has(id) && !tr.contains(this.focused)) this.remove(id);
    }
    for (const job of jobs) this.put(job);
  }

  /** @param {Job} job */
  #insert(job) {
    const row = this.#makeRow(job);
    this.rows.set(job.id, row);
    let next = /** @type {HTMLElement | null} */ (this.body.firstElementChild);
    while (next && (next.dataset.id ?? "") > job.id) next = /** @type {HTMLElement | null} */ (next.nextElementSibling);
    this.body.insertBefore(row.tr, next);
    if (!this.#tabbable) this.#aim(row);
    this.#changed.add(row);
  }

  /** @param {Job} job @returns {Row} */
  #makeRow(job) {
    const cells = Object.fromEntries(this.columns.map((key) => [key, h(`td.${key}`)]));
    const opener = h("button.open", { type: "button", tabindex: "-1" }, h("span", job.task));
    const tr = h("tr", { "data-id": job.id }, Object.values(cells));
    const task = h("td.task", { title: `${job.task} ${job.id}` }, opener, h("code", short(job.id)));
    tr.firstElementChild?.after(task);
    const box = this.choose ? this.#makeBox(job) : null;
    if (box) tr.prepend(h("td.choose", box));
    return { job, tr, cells, opener, box };
  }

  /** @param {Job} job */
  #makeBox(job) {
    const box = h("input", {
      type: "checkbox",
      "aria-label": `Select ${job.task} ${short(job.id)}`,
      onchange: () => {
        if (box.checked) this.chosen.add(job.id);
        else this.chosen.delete(job.id);
        this.#chosenChanged();
      },
    });
    return box;
  }

  /** Paints what has changed. */
  flush() {
    for (const { job, cells } of this.#changed) {
      const pauses = this.board.known.pausesOf(job);
      for (const key of this.columns) COLUMNS[key].paint(cells[key], job, pauses);
    }
    this.#changed.clear();
  }

  /** Paints what changes with time and pauses alone. */
  tick() {
    for (const { job, cells } of this.rows.values()) {
      paintStatus(cells.status, job, this.board.known.pausesOf(job));
      if (job.status === "running" && cells.run) COLUMNS.run.paint(cells.run, job);
    }
  }

  /** @param {string | null} open the id of the job on the right */
  mark(open) {
    for (const [id, { tr }] of this.rows) set(tr, "data-open", id === open);
  }

  /** The row of a job, or the one that the Tab key reaches. @param {string} [id] */
  focus(id) {
    const row = (id && this.rows.get(id)) || this.#tabbable;
    row?.opener.focus();
  }

  /** @param {Event} event */
  #rowOf(event) {
    const tr = /** @type {Element} */ (event.target).closest("tr");
    return /** @type {Row} */ (this.rows.get(tr?.dataset.id ?? ""));
  }

  /** @param {Row | null} row */
  #aim(row) {
    if (this.#tabbable) this.#tabbable.opener.tabIndex = -1;
    this.#tabbable = row;
    if (row) row.opener.tabIndex = 0;
  }

  /** A click that ends a selection of text opens nothing. @param {MouseEvent} event */
  #clicked(event) {
    const inBox = /** @type {Element} */ (event.target).closest(".choose");
    if (!inBox && !String(getSelection())) this.board.openJob(this.#rowOf(event).job.id);
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    if (event.ctrlKey || event.metaKey) return;
    const { tr } = this.#rowOf(event);
    const to = this.#neighbour(tr, event.key);
    if (!to) return;
    event.preventDefault();
    const { tagName } = /** @type {Element} */ (event.target);
    /** @type {HTMLElement | null} */ (to.querySelector(tagName))?.focus();
  }

  /** @param {Element} tr @param {string} key */
  #neighbour(tr, key) {
    if (key === "ArrowDown" || key === "j") return tr.nextElementSibling;
    if (key === "ArrowUp" || key === "k") return tr.previousElementSibling;
    if (key === "Home") return this.body.firstElementChild;
    return key === "End" ? this.#last : null;
  }

  /** @param {boolean} on */
  chooseAll(on) {
    this.chosen = new Set(on ? this.rows.keys() : []);
    for (const { box } of this.rows.values()) if (box) box.checked = on;
    this.#chosenChanged();
  }

  #chosenChanged() {
    this.all.checked = this.chosen.size > 0 && this.chosen.size === this.rows.size;
    this.all.indeterminate = this.chosen.size > 0 && !this.all.checked;
    this.choose?.();
  }
}
