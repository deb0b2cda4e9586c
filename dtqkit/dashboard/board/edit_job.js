// @ts-check
/** @import { BoardApi } from "./parts.ts" */
/** @import { Job } from "./types.ts" */
// The form in the panel of a waiting job that changes it: its lane, its delay, its tags, its payload.
import { button, h, setText } from "./dom.js";
import { exact } from "./exact.js";
import { Field, FieldError } from "./fields.js";
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
    setText(this.problem, "");
    /** @type {Record<string, any>} */
    const changes = {};
    try {
      for (const field of this.fields) {
        const value = field.value();
        if (value !== undefined) changes[field.name] = value;
      }
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      setText(this.problem, error.message);
      return;
    }
    const tags = this.fields[2].control.read();
    if (exact.stringify(tags) !== exact.stringify(this.job.tags.join(", "))) changes.tags = listOf(String(tags));
    const asked = { id: this.job.id, ...changes };
    const changed = await this.board.act("update", asked, (message) => setText(this.problem, message));
    if (changed) this.leave(whole(changed));
  }
}
