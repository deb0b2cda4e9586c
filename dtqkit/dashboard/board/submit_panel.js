// @ts-check
/** @import { BoardApi, SidePanel } from "./parts.ts" */
/** @import { Problem, Schema, TaskInfo } from "./types.ts" */
// The panel on the right: a form that submits a job.
import { button, focusedIn, h, setText } from "./dom.js";
import { Field, FieldError, resolve } from "./fields.js";
import { short } from "./format.js";
import { LANES, whole } from "./records.js";
import { refusal } from "./source.js";

/** What every task takes beside its arguments, by name: label and schema. @type {Record<string, [string, Schema]>} */
const OPTIONS = {
  priority: ["Priority", { enum: LANES }],
  delay_s: ["Delay", { type: "number", minimum: 0, description: "Seconds before it may start." }],
  starts_at: ["Start at", { type: "string", format: "date-time", description: "Not before; instead of a delay." }],
  max_attempts: ["Attempts", { type: "integer", minimum: 1 }],
  timeout_s: ["Time limit", { type: "number", description: "Seconds that one attempt may run." }],
  expires_s: ["Expires after", { type: "number", description: "Seconds: cancelled if it has not started by then." }],
  idempotency_key: [
    "Idempotency key",
    { type: "string", description: "The same key with the same payload gives the first job again." },
  ],
  on_failure: ["On failure", { type: "string", description: "A task to submit once it has failed." }],
  on_success: ["On success", { type: "string", description: "A task to submit once it has completed." }],
  tags: ["Tags", { type: "string", description: "Separated by commas." }],
};

/** @implements {SidePanel} */
export class SubmitPanel {
  /** @type {Field[]} */
  #arguments = [];
  /** @type {Field[]} */
  #options = [];

  /** @param {BoardApi} board */
  constructor(board) {
    this.board = board;
    this.title = h("h2", { id: "panel-title", tabindex: "-1" }, "Submit a job");
    this.task = h("select", { id: "submit-task", onchange: () => this.#choose() });
    this.about = h("p.about");
    this.fields = h(".fields");
    this.more = h(".fields");
    this.problem = h("p.problem", { role: "alert" });
    this.done = h("p", { role: "status" });
    this.submit = h("button.primary", { type: "submit" }, "Submit");
    this.element = h(
      "form.submit",
      {
        novalidate: true,
        onsubmit: (/** @type {SubmitEvent} */ event) => this.#send(event),
        onkeydown: (/** @type {KeyboardEvent} */ event) => {
          if (event.key === "Enter" && event.ctrlKey) this.element.requestSubmit();
        },
      },
      h("header", this.title),
      h(".field", h("label", { for: "submit-task" }, "Task"), this.task),
      this.about,
      this.fields,
      h("details", h("summary", "Options"), this.more),
      this.problem,
      h(".actions", this.submit, this.done),
    );
    board.loadTasks().then(() => this.#offer(board.known.tasks));
  }

  /** @param {TaskInfo[]} tasks */
  #offer(tasks) {
    this.task.replaceChildren(...tasks.map((task) => h("option", { value: task.name }, task.name)));
    this.submit.disabled = !tasks.length;
    if (tasks.length) this.#choose();
    else setText(this.about, "No task is known yet: workers publish theirs when they start.");
    if (focusedIn(this.task) === this.title) this.task.focus();
  }

  /** The fields of the task that is chosen. */
  #choose() {
    const task = this.board.known.tasks.find((one) => one.name === this.task.value);
    if (!task) return;
    const { schema, defaults, description } = task;
    setText(this.about, description);
    this.#arguments = Object.entries(schema.properties ?? {}).map(([name, one]) => {
      return new Field(name, resolve(one, schema), { required: schema.required?.includes(name) });
    });
    this.#options = Object.entries(OPTIONS).map(([name, [label, one]]) => {
      return new Field(name, { ...one, default: defaults[name] }, { label });
    });
    this.fields.replaceChildren(...this.#arguments.map((field) => field.element));
    this.more.replaceChildren(...this.#options.map((field) => field.element));
  }

  /** Throws the first FieldError, once all are shown. @param {Field[]} fields */
  #values(fields) {
    /** @type {Record<string, any>} */
    const values = {};
    let wrong = null;
    for (const field of fields) {
      try {
        field.complain("");
        const value = field.value();
        if (value !== undefined) values[field.name] = value;
      } catch (error) {
        field.complain(/** @type {Error} */ (error).message);
        wrong ??= error;
      }
    }
    if (wrong) throw wrong;
    return values;
  }

  #submission() {
    const payload = this.#values(this.#arguments);
    const { tags, ...options } = this.#values(this.#options);
    if (tags) options.tags = listOf(tags);
    return { task: this.task.value, payload, ...options };
  }

  /** @param {SubmitEvent} event */
  async #send(event) {
    event.preventDefault();
    setText(this.problem, "");
    this.done.replaceChildren();
    this.submit.disabled = true;
    try {
      const job = whole(await this.board.request("submit", this.#submission()));
      this.done.replaceChildren(
        job.was_duplicate ? "No new job: the unique key belongs to " : "Submitted ",
        button("link", short(job.id), () => this.board.openJob(job.id)),
      );
      this.board.show(job);
    } catch (error) {
      if (!(error instanceof FieldError)) this.#showRefusal(/** @type {Problem & Error} */ (error));
    }
    this.submit.disabled = false;
    const invalid = /** @type {HTMLElement | null} */ (this.element.querySelector("[aria-invalid]"));
    (invalid ?? this.submit).focus();
  }

  /** Each part at its field, the rest below. @param {Problem & Error} error */
  #showRefusal(error) {
    const rest = [];
    for (const { path = "$", detail = error.message } of error.errors?.length ? error.errors : [{}]) {
      const [, name, deeper] = /^\$\.([^.[]+)(.*)$/.exec(path) ?? [];
      const field = this.#arguments.find((one) => one.name === name);
      if (field) field.complain(deeper ? `${detail} (at ${path})` : detail);
      else rest.push(refusal(error, detail));
    }
    setText(this.problem, rest.join(" "));
  }
}

/** @param {string} text */
function listOf(text) {
  const parts = text.split(",").map((part) => part.trim());
  return parts.filter(Boolean);
}
