// @ts-check
/** @import { BoardApi, Panel, View } from "./parts.ts" */
/** @import { Schedule } from "./types.ts" */
// The panel of schedules: when each runs next and ran last, what was missed, and why one is paused.
import { button, h, say, set, setText } from "./dom.js";
import { count, duration, moment } from "./format.js";

const HEADS = ["Schedule", "When", "Next", "Last run", "Missed", "Skipped", "State", ""];
/** How often they are asked for again while they are shown, in seconds. */
const EVERY_S = 3;

/** One row. What was typed into it stays while it is painted. */
class Row {
  #cells = HEADS.slice(0, -1).map((label) => h("td", { "data-label": label }));
  #last = button("link", "", () => this.record.last_job && this.board.openJob(this.record.last_job));
  #actions = h("td.deeds");
  #shown = "";
  /** Why the last button did nothing. */
  #problem = "";
  element = h("tr", this.#cells, this.#actions);

  /** @param {BoardApi} board @param {Schedule} record @param {() => unknown} changed */
  constructor(board, record, changed) {
    this.board = board;
    this.record = record;
    this.changed = changed;
  }

  /** @param {Schedule} record */
  paint(record) {
    this.record = record;
    const texts = textsOf(record, Date.now());
    texts[6] = this.#problem || texts[6];
    this.#cells.forEach((cell, i) => i !== 3 && setText(cell, texts[i]));
    setText(this.#last, texts[3]);
    const last = record.last_job ? this.#last : texts[3];
    if (this.#cells[3].firstChild !== this.#last || last !== this.#last) this.#cells[3].replaceChildren(last);
    set(this.#cells[2], "title", record.next_at ? new Date(record.next_at).toLocaleString() : null);
    set(this.#cells[4], "data-bad", (record.missed ?? 0) > 0);
    set(this.#cells[6], "data-bad", Boolean(this.#problem || (!record.paused && record.trouble)));
    set(this.#cells[6], "data-paused", !this.#problem && Boolean(record.paused));
    if (this.#shown !== "asks" && this.#shown !== String(Boolean(record.paused))) this.#offer();
  }

  #offer() {
    const { paused } = this.record;
    this.#shown = String(Boolean(paused));
    const held = this.#actions.matches(":focus-within");
    const other = paused
      ? button("plain", "Resume", () => this.#act("resume_schedule", {}, "runs again"))
      : button("plain", "Pause…", () => this.#ask());
    const now = button("plain", "Run now", () => this.#run());
    for (const one of [other, now]) set(one, "aria-label", `${one.textContent} ${this.record.name}`);
    this.#actions.replaceChildren(now, other);
    if (held) other.focus();
  }

  /** Asks why. */
  #ask() {
    this.#shown = "asks";
    const label = `Reason to pause ${this.record.name}`;
    const reason = h("input", { type: "text", maxlength: 500, placeholder: "Reason", "aria-label": label });
    const pause = () => this.#act("pause_schedule", { reason: reason.value.trim() }, "is paused");
    reason.addEventListener("keydown", ({ key }) => {
      if (key === "Enter") pause();
      if (key === "Escape") this.#offer();
    });
    const not = button("plain", "Not now", () => this.#offer());
    this.#actions.replaceChildren(reason, button("primary", "Pause", pause), not);
    reason.focus();
  }

  /** @param {string} operation @param {Record<string, unknown>} more @param {string} done */
  async #act(operation, more, done) {
    const { name } = this.record;
    const record = await this.#request(operation, { name, ...more });
    if (!record) return;
    this.#shown = "";
    this.paint(record);
    this.board.announce(`${name} ${done}.`);
    this.changed();
  }

  /** The answer; a refusal is shown in the row. @param {string} operation @param {Record<string, unknown>} params */
  #request(operation, params) {
    this.#problem = "";
    return this.board.act(operation, params, (message) => {
      this.#problem = message;
      this.paint(this.record);
      this.board.announce(message);
    });
  }

  async #run() {
    const { name } = this.record;
    const job = await this.#request("run_schedule", { name });
    if (!job) return;
    this.board.announce(`${name} runs now.`);
    this.board.show(job);
    this.board.openJob(job.id);
    this.changed();
  }
}

/** In the order of HEADS. @param {Schedule} record @param {number} now */
export function textsOf(record, now) {
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
    paused ? why : trouble || (held ? "Waits for the run before" : "Active"),
  ];
}

/** @param {string | null | undefined} at @param {number} now */
function until(at, now) {
  if (!at) return "never";
  const s = (Date.parse(at) - now) / 1000;
  return s > 0 ? `in ${duration(Math.ceil(s))}` : "now";
}

/** @implements {Panel} */
class Schedules {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #age = 0;
  #body = h("tbody");
  #note = h(".note", { hidden: true });
  #heads = h(
    "tr",
    HEADS.map((label) => (label ? h("th", { scope: "col" }, label) : h("td"))),
  );
  #table = h("table.stack.schedules", { "aria-label": "Schedules" }, h("thead", this.#heads), this.#body);
  element = h(".listing", this.#table, this.#note);

  /** @param {BoardApi} board */
  constructor(board) {
    this.board = board;
  }

  async load() {
    this.#age = 0;
    try {
      this.#show(await this.board.request("schedules"));
    } catch (error) {
      // The board says that the queue is away, and loads again.
      const { message } = /** @type {Error} */ (error);
      if (!this.#rows.size) say(this.#note, "The schedules cannot be listed.", message, true);
    }
  }

  tick() {
    this.#age += 1;
    if (this.#age >= EVERY_S && this.board.live) this.load();
    for (const row of this.#rows.values()) row.paint(row.record);
  }

  /** @param {Schedule[]} records */
  #show(records) {
    const known = [...this.#rows.keys()].join();
    for (const record of records) {
      let row = this.#rows.get(record.name);
      if (!row) this.#rows.set(record.name, (row = new Row(this.board, record, () => this.load())));
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
