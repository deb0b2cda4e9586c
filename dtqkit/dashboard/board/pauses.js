// @ts-check
/** @import { BoardApi, Panel, View } from "./parts.ts" */
/** @import { Pause } from "./types.ts" */
// The panel of pauses: what is held back, until when and why; to begin and to end one.
import { button, fill, h, say, setText } from "./dom.js";
import { exact } from "./exact.js";
import { capital, count, moment } from "./format.js";
import { LANES } from "./records.js";

const HEADS = ["Paused", "Jobs waiting", "Since", "Until", "Reason", ""];
const REFRESH_MS = 2_000;

/** @implements {Panel} */
class Pauses {
  /** @type {Pause[] | null} */
  #pauses = null;
  #loadedAt = 0;
  #body = h("tbody");
  #note = h(".note", { hidden: true });
  #problem = h("p.problem", { role: "alert" });

  /** @param {BoardApi} board */
  constructor(board) {
    this.board = board;
    /** @param {string} type @param {string} [placeholder] */
    const field = (type, placeholder) => h("input", { type, placeholder, autocomplete: "off" });
    this.what = h("select", { required: true, onchange: () => this.#allowWhere() });
    this.where = field("text", '{"customer": 7}');
    this.until = field("datetime-local");
    this.reason = field("text");
    const send = (/** @type {SubmitEvent} */ event) => this.#begin(event);
    const fields = {
      "What to pause": this.what,
      "Only where (optional)": this.where,
      "Until (optional)": this.until,
      "Reason (optional)": this.reason,
    };
    const labelled = Object.entries(fields).map(([label, one], i) => {
      one.id = `pause-${i}`;
      return h("div", h("label", { for: one.id }, label), one);
    });
    const go = h("button.plain.strong", { type: "submit" }, "Pause");
    const form = h("form.tools.pausing", { onsubmit: send, "aria-label": "Pause" }, labelled, go);
    const heads = HEADS.map((label) => (label ? h("th", { scope: "col" }, label) : h("td")));
    const table = h("table.stack.pauses", { "aria-label": "Pauses" }, h("thead", h("tr", heads)), this.#body);
    this.element = h(".listing", form, this.#problem, table, this.#note);
    this.offer([]);
  }

  /** @param {{ name: string }[]} tasks */
  offer(tasks) {
    const { value } = this.what;
    /** @param {"lane" | "task"} kind @param {string[]} names */
    const group = (kind, names) => {
      const options = names.map((name) => h("option", { value: `${kind} ${name}` }, `${kind} ${name}`));
      return options.length ? [h("optgroup", { label: `${capital(kind)}s` }, options)] : [];
    };
    const named = tasks.map(({ name }) => name);
    const first = h("option", { value: "" }, "Choose a lane or a task…");
    this.what.replaceChildren(first, ...group("lane", LANES), ...group("task", named));
    this.what.value = value;
    this.#allowWhere();
  }

  #allowWhere() {
    this.where.disabled = !this.what.value.startsWith("task ");
  }

  async load() {
    this.#loadedAt = Date.now();
    try {
      this.#pauses = await this.board.request("pauses");
      this.board.known.pauses = this.#pauses ?? [];
      this.update();
    } catch (error) {
      const { message } = /** @type {Error} */ (error);
      if (!this.#pauses) say(this.#note, "The pauses cannot be listed.", message, true);
    }
  }

  tick() {
    if (this.board.live && Date.now() - this.#loadedAt > REFRESH_MS) this.load();
  }

  update() {
    if (!this.#pauses) return;
    fill(this.#body, this.#pauses, () => this.#row(), ({ cells }, pause) => {
      textsOf(pause).forEach((text, i) => setText(cells[i], text));
    });
    if (this.#pauses.length) this.#note.hidden = true;
    else say(this.#note, "Nothing is paused.", "Jobs of a paused lane or task wait; those that run go on.");
  }

  #row() {
    const row = h("tr");
    const resume = button("plain", "Resume", () => this.#pauses && this.#end(this.#pauses[row.sectionRowIndex]));
    row.append(...HEADS.slice(0, -1).map((label) => h("td", { "data-label": label })), h("td.deeds", resume));
    return row;
  }

  /** @param {SubmitEvent} event */
  async #begin(event) {
    event.preventDefault();
    const [kind, name] = this.what.value.split(" ");
    const asked = { [kind]: name, reason: this.reason.value.trim(), .../** @type {object} */ (this.#limits()) };
    const made = await this.#act("pause", asked);
    if (!made) return;
    this.board.announce(`${targetOf(made)} is paused.`);
    this.what.value = this.reason.value = this.where.value = this.until.value = "";
    this.#allowWhere();
    await this.load();
  }

  #limits() {
    const until = this.until.value && new Date(this.until.value).toISOString();
    const text = this.where.disabled ? "" : this.where.value.trim();
    let where;
    try {
      where = text && exact.parse(text);
    } catch {
      where = text; // the queue says what it should be
    }
    return { ...(until && { until }), ...(where && { where }) };
  }

  /** @param {Pause} pause */
  async #end({ lane, task, where }) {
    const ended = await this.#act("resume", { ...(lane && { lane }), ...(task && { task }), ...(where && { where }) });
    if (!ended) return;
    this.board.announce(`${targetOf(ended)} is resumed.`);
    await this.load();
    this.what.focus();
  }

  /** @param {string} operation @param {Record<string, unknown>} asked */
  #act(operation, asked) {
    setText(this.#problem, "");
    return this.board.act(operation, asked, (message) => setText(this.#problem, message));
  }
}

/** @param {Pause} pause */
export function targetOf({ lane, task, where }) {
  if (lane) return `Lane ${lane}`;
  const values = Object.entries(where ?? {}).map(([name, value]) => `${name}=${exact.stringify(value)}`);
  return `Task ${task}${values.length ? ` where ${values.join(", ")}` : ""}`;
}

/** In the order of HEADS, without the button. @param {Pause} pause */
function textsOf(pause) {
  const { waiting, paused_at: since, until, reason } = pause;
  const jobs = waiting == null ? "many" : count(waiting);
  return [targetOf(pause), jobs, moment(since), until ? moment(until) : "until resumed", reason ?? ""];
}

/** Why a job waits: what to show in its panel. @param {Pause} pause */
export function whyPaused(pause) {
  const until = pause.until ? ` until ${moment(pause.until)}` : "";
  const why = pause.reason ? `: ${pause.reason}` : ".";
  return `${targetOf(pause)} is paused since ${moment(pause.paused_at)}${until}${why}`;
}

/** @type {View} */
export const view = { name: "Pauses", make: (board) => new Pauses(board) };
