// @ts-check
/** @import { BoardApi, View } from "./parts.ts" */
/** @import { Job } from "./types.ts" */
// The panel of all jobs.
import { Bulk, DEEDS } from "./bulk.js";
import { h } from "./dom.js";
import { Listing } from "./listing.js";
import { JobTable } from "./table.js";

class Jobs extends Listing {
  /** @param {ConstructorParameters<typeof Listing>} given */
  constructor(...given) {
    super(...given);
    this.choice = h("select", { "aria-label": "Change all jobs that match", onchange: () => this.#ask() });
    this.bulk = new Bulk(this.board, this, [this.choice]);
    this.tools.element.lastElementChild?.before(this.bulk.element);
    this.#offer();
  }

  /** @override */
  reload() {
    this.#offer();
    return super.reload();
  }

  /** What fits the status that is filtered by. */
  #offer() {
    const { status } = this.filters;
    const fitting = DEEDS.filter(({ of }) => !status || of.includes(status));
    const options = fitting.map((deed) => h("option", { value: DEEDS.indexOf(deed) }, `${deed.label}…`));
    this.choice.replaceChildren(h("option", { value: "" }, "All that match…"), ...options);
    this.bulk.offer();
  }

  #ask() {
    const deed = DEEDS[Number(this.choice.value)];
    this.choice.value = "";
    this.bulk.ask(deed, this.filters);
  }

  /** The first rows come with the snapshot, before the listing is loaded. @override @param {Job[]} jobs */
  restart(jobs) {
    const unfiltered = Object.keys(this.filters).length === 0;
    if (this.first && unfiltered) for (const job of jobs) this.table.put(job);
    super.restart(jobs);
  }
}

/** @param {BoardApi} board */
function make(board) {
  const table = new JobTable(
    "Jobs",
    ["status", "outcome", "priority", "created", "wait", "run", "attempts", "worker"],
    board,
  );
  return new Jobs(board, "jobs", table, {
    filters: ["status", "task", "priority", "since"],
    empty: ["Nothing has been submitted yet.", "Submit a job here, or from Python: queue.submit(task, …)"],
  });
}

/** @type {View} */
export const view = { name: "Jobs", make };
