// @ts-check
/** @import { BoardApi, View } from "./parts.ts" */
/** @import { Job } from "./types.ts" */
// The panel of all jobs.
import { Bulk } from "./bulk.js";
import { Listing } from "./listing.js";
import { JobTable } from "./table.js";

class Jobs extends Listing {
  /** @param {ConstructorParameters<typeof Listing>} given */
  constructor(...given) {
    super(...given);
    this.bulk = new Bulk(this.board, this);
    this.tools.element.lastElementChild?.before(this.bulk.element);
  }

  /** @override */
  reload() {
    this.bulk?.offer();
    return super.reload();
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
    { open: (id) => board.openJob(id) },
  );
  return new Jobs(board, "jobs", table, {
    filters: ["status", "task", "priority"],
    empty: ["Nothing has been submitted yet.", "Submit a job here, or from Python: queue.submit(task, …)"],
  });
}

/** @type {View} */
export const view = { name: "Jobs", make };
