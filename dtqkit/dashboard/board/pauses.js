// @ts-check
/** @import { BoardApi, Panel, View } from "./parts.ts" */
/** @import { Pause } from "./types.ts" */
// The panel of pauses: what is held back, until when and why; to begin and to end one.
import { button, fill, h, setText } from "./dom.js";
import { exact } from "./exact.js";
import { count, moment } from "./format.js";
import { LANES } from "./records.js";

const HEADS = ["Paused", "Jobs waiting", "Since", "Until", "Reason", ""];
const REFRESH_MS = 2_000;

/** @implements {Panel} */
class Pauses {
  /** @type {Pause[]} */
  #pauses = [];
  #loadedAt = 0;
  #body = h("tbody");
  #note = h(".note", h("strong", "Nothing is paused."), "Jobs of a paused lane or task wait; those that run go on.");
  #problem = h("p.problem", { role: "alert" });

  /** @param {BoardApi} board */
  constructor(board) {
    this.board = board;
    /** @param {string} label @param {string} type @param {string} hint */
    const field = (label, type, hint) => {
      return h("input", { type, "aria-label": label, placeholder: hint, title: hint, autocomplete: "off" });
    };
    this.what = h("select", { "aria-label": "What to pause" });
    this.where = field("Where", "text", 'Only jobs with: {"customer": 7}');
    this.until = field("Until", "datetime-local", "Until: without it, until somebody resumes");
    this.reason = field("Reason", "text", "Reason");
    const send = (/** @type {SubmitEvent} */ event) => this.#begin(event);
    const go = h("button.plain", { type: "submit" }, "Pause");
    const form = h("form.tools.pausing", { onsubmit: send }, this.what, this.where, this.until, this.reason, go);
    const heads = HEADS.map((label) => h("th", { scope: "col" }, label));
    const table = h("table.pauses", { "aria-label": "Pauses" }, h("thead", h("tr", heads)), this.#body);
    this.element = h(".listing", form, this.#problem, table, this.#note);
    this.what.onchange = () => (this.where.disabled = this.what.value.startsWith("lane "));
    this.offer([]);
  }

  /** @param {{ name: string }[]} tasks */
  offer(tasks) {
    const { value } = this.what;
    const lanes = LANES.map((lane) => `lane ${lane}`);
    const names = tasks.map(({ name }) => `task ${name}`);
    this.what.replaceChildren(...[...names, ...lanes].map((one) => h("option", { value: one }, one)));
    if (value) this.what.value = value;
    this.where.disabled = this.what.value.startsWith("lane ");
  }

  async load() {
    this.#loadedAt = Date.now();
    this.#pauses = await this.board.request("pauses").catch(() => this.#pauses);
    this.board.known.pauses = this.#pauses;
    this.update();
  }

  tick() {
    if (this.board.live && Date.now() - this.#loadedAt > REFRESH_MS) this.load();
  }

  update() {
    fill(this.#body, this.#pauses, () => this.#row(), ({ cells }, pause) => {
      textsOf(pause).forEach((text, i) => setText(cells[i], text));
    });
    this.#note.hidden = this.#pauses.length > 0;
  }

  #row() {
    const row = h("tr");
    const resume = button("plain", "Resume", () => this.#end(this.#pauses[row.sectionRowIndex]));
    row.append(...HEADS.slice(1).map(() => h("td")), h("td", resume));
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
    this.reason.value = this.where.value = this.until.value = "";
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
