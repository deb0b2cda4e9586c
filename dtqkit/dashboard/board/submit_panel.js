// @ts-check
/** @import { BoardApi, SidePanel } from "./parts.ts" */
/** @import { Problem, TaskInfo } from "./types.ts" */
// The panel on the right: a form that submits a job.
import { button, focusedIn, h, set, setText } from "./dom.js";
import { Field, resolve, valuesOf } from "./fields.js";
import { short } from "./format.js";
import { OPTIONS, sentOf } from "./job_options.js";
import { memory } from "./memory.js";
import { whole } from "./records.js";
import { refusal } from "./source.js";

/** @type {TaskInfo} */
const NO_TASK = { name: "", description: "", schema: {}, defaults: {} };
/** The task that was submitted last in this browser. */
const last = memory(() => localStorage, "dtqkit.task");

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
    const described = { "aria-required": "true", "aria-describedby": "submit-task-problem" };
    this.task = h("select", { id: "submit-task", ...described, onchange: () => this.#choose() });
    this.missing = h("p.problem", { id: "submit-task-problem" });
    this.about = h("p.about");
    this.fields = h(".fields");
    this.more = h("details.options", { hidden: true });
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
      h(".field", h("label", { for: "submit-task" }, "Task"), this.task, this.missing),
      this.about,
      this.fields,
      this.more,
      this.problem,
      h(".actions", this.submit, this.done),
    );
    board.loadTasks().then(() => this.#offer(board.known.tasks));
  }

  /** @param {TaskInfo[]} tasks */
  #offer(tasks) {
    const names = tasks.map(({ name }) => name);
    const options = names.map((name) => h("option", { value: name }, name));
    this.task.replaceChildren(h("option", { value: "" }, "Choose a task…"), ...options);
    this.task.value = names.find((name) => names.length === 1 || name === last.recall()) ?? "";
    this.submit.disabled = !tasks.length;
    if (tasks.length) this.#choose();
    else setText(this.about, "No task is known yet: workers publish theirs when they start.");
    if (focusedIn(this.task) === this.title) this.task.focus();
  }

  /** The fields of the task that is chosen. */
  #choose() {
    const task = this.board.known.tasks.find((one) => one.name === this.task.value);
    this.more.hidden = !task;
    const { schema, defaults, description } = task ?? NO_TASK;
    setText(this.about, description);
    if (task) this.#askTask("");
    this.#arguments = Object.entries(schema.properties ?? {}).map(([name, one]) => {
      return new Field(name, resolve(one, schema), { required: schema.required?.includes(name) });
    });
    const groups = Object.entries(OPTIONS).map(([heading, options]) => {
      const fields = Object.entries(options).map(([name, [label, one]]) => {
        const usual = defaults[name];
        return new Field(name, { ...one, default: Array.isArray(usual) ? usual.join(", ") : usual }, { label });
      });
      return { heading, fields };
    });
    this.#options = groups.flatMap(({ fields }) => fields);
    this.fields.replaceChildren(...this.#arguments.map((field) => field.element));
    const sets = groups.map(({ heading, fields }) => {
      return h("fieldset.fields", h("legend", heading), fields.map((field) => field.element));
    });
    this.more.replaceChildren(h("summary", "Options"), ...sets);
  }

  /** @param {string} text */
  #askTask(text) {
    setText(this.missing, text);
    set(this.task, "aria-invalid", text ? "true" : null);
  }

  /** Undefined: something is wrong, and said. */
  #submission() {
    const task = this.task.value;
    if (!task) this.#askTask("Choose one first.");
    const payload = valuesOf(this.#arguments);
    const options = valuesOf(this.#options);
    const shown = (/** @type {string} */ name) => this.#options.find((one) => one.name === name)?.control.read();
    return task && payload && options && { task, payload, ...sentOf(options, shown) };
  }

  /** @param {SubmitEvent} event */
  async #send(event) {
    event.preventDefault();
    setText(this.problem, "");
    this.done.replaceChildren();
    this.submit.disabled = true;
    const submission = this.#submission();
    try {
      if (submission) await this.#submit(submission);
    } catch (error) {
      this.#showRefusal(/** @type {Problem & Error} */ (error));
    }
    this.submit.disabled = false;
    const invalid = /** @type {HTMLElement | null} */ (this.element.querySelector("[aria-invalid]"));
    if (invalid && this.more.contains(invalid)) this.more.open = true;
    (invalid ?? this.submit).focus();
  }

  /** @param {{ task: string }} submission */
  async #submit(submission) {
    const job = whole(await this.board.request("submit", submission));
    last.remember(submission.task);
    this.done.replaceChildren(
      job.was_duplicate ? "No new job: the unique key belongs to " : "Submitted ",
      button("link", short(job.id), () => this.board.openJob(job.id)),
    );
    this.board.show(job);
  }

  /** Each part at its field, the rest below. @param {Problem & Error} error */
  #showRefusal(error) {
    const rest = [];
    for (const { path = "$", detail = error.message } of error.errors?.length ? error.errors : [{}]) {
      const [, name, deeper] = /^\$\.([^.[]+)(.*)$/.exec(path) ?? [];
      // An error of an option begins with its name.
      const option = this.#options.find((one) => one.name === /^\w+/.exec(detail)?.[0]);
      const field = this.#arguments.find((one) => one.name === name) ?? option;
      if (field) field.complain(deeper ? `${detail} (at ${path})` : detail);
      else rest.push(refusal(error, detail));
    }
    setText(this.problem, rest.join(" "));
  }
}
