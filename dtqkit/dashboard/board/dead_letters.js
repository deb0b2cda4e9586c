// @ts-check
/** @import { BoardApi, View } from "./parts.ts" */
// The panel of dead letters, which can be requeued: all, those that match, or those that are ticked.
import { button, h } from "./dom.js";
import { count, plural } from "./format.js";
import { Listing } from "./listing.js";
import { JobTable } from "./table.js";

class DeadLetters extends Listing {
  /** What the row of buttons was made for. */
  #offered = "";
  #bulk = h(".bulk", { role: "group", "aria-label": "Requeue" });

  /** @param {BoardApi} board */
  constructor(board) {
    const table = new JobTable("Dead letters", ["status", "outcome", "priority", "died", "attempts", "worker"], {
      open: (id) => board.openJob(id),
      choose: () => this.#offerRequeue(),
    });
    super(board, "dead_letters", table, {
      filters: ["task", "priority"],
      always: { status: "failed" },
      empty: ["No dead letters.", "A job that fails for good is kept here until it is requeued or expires."],
    });
    this.tools.element.after(this.#bulk);
  }

  /** @override */
  reload() {
    this.#offerRequeue();
    return super.reload();
  }

  /** @override */
  async load() {
    await super.load();
    // A question that waits for its answer stays.
    if (!this.#bulk.querySelector(".primary")) this.#offerRequeue();
  }

  #offerRequeue() {
    const { size } = this.table.chosen;
    const { q, ...filters } = this.filters;
    const empty = this.table.rows.size === 0;
    const offer = JSON.stringify([size, q, filters, empty]);
    if (this.#offered === offer) return;
    this.#offered = offer;
    const held = this.#bulk.matches(":focus-within");
    const buttons = [];
    if (size) {
      const chosen = () => this.#preview({ ids: [...this.table.chosen] });
      buttons.push(h("span", `${count(size)} selected`), button("plain", "Requeue selected…", chosen));
    }
    if (!q) {
      // `requeue_dead` takes no search: what that found is requeued by selection.
      const label = Object.keys(filters).length ? "Requeue all that match…" : "Requeue all…";
      buttons.push(button("plain", label, () => this.#preview(filters), { disabled: empty }));
    }
    this.#bulk.replaceChildren(...buttons);
    if (held) this.#focusButton();
  }

  #focusButton() {
    const enabled = /** @type {HTMLElement | null} */ (this.#bulk.querySelector("button:enabled"));
    (enabled ?? this.tools.search).focus();
  }

  /** Says how many there are, and asks. @param {Record<string, unknown>} query */
  async #preview(query) {
    const counted = await this.board.act("requeue_dead", { ...query, dry_run: true });
    if (!counted) return;
    const { matched } = counted;
    const label = `Requeue ${plural(matched, "job")}`;
    const go = button("primary", label, () => this.#requeue(query), { disabled: !matched });
    const not = button("plain", "Not now", () => this.#offerRequeue());
    this.#offered = "";
    const question = `${plural(matched, "dead letter")} will run again.`;
    this.#bulk.replaceChildren(h("span", { role: "status" }, question), h(".answers", go, not));
    (go.disabled ? not : go).focus();
  }

  /** @param {Record<string, unknown>} query */
  async #requeue(query) {
    const done = await this.board.act("requeue_dead", query);
    if (!done) return;
    this.board.announce(`${plural(done.requeued, "job")} requeued.`);
    this.table.chooseAll(false);
    await this.reload();
    if (this.table.rows.size) this.table.focus();
    else this.find();
  }
}

/** @type {View} */
export const view = { name: "Dead letters", make: (board) => new DeadLetters(board) };
