// @ts-check
/** @import { BoardApi, Panel, View } from "./parts.ts" */
/** @import { Job, Schedule } from "./types.ts" */
// The panel of schedules: when each runs next and ran last, what was missed, and why one is paused.
import { button, h, rowOf, say, sayFailed, set, setText, table } from "./dom.js";
import { count, duration, moment } from "./format.js";
import { LATE_S } from "./overview.js";
import { OVER } from "./records.js";

const HEADS = ["Schedule", "When", "Next", "Last run", "Missed", "Skipped", "State", ""];
const [LAST, STATE] = [3, 6];
/** How often they are asked for again while they are shown, in seconds. */
const EVERY_S = 3;
/** Jobs that are asked for at a time. */
const PIECE = 200;

/** One row. What was typed into it stays while it is painted. */
class Row {
  element = rowOf(HEADS);
  #cells = this.element.cells;
  #last = button("link", "", () => this.board.openJob(this.record.last_job ?? ""));
  #state = h("span");
  /** Beside the state: how the last run ended, unless well. */
  #end = button("link", "", () => this.board.openJob(this.ended));
  /** Its last run that was over when it was looked at. */
  ended = "";
  /** Whether all its jobs were looked at. */
  searched = false;
  /** Why the last button did nothing. */
  #problem = h("span.problem", { role: "alert" });

