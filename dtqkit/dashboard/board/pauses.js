// @ts-check
/** @import { BoardApi, Panel, View } from "./parts.ts" */
/** @import { Pause } from "./types.ts" */
// The panel of pauses: what is held back, until when and why; to begin and to end one.
import { button, fill, h, rowOf, say, sayFailed, setText, table } from "./dom.js";
import { exact } from "./exact.js";
import { count, moment } from "./format.js";
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
    this.where = field("text", "customer=7");
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
    this.element = h(".listing", form, this.#problem, table("Pauses", HEADS, this.#body), this.#note);
    this.offer([]);
  }

  /** @param {{ name: string }[]} tasks */
  offer(tasks) {
    const { value } = this.what;
    const names = [...LANES.map((lane) => `lane ${lane}`), ...tasks.map(({ name }) => `task ${name}`)];
    const options = names.map((name) => h("option", { value: name }, name));
    this.what.replaceChildren(h("option", { value: "" }, "Choose a lane or a task…"), ...options);
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
      if (!this.#pauses) sayFailed(this.#note, error);
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
    const row = rowOf(HEADS);
    const resume = button("plain", "Resume", () => this.#pauses && this.#end(this.#pauses[row.sectionRowIndex]));
    row.lastElementChild?.append(resume);
    return row;
  }

  /** @param {SubmitEvent} event */
  async #begin(event) {
    event.preventDefault();
    const [kind, name] = this.what.value.split(" ");
    const asked = { [kind]: name, reason: this.reason.value.trim(), .../** @type {object} */ (this.#limits()) };
    const made = await this.board.act("pause", asked, this.#problem);
    if (!made) return;
    this.board.announce(`${targetOf(made)} is paused.`);
    this.what.value = this.reason.value = this.where.value = this.until.value = "";
    this.#allowWhere();
    await this.load();
  }

  #limits() {
    const until = this.until.value && new Date(this.until.value).toISOString();
    const where = this.where.disabled ? "" : this.where.value.trim();
    return { ...(until && { until }), ...(where && { where: whereOf(where) }) };
  }

  /** @param {Pause} pause */
  async #end({ lane, task, where }) {
    const target = { ...(lane && { lane }), ...(task && { task }), ...(where && { where }) };
    const ended = await this.board.act("resume", target, this.#problem);
    if (!ended) return;
    this.board.announce(`${targetOf(ended)} is resumed.`);
    await this.load();
    this.what.focus();
  }
}

/** @param {Pause} pause */
export function targetOf({ lane, task, where }) {
  if (lane) return `Lane ${lane}`;
  const values = wordsOf(where);
  return `Task ${task}${values && ` where ${values}`}`;
}

/** JSON, or as on the command line: `customer=7, kind=a`. @param {string} text */
export function whereOf(text) {
  const found = exact.read(text);
  if (typeof found === "object") return found;
  const pairs = text.split(",").map((pair) => /([^=]*)=?(.*)/.exec(pair)?.slice(1).map((part) => part.trim()) ?? []);
  return Object.fromEntries(pairs.map(([name, value]) => [name, exact.read(value)]));
}

/** `customer=7, kind="a"` @param {Record<string, unknown>} [where] */
export function wordsOf(where) {
  return Object.entries(where ?? {}).map(([name, value]) => `${name}=${exact.stringify(value)}`).join(", ");
}

/** In the order of HEADS, without the button. @param {Pause} pause */
function textsOf(pause) {
  const { waiting, paused_at: since, until, reason } = pause;
  const jobs = waiting == null ? "many" : count(waiting);
  return [targetOf(pause), jobs, moment(since), until ? moment(until) : "until resumed", reason ?? ""];
}

/** Why something waits, a line for each pause. @param {Pause[]} pauses */
export function whyPaused(pauses) {
  const lines = pauses.map((pause) => {
    const why = pause.reason ? `: ${pause.reason}` : ".";
    return `${targetOf(pause)} is paused since ${moment(pause.paused_at)} ${untilOf(pause)}${why}`;
  });
  return lines.join("\n");
}

/** @param {Pause} pause */
const untilOf = ({ until }) => `until ${until ? moment(until) : "it is resumed"}`;

/** @type {View} */
export const view = { name: "Pauses", make: (board) => new Pauses(board) };
