// @ts-check
/** @import { BoardApi } from "./parts.ts" */
// What can be done to all jobs that the filters of a listing match: counted first, with the filter named.
import { button, h, set, setText } from "./dom.js";
import { count, plural } from "./format.js";
import { LANES } from "./records.js";

/**
 * @typedef {object} Deed
 * @property {string} operation
 * @property {string} label
 * @property {string} done
 * @property {string[]} of
 * @property {string} [loses] what is lost by it: then it looks dangerous
 * @property {Record<string, unknown>} [set]
 */

/** @type {Deed[]} */
const DEEDS = [
  {
    operation: "cancel_many",
    label: "Cancel",
    done: "cancelled",
    of: ["pending", "scheduled", "running"],
    loses: "Those that run are asked to stop.",
  },
  { operation: "requeue_many", label: "Requeue", done: "requeued", of: ["failed"] },
  ...LANES.map((priority) => ({
    operation: "update_many",
    label: `Move to ${priority}`,
    done: `moved to lane ${priority}`,
    of: ["pending", "scheduled"],
    set: { priority },
  })),
  {
    operation: "delete_many",
    label: "Delete",
    done: "deleted",
    of: ["completed", "failed", "cancelled"],
    loses: "Their records and results are lost for good.",
  },
];

export class Bulk {
  #choice = h("select", { "aria-label": "Change all jobs that match", onchange: () => this.#preview() });
  #told = h("span", { role: "status" });
  #stopped = false;

  /** @param {BoardApi} board @param {{ filters: Record<string, string>, reload: () => Promise<void> }} listing */
  constructor(board, listing) {
    this.board = board;
    this.listing = listing;
    this.element = h(".bulk", { role: "group", "aria-label": "Change all" });
    this.offer();
  }

  /** What fits the status that is filtered by. */
  offer() {
    const { status } = this.listing.filters;
    const fitting = DEEDS.filter(({ of }) => !status || of.includes(status));
    const options = fitting.map((deed) => h("option", { value: DEEDS.indexOf(deed) }, `${deed.label}…`));
    this.#choice.replaceChildren(h("option", { value: "" }, "All that match…"), ...options);
    this.element.replaceChildren(this.#choice);
  }

  get #asked() {
    const { filters } = this.listing;
    return { filter: filters, ...(!Object.keys(filters).length && { all: true }) };
  }

  async #preview() {
    const deed = DEEDS[Number(this.#choice.value)];
    if (this.#choice.value === "" || !deed) return;
    const asked = { ...this.#asked, ...(deed.set && { set: deed.set }) };
    const counted = await this.board.act(deed.operation, { ...asked, dry_run: true });
    if (!counted) {
      this.offer();
      return;
    }
    const { matched } = counted;
    const [verb, ...where] = deed.label.split(" ");
    const label = [verb, plural(matched, "job"), ...where].join(" ");
    const kind = deed.loses ? "danger" : "primary";
    const go = button(kind, label, () => this.#run(deed, asked, matched), { disabled: !matched });
    const not = button("plain", "Not now", () => this.#leave());
    const told = `${plural(matched, "job")} ${named(asked.filter, deed.of)} will be ${deed.done}.`;
    setText(this.#told, matched && deed.loses ? `${told} ${deed.loses}` : told);
    this.element.replaceChildren(this.#told, h(".answers", go, not));
    (go.disabled ? not : go).focus();
  }

  /** Piece by piece, until it is done or stopped. @param {Deed} deed @param {object} asked @param {number} matched */
  async #run(deed, asked, matched) {
    this.#stopped = false;
    const bar = h("progress", { max: Math.max(1, matched), "aria-label": "Progress" });
    const stop = button("plain", "Stop", () => (this.#stopped = true));
    this.element.replaceChildren(this.#told, bar, stop);
    stop.focus();
    let [changed, seen, cursor] = [0, 0, /** @type {string | null} */ (null)];
    do {
      const piece = await this.board.act(deed.operation, { ...asked, ...(cursor && { cursor }) });
      if (!piece) break;
      changed += piece.changed;
      seen += piece.matched;
      cursor = piece.cursor;
      set(bar, "value", seen);
      setText(this.#told, `${count(changed)} ${deed.done} so far.`);
    } while (cursor && !this.#stopped);
    this.board.announce(`${plural(changed, "job")} ${deed.done}.`);
    this.#leave();
    await this.listing.reload();
  }

  #leave() {
    this.offer();
    this.#choice.focus();
  }
}

/**
 * `with status failed and task render`; without a filter, of which status.
 *
 * @param {Record<string, string>} filters
 * @param {string[]} statuses
 */
export function named({ q, ...filters }, statuses) {
  const parts = Object.entries(filters).map(([name, value]) => `${name} ${value}`);
  if (q) parts.push(`“${q}” as id, key or tag`);
  if (parts.length) return `with ${parts.join(" and ")}`;
  return `(all that are ${statuses.join(" or ")}, without a filter)`;
}
