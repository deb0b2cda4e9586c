// @ts-check
/** @import { BoardApi } from "./parts.ts" */
/** @import { Job } from "./types.ts" */
// The form in the panel of a waiting job that changes it: its lane, its delay, its tags, its payload.
import { button, h } from "./dom.js";
import { Field, valuesOf } from "./fields.js";
import { listOf } from "./job_options.js";
import { LANES, whole } from "./records.js";

export class EditJob {
  /**
   * @param {BoardApi} board
   * @param {Job} job
   * @param {(job: Job | null) => void} leave with the changed job, or without
   */
  constructor(board, job, leave) {
    this.board = board;
    this.job = job;
    this.leave = leave;
    this.fields = [
      new Field("priority", { enum: LANES, default: job.priority }, { label: "Lane" }),
      new Field("delay_s", { type: "number", minimum: 0, description: "Seconds from now before it may start." }, {
        label: "New delay",
      }),
      new Field("tags", { type: "string", default: job.tags.join(", "), description: "Separated by commas." }, {
        label: "Tags of the job",
      }),
      new Field("payload", { type: "object", default: job.payload }, { label: "Whole payload" }),
    ];
    this.problem = h("p.problem", { role: "alert" });
    const send = (/** @type {SubmitEvent} */ event) => this.#send(event);
    this.element = h(
      "form.fields.edit",
      { novalidate: true, "aria-label": "Change the job", onsubmit: send },
      this.fields.map((field) => field.element),
      this.problem,
      h(
        ".actions",
        h("button.primary", { type: "submit" }, "Change"),
        button("plain", "Not now", () => leave(null)),
      ),
    );
  }

  /** @param {SubmitEvent} event */
  async #send(event) {
    event.preventDefault();
    const changes = valuesOf(this.fields);
    if (!changes) return;
    const { tags } = changes;
    const asked = { id: this.job.id, ...changes, ...(tags !== undefined && { tags: listOf(tags) }) };
    const changed = await this.board.act("update", asked, this.problem);
    if (changed) this.leave(whole(changed));
  }
}
