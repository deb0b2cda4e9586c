// @ts-check
/** @import { Known } from "./known.js" */
/** @import { Panel, View } from "./parts.ts" */
/** @import { Worker } from "./types.ts" */
// The panel of workers: which are alive, and how busy they are.
import { fill, h, rowOf, set, setText, table } from "./dom.js";
import { count, duration } from "./format.js";
import { LATE_S } from "./overview.js";

const HEADS = ["Worker", "Last beat", "Slots busy", "Lanes", "Completed", "Failed", "Up", "Host", "Version"];
const BEAT = HEADS.indexOf("Last beat");

/** @implements {Panel} */
class Workers {
  #body = h("tbody");
  #note = h(".note", h("strong", "No worker is alive."), "Jobs wait. Start one: dtqkit worker APP");
  element = h(".listing", table("Workers", HEADS, this.#body), this.#note);

  /** @param {Known} known */
  constructor(known) {
    this.known = known;
  }

  update() {
    const { workers } = this.known;
    fill(
      this.#body,
      workers,
      () => rowOf(HEADS),
      ({ cells }, worker) => {
        const age = this.known.beatAge(worker);
        textsOf(worker, age, this.known).forEach((text, i) => setText(cells[i], text));
        set(cells[BEAT], "data-bad", age > LATE_S);
      },
    );
    this.#note.hidden = workers.length > 0;
  }

  tick() {
    this.update();
  }
}

/** In the order of HEADS. @param {Worker} worker @param {number} age @param {Known} known */
function textsOf(worker, age, known) {
  const upS = (Date.now() - Date.parse(worker.started_at)) / 1000;
  const lanes = worker.lanes.map((lane) => (known.pauseOfLane(lane) ? `${lane} (paused)` : lane));
  return [
    worker.name,
    `${duration(age)} ago${age > LATE_S ? ", late" : ""}`,
    `${worker.load} of ${worker.concurrency}${worker.status === "stopping" ? ", stopping" : ""}`,
    lanes.join(", "),
    count(worker.completed),
    count(worker.failed),
    duration(Math.max(0, upS)),
    `${worker.host}:${worker.pid}`,
    worker.version,
  ];
}

/** @type {View} */
export const view = { name: "Workers", make: (board) => new Workers(board.known) };
