// @ts-check
/** @import { BoardApi, View } from "./parts.ts" */
// The panel of dead letters, which can be requeued: all, those that match, or those that are ticked.
import { Bulk, REQUEUE } from "./bulk.js";
import { button, h, setText } from "./dom.js";
import { count } from "./format.js";
import { Listing } from "./listing.js";
import { JobTable } from "./table.js";

class DeadLetters extends Listing {
  #size = h("span");
  #some = button("plain", "Requeue selected…", () => this.#bulk.ask(REQUEUE, { ids: [...this.table.chosen] }));
  #all = button("plain", "", () => this.#bulk.ask(REQUEUE, this.filters));
  #bulk;

  /** @param {BoardApi} board */
  constructor(board) {
    const table = new JobTable(
      "Dead letters",
      ["status", "outcome", "priority", "died", "attempts", "worker"],
      board,
      () => this.#offer(),
    );
    super(board, "dead_letters", table, {
      filters: ["task", "priority", "since"],
      always: { status: "failed" },
      empty: ["No dead letters.", "A job that fails for good is kept here until it is requeued or expires."],
    });
    this.#bulk = new Bulk(board, this, [this.#size, this.#some, this.#all]);
    this.tools.element.after(this.#bulk.element);
    this.#offer();
  }

  /** @override */
  reload() {
    this.#offer();
    return super.reload();
  }

  /** @override */
  async load() {
    await super.load();
    this.#paint();
  }

  /** What was counted before is not offered any more. */
  #offer() {
    this.#bulk.offer();
    this.#paint();
  }

  #paint() {
    const { size } = this.table.chosen;
    this.#size.hidden = this.#some.hidden = !size;
    setText(this.#size, `${count(size)} selected`);
    setText(this.#all, Object.keys(this.filters).length ? "Requeue all that match…" : "Requeue all…");
    this.#all.disabled = !this.table.rows.size;
  }
}

/** @type {View} */
export const view = { name: "Dead letters", make: (board) => new DeadLetters(board) };