  /** @param {Schedules} panel @param {Schedule} record */
  constructor(panel, record) {
    this.panel = panel;
    this.board = panel.board;
    this.record = record;
    const { name } = record;
    /** @param {string} label @param {() => unknown} act */
    const plain = (label, act) => button("plain", label, act, { "aria-label": `${label} ${name}` });
    this.now = plain("Run now", () => this.#run());
    this.pause = plain("Pause…", () => this.#ask(true));
    this.resume = plain("Resume", () => this.#act("resume_schedule", {}, "runs again"));
    this.reason = h("input", {
      type: "text",
      maxlength: 500,
      placeholder: "Reason",
      "aria-label": `Reason to pause ${name}`,
      onkeydown: (/** @type {KeyboardEvent} */ { key }) => {
        if (key === "Enter") this.#hold();
        if (key === "Escape") this.#ask(false);
      },
    });
    const hold = button("primary", "Pause", () => this.#hold());
    const not = button("plain", "Not now", () => this.#ask(false));
    this.question = h(".answers", { hidden: true }, this.reason, hold, not);
    this.#cells[STATE].append(this.#state, this.#problem);
    this.#cells[STATE + 1].append(this.now, this.pause, this.resume, this.question);
  }

  get runs() {
    return runsOf(this.record, this.ended);
  }

  /** @param {Schedule} record */
  paint(record) {
    this.record = record;
    const { ends } = this.panel;
    this.ended = this.runs.findLast((id) => ends.has(id)) ?? this.ended;
    const end = ends.get(this.ended);
    const texts = textsOf(record, Date.now(), end);
    for (const i of [0, 1, 2, 4, 5]) setText(this.#cells[i], texts[i]);
    setText(this.#last, texts[LAST]);
    const last = record.last_job ? this.#last : texts[LAST];
    if (this.#cells[LAST].firstChild !== last) this.#cells[LAST].replaceChildren(last);
    setText(this.#state, texts[STATE]);
    setText(this.#end, endText(end));
    set(this.#end, "data-bad", end === "failed");
    if (!endText(end)) this.#end.remove();
    else if (!this.#end.isConnected) this.#state.after(this.#end);
    set(this.#cells[2], "title", record.next_at ? new Date(record.next_at).toLocaleString() : null);
    set(this.#cells[2], "data-bad", texts[2].endsWith("late"));
    set(this.#cells[4], "data-bad", (record.missed ?? 0) > 0);
    set(this.#state, "data-bad", !record.paused && Boolean(record.trouble));
    set(this.#state, "data-paused", Boolean(record.paused));
    const asks = !this.question.hidden;
    this.now.hidden = asks;
    this.pause.hidden = asks || Boolean(record.paused);
    this.resume.hidden = asks || !record.paused;
  }

  /** Why it is to be paused; or not any more. @param {boolean} asks */
  #ask(asks) {
    const held = this.element.matches(":focus-within");
    this.question.hidden = !asks;
    this.paint(this.record);
    if (held) [this.reason, this.pause, this.resume].find((one) => one.checkVisibility())?.focus();
  }

  #hold() {
    return this.#act("pause_schedule", { reason: this.reason.value.trim() }, "is paused");
  }

  /** @param {string} operation @param {Record<string, unknown>} more @param {string} done */
  async #act(operation, more, done) {
    const { name } = this.record;
    const record = await this.board.act(operation, { name, ...more }, this.#problem);
    if (!record) return;
    this.record = record;
    this.reason.value = "";
    this.#ask(false);
    this.board.announce(`${name} ${done}.`);
    this.panel.load();
  }

  async #run() {
    const { name } = this.record;
    const job = await this.board.act("run_schedule", { name }, this.#problem);
    if (!job) return;
    this.board.announce(`${name} runs now.`);
    this.board.show(job);
    this.board.openJob(job.id);
    this.panel.load();
  }
}

/**
 * Its last jobs, oldest first: the one that is known to be over, and those that were not when the record was written.
 *
 * @param {Schedule} record
 * @param {string} ended
 */
export function runsOf({ last_job: last, live = [] }, ended) {
  return [...new Set([ended, last ?? "", ...live])].filter(Boolean).sort();
}

/** @param {Job} job */
const isOver = ({ status }) => OVER.includes(status);

/** What is said of the status of its last run that is over. @param {string} [end] */
export const endText = (end) => (end === "failed" || end === "cancelled" ? `Last run ${end}` : "");

/** In the order of HEADS. @param {Schedule} record @param {number} now @param {string} [end] of its last run */
export function textsOf(record, now, end) {
  const { name, task, cron, tz = "UTC", every_s: every, paused, trouble, held_at: held } = record;
  const when = cron ? `${cron} ${tz}` : `every ${duration(every)}`;
  const why = paused?.reason ? `Paused: ${paused.reason}` : "Paused";
  return [
    name === task ? name : `${name} (${task})`,
    when,
    paused ? "–" : until(record.next_at, now),
    moment(record.last_at),
    count(record.missed ?? 0),
    count(record.skipped ?? 0),
    paused ? why : trouble || (held ? "Waits for the run before" : endText(end) ? "" : "Active"),
  ];
}

/** @param {string | null | undefined} at @param {number} now */
function until(at, now) {
  if (!at) return "never";
  const s = (Date.parse(at) - now) / 1000;
  if (s > 0) return `in ${duration(Math.ceil(s))}`;
  return s > -LATE_S ? "now" : `${duration(-s)} late`;
}

/** @implements {Panel} */
class Schedules {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #age = 0;
  #body = h("tbody");
  #note = h(".note", { hidden: true });
  element = h(".listing", table("Schedules", HEADS, this.#body), this.#note);
  /** The status of jobs that are over, by id. @type {Map<string, string>} */
  ends = new Map();

  /** @param {BoardApi} board */
  constructor(board) {
    this.board = board;
  }

  async load() {
    this.#age = 0;
    try {
      this.#show(await this.board.request("schedules"));
      await this.#look();
    } catch (error) {
      // The board says that the queue is away, and loads again.
      if (!this.#rows.size) sayFailed(this.#note, error);
    }
  }

  tick() {
    this.#age += 1;
    if (this.#age >= EVERY_S && this.board.live) this.load();
    this.#paint();
  }

  /** How the last runs have ended. */
  async #look() {
    const ids = [...this.#rows.values()].flatMap(({ runs }) => runs);
    /** @type {Job[]} */
    const jobs = [];
    while (ids.length) {
      const asked = { ids: ids.splice(0, PIECE), brief: true, limit: PIECE };
      jobs.push(...(await this.board.request("jobs", asked)).items);
    }
    this.ends = new Map(jobs.filter(isOver).map(({ id, status }) => [id, status]));
    this.#paint();
    for (const row of this.#rows.values()) await this.#search(row);
  }

  /** Once: its record names no run that is over, as when the last ones wait. @param {Row} row */
  async #search(row) {
    if (row.searched || row.ended || !row.record.last_job) return;
    row.searched = true;
    /** @type {Job[]} */
    const jobs = await this.board.request("schedule_runs", { name: row.record.name });
    row.ended = jobs.find(isOver)?.id ?? "";
  }

  #paint() {
    for (const row of this.#rows.values()) row.paint(row.record);
  }

  /** @param {Schedule[]} records */
  #show(records) {
    const known = [...this.#rows.keys()].join();
    for (const record of records) {
      let row = this.#rows.get(record.name);
      if (!row) this.#rows.set(record.name, (row = new Row(this, record)));
      row.paint(record);
    }
    const names = new Set(records.map(({ name }) => name));
    for (const name of this.#rows.keys()) if (!names.has(name)) this.#rows.delete(name);
    if ([...this.#rows.keys()].join() !== known) {
      this.#body.replaceChildren(...records.map(({ name }) => this.#rows.get(name)?.element ?? ""));
    }
    if (records.length) this.#note.hidden = true;
    else say(this.#note, "No schedules.", 'Make one: queue.schedule("pulse", report.bind(), every_s=60)');
  }
}

/** @type {View} */
export const view = { name: "Schedules", make: (board) => new Schedules(board) };
