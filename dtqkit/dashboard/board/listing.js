// @ts-check
/** @import { BoardApi, Panel } from "./parts.ts" */
/** @import { Job, JobEvent, ProgressReport, TaskInfo } from "./types.ts" */
/** @import { FilterName } from "./listing_tools.js" */
/** @import { JobTable } from "./table.js" */
// A listing: a table of jobs with its filters and its pages, which follows the events.
import { h, say, sayFailed } from "./dom.js";
import { ListingTools } from "./listing_tools.js";
import { after, createdAt, progressed, whole } from "./records.js";

/** While events may be missing, a listing is loaded again this often. */
const REFRESH_MS = 1_900;
const FRESH_KEPT = 200;
/** A job that has waited for less may be about to start. */
const PATIENCE_MS = 5_000;

/**
 * @typedef {object} Kind
 * @property {FilterName[]} filters
 * @property {Partial<Job>} [always] what all its jobs have, whatever the filters
 * @property {string[]} empty what is said when there is no job: a title and a hint
 */

/** @implements {Panel} */
export class Listing {
  /** Whether the rows may not be those of the store any more. */
  stale = false;
  /** Counts loads: only the last one's answer is taken. */
  #loads = 0;
  #loading = false;
  #loadedAt = 0;
  /** Of the pages that were turned; the first page has none. @type {string[]} */
  #cursors = [];
  /** @type {string | null} */
  #next = null;
  /** Jobs of events that have no row yet, by id. @type {Map<string, Job>} */
  #fresh = new Map();

  /**
   * @param {BoardApi} board
   * @param {string} operation what lists the jobs
   * @param {JobTable} table
   * @param {Kind} kind
   */
  constructor(board, operation, table, kind) {
    this.board = board;
    this.operation = operation;
    this.table = table;
    this.kind = kind;
    this.tools = new ListingTools(kind.filters, {
      reload: () => this.reload(),
      fresh: () => {
        board.toTop();
        this.reload();
      },
      newer: () => this.#turn(() => this.#cursors.pop()),
      older: () => this.#turn(() => this.#next && this.#cursors.push(this.#next)),
    });
    this.note = h(".note");
    this.element = h(".listing", this.tools.element, table.element, this.note);
  }

  get filters() {
    return this.tools.filters;
  }

  /** Whether the first page is shown: new jobs belong to it alone. */
  get first() {
    return this.#cursors.length === 0;
  }

  get unserved() {
    const jobs = [...this.table.rows.values()].map((row) => row.job);
    return jobs.find((job) => this.#isUnserved(job))?.task;
  }

  /** @param {Job} job */
  #isUnserved(job) {
    const waits = job.status === "pending" && Date.now() - createdAt(job) > PATIENCE_MS;
    return waits && this.board.known.unserved(job.task);
  }

  /** Whether no row may move: somebody points at one, or reads further down. */
  get #still() {
    return this.table.held || this.board.scrolled;
  }

  // -- pages

  /** @param {() => void} step */
  #turn(step) {
    step();
    this.table.clear();
    this.board.toTop();
    this.load();
  }

  /** From the first page. @returns {Promise<void>} */
  reload() {
    this.#cursors = [];
    this.table.clear();
    return this.load();
  }

  async load() {
    this.#loads += 1;
    this.#loading = true;
    const load = this.#loads;
    const cursor = this.#cursors.at(-1);
    this.stale = false;
    this.#loadedAt = Date.now();
    if (!this.table.rows.size) say(this.note, "Loading…");
    try {
      const query = { ...this.filters, limit: this.tools.limit, ...(cursor && { cursor }) };
      const page = await this.board.request(this.operation, query);
      if (load !== this.#loads) return;
      this.#next = page.cursor;
      this.#loading = false;
      this.#take(page.items.map(whole));
    } catch (error) {
      this.stale = true;
      if (load === this.#loads && !this.table.rows.size) sayFailed(this.note, error);
    }
    this.tools.showPage(this.#cursors.length + 1, Boolean(this.#next));
  }

  /** @param {Job[]} jobs */
  #take(jobs) {
    if (this.table.rows.size && this.#still) {
      for (const job of jobs) if (this.table.rows.has(job.id)) this.table.put(job);
    } else {
      this.#fresh.clear();
      this.table.replace(jobs);
    }
    this.update();
  }

  // -- what comes from the board

  /** @param {Job[]} _jobs */
  restart(_jobs) {
    this.stale = true;
  }

  /** @param {JobEvent} event */
  hear(event) {
    const known = this.table.rows.has(event.id);
    this.table.patch(event.id, (job) => (event.rev > job.rev ? after(job, event) : job));
    if (!known && !this.#fresh.has(event.id) && !this.#belongs(whole(/** @type {any} */ (event)))) return;
    this.stale = true;
    if (!known) this.#fresh.set(event.id, after(whole({ ...this.#fresh.get(event.id), id: event.id }), event));
    if (this.#fresh.size > FRESH_KEPT) {
      const [oldest] = this.#fresh.keys();
      this.#fresh.delete(oldest);
    }
  }

  /** @param {ProgressReport} news */
  report(news) {
    this.table.patch(news.id, (job) => progressed(job, news));
  }

  /** @param {Job} job */
  show(job) {
    if (this.table.rows.has(job.id) || this.#belongs(job)) this.table.put(job);
    this.update();
  }

  /** @param {TaskInfo[]} tasks */
  offer(tasks) {
    this.tools.offer(tasks);
  }

  /** @param {string | null} id */
  mark(id) {
    this.table.mark(id);
  }

  /** @param {string | undefined} id */
  focusJob(id) {
    if (!id || !this.table.rows.has(id)) return false;
    this.table.focus(id);
    return true;
  }

  find() {
    this.tools.search.focus();
  }

  // -- rows

  /** What a search finds, only the store knows. @param {Job} job */
  #matches(job) {
    if (this.filters.q) return false;
    const { since, ...filters } = this.filters;
    const young = !since || Date.now() - createdAt(job) < parseInt(since) * 1000;
    const wanted = { ...filters, ...this.kind.always };
    return young && Object.entries(wanted).every(([name, value]) => job[/** @type {keyof Job} */ (name)] === value);
  }

  /** @param {Job} job */
  #belongs(job) {
    if (!this.first || !this.#matches(job)) return false;
    return this.table.rows.size < this.tools.limit || job.id > this.table.lowest;
  }

  /** What would move a row in use is only announced. */
  update() {
    if (!this.#still) this.#settle();
    this.tools.showFresh(this.#fresh.size);
    this.table.flush();
    if (this.table.rows.size) this.note.hidden = true;
    else if (this.#loadedAt && !this.#loading) this.#showEmpty();
  }

  /** Shows new jobs, and takes away what does not belong here any more. */
  #settle() {
    const { table } = this;
    for (const job of this.#fresh.values()) if (this.#matches(job)) table.put(job);
    for (const { job } of [...table.rows.values()]) {
      if (!this.filters.q && !this.#matches(job)) table.remove(job.id);
    }
    while (table.rows.size > this.tools.limit) table.remove(table.lowest);
    this.#fresh.clear();
  }

  #showEmpty() {
    const [title, hint] = Object.keys(this.filters).length ? ["No job matches these filters."] : this.kind.empty;
    say(this.note, title, hint);
  }

  tick() {
    this.table.tick();
    const jobs = [...this.table.rows.values()].map((row) => row.job);
    const moving = jobs.some((job) => job.status === "pending" || job.status === "running");
    if ((this.stale || moving) && Date.now() - this.#loadedAt > REFRESH_MS) this.load();
  }
}
