// @ts-check
/** @import { BoardApi } from "./parts.ts" */
// What can be done to many jobs at once: counted first, with the filter named.
import { button, h, set, setText } from "./dom.js";
import { count, duration, plural } from "./format.js";
import { whereOf, wordsOf } from "./pauses.js";
import { LANES, OVER, WAITING } from "./records.js";

/**
 * @typedef {object} Deed
 * @property {string} operation
 * @property {string} label
 * @property {string} done
 * @property {string[]} of
 * @property {string} [loses] what is lost by it: then it looks dangerous
 * @property {Record<string, unknown>} [set]
 */

/** @typedef {Record<string, any>} Filter what a listing filters by, or `ids` */

/** @type {Deed} */
export const REQUEUE = { operation: "requeue_many", label: "Requeue", done: "requeued", of: ["failed"] };
/** @type {Deed[]} */
export const DEEDS = [
  {
    operation: "cancel_many",
    label: "Cancel",
    done: "cancelled",
    of: [...WAITING, "running"],
    loses: "Those that run are asked to stop.",
  },
  REQUEUE,
  ...LANES.map((priority) => ({
    operation: "update_many",
    label: `Move to ${priority}`,
    done: `moved to lane ${priority}`,
    of: WAITING,
    set: { priority },
  })),
  {
    operation: "delete_many",
    label: "Delete",
    done: "deleted",
    of: OVER,
    loses: "Their records and results are lost for good.",
  },
];

export class Bulk {
  #told = h("span", { role: "status" });
  #problem = h("span.problem", { role: "alert" });
  #stopped = false;
  /** What is counted, or was. */
  #asked = {};
  #matched = 0;

  /**
   * @param {BoardApi} board
   * @param {{ reload: () => Promise<void>, find: () => void }} listing
   * @param {HTMLElement[]} controls what is there while nothing is asked
   */
  constructor(board, listing, controls) {
    this.board = board;
    this.listing = listing;
    this.controls = controls;
    this.element = h(".bulk", { role: "group", "aria-label": "Change many" }, controls);
  }

  offer() {
    this.element.replaceChildren(...this.controls);
  }

  /** Counts what matches, and asks; what a payload must have may be added. @param {Deed} deed @param {Filter} filter */
  async ask(deed, filter) {
    const go = button(deed.loses ? "danger" : "primary", deed.label, () => this.#run(deed), { disabled: true });
    const not = button("plain", "Not now", () => this.#leave());
    const where = h("input", {
      type: "text",
      placeholder: "Only where customer=7",
      "aria-label": "Only where the payload has",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => (go.disabled = true),
    });
    where.onchange = () => this.#count(deed, { ...filter, ...whereIn(where.value) }, go);
    this.element.replaceChildren(this.#told, this.#problem, filter.ids ? "" : where, h(".answers", go, not));
    await this.#count(deed, filter, go);
    (go.disabled ? not : go).focus();
  }

  /** @param {Deed} deed @param {Filter} filter @param {HTMLButtonElement} go */
  async #count(deed, filter, go) {
    const asked = { filter, ...(!Object.keys(filter).length && { all: true }), ...(deed.set && { set: deed.set }) };
    this.#asked = asked;
    setText(this.#told, "");
    const counted = await this.board.act(deed.operation, { ...asked, dry_run: true }, this.#problem);
    if (!counted || this.#asked !== asked) return;
    const { matched } = counted;
    this.#matched = matched;
    const [verb, ...where] = deed.label.split(" ");
    setText(go, [verb, plural(matched, "job"), ...where].join(" "));
    go.disabled = !matched;
    const told = `${plural(matched, "job")} ${named(filter, deed.of)} will be ${deed.done}.`;
    setText(this.#told, matched && deed.loses ? `${told} ${deed.loses}` : told);
  }

  /** Piece by piece, until it is done or stopped. @param {Deed} deed */
  async #run(deed) {
    this.#stopped = false;
    const bar = h("progress", { max: this.#matched, "aria-label": "Progress" });
    const stop = button("plain", "Stop", () => (this.#stopped = true));
    this.element.replaceChildren(this.#told, bar, stop);
    stop.focus();
    let [changed, seen, cursor] = [0, 0, /** @type {string | null} */ (null)];
    do {
      const piece = await this.board.act(deed.operation, { ...this.#asked, ...(cursor && { cursor }) });
      if (!piece) break;
      changed += piece.changed;
      seen += piece.matched;
      cursor = piece.cursor;
      set(bar, "value", seen);
      setText(this.#told, `${count(changed)} ${deed.done} so far.`);
    } while (cursor && !this.#stopped);
    this.board.announce(`${plural(changed, "job")} ${deed.done}.`);
    await this.listing.reload();
    this.#leave();
  }

  #leave() {
    this.offer();
    const control = this.controls.find((one) => !one.hidden && one.matches(":enabled"));
    if (control) control.focus();
    else this.listing.find();
  }
}

/** @param {string} text */
const whereIn = (text) => text.trim() && { where: whereOf(text) };

/**
 * `with status failed and task render`; without a filter, of which status.
 *
 * @param {Filter} filter
 * @param {string[]} statuses
 */
export function named({ q, ids, since, where, ...filter }, statuses) {
  if (ids) return "in the selection";
  const parts = Object.entries(filter).map(([name, value]) => `${name} ${value}`);
  if (q) parts.push(`“${q}” as id, key or tag`);
  if (where) parts.push(wordsOf(where));
  if (since) parts.push(`an age of at most ${duration(parseInt(since))}`);
  if (parts.length) return `with ${parts.join(" and ")}`;
  return `(all that are ${statuses.join(" or ")}, without a filter)`;
}
