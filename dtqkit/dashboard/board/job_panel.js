// @ts-check
/** @import { BoardApi, SidePanel } from "./parts.ts" */
/** @import { Attempt, Job, JobEvent, ProgressReport } from "./types.ts" */
// The panel on the right: one job, followed while it is open.
import { paintStatus } from "./columns.js";
import { button, fill, focusedIn, h, set, setText } from "./dom.js";
import { exact } from "./exact.js";
import { duration, moment } from "./format.js";
import { EditJob } from "./edit_job.js";
import { factsOf } from "./job_facts.js";
import { whyPaused } from "./pauses.js";
import { WAITING, after, attemptOf, attemptsOf, claimed } from "./records.js";
import { progressed, ran, renewed, waited, whole } from "./records.js";

/** Events of one job come in bursts: its record is asked for at most this often. */
const RELOAD_MS = 500;

/** A text that can be scrolled by keys. @param {string} label */
const pre = (label) => h("pre", { tabindex: "0", role: "region", "aria-label": label });

/** A text under a summary, which is hidden while it is empty. @param {string} label @param {string} [summary] */
function part(label, summary = label) {
  const text = pre(label);
  const element = h("details", { open: true, hidden: true }, h("summary", summary), text);
  /** @param {string | null | undefined | false} value */
  function show(value) {
    element.hidden = !value;
    setText(text, value || "");
  }
  return { element, show };
}

/** @implements {SidePanel} */
export class JobPanel {
  /** @type {Job | null} */
  job = null;
  /** A timer of the next load. @type {number | undefined} */
  #timer;
  #loadedAt = 0;
  #traceback = part("Traceback");
  #payload = part("Payload");
  #result = part("Result");
  #log = part("Log", "Log of the last attempt");

  /** @param {BoardApi} board @param {string} id */
  constructor(board, id) {
    this.board = board;
    this.id = id;
    this.title = h("h2", { id: "panel-title", tabindex: "-1" }, "Job");
    this.status = h("span.status");
    const cancel = () => this.#change("cancel", "The job is cancelled.");
    const requeue = () => this.#change("requeue", "The job is requeued.");
    this.cancel = button("plain.danger", "Cancel job", cancel, { hidden: true });
    this.edit = button("plain", "Change…", () => this.#edit(), { hidden: true });
    this.editing = h("div");
    this.requeue = button("primary", "Requeue", requeue, { hidden: true });
    this.problem = h("p.problem", { role: "alert" });
    this.bar = h("progress", { max: 1, "aria-label": "Progress" });
    this.progress = h(".progress", { hidden: true }, this.bar, h("span"));
    this.error = h(".error", { hidden: true }, h("b"), h("p"));
    this.warning = h("p.warning", { role: "status" });
    this.facts = h("dl.facts");
    this.attempts = h("ol.attempts");
    this.history = h("section", { hidden: true }, h("h3", "Attempts"), this.attempts);
    this.element = h(
      ".job",
      h("header", this.title, h("p.line", this.status, h("code", id))),
      h(".actions", this.cancel, this.edit, this.requeue),
      this.editing,
      this.problem,
      this.warning,
      this.progress,
      this.error,
      this.#traceback.element,
      this.facts,
      this.#payload.element,
      this.#result.element,
      this.history,
      this.#log.element,
    );
    this.load();
  }

  async load() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#loadedAt = Date.now();
    const { id } = this;
    try {
      const [job, log] = await Promise.all([this.board.request("get", { id }), this.board.request("log", { id })]);
      // An event may have been faster than this record.
      if (!this.job || job.rev >= this.job.rev) this.#take(renewed(whole(job), this.job));
      this.#log.show(log.lines.join("\n"));
    } catch (error) {
      if (!this.job) setText(this.problem, /** @type {Error} */ (error).message);
    }
  }

  #loadSoon() {
    const pause = Math.max(0, this.#loadedAt + RELOAD_MS - Date.now());
    this.#timer ??= setTimeout(() => this.load(), pause);
  }

  /** @param {JobEvent} event */
  hear(event) {
    if (event.id !== this.id || !this.job || event.rev <= this.job.rev) return;
    this.#take(after(this.job, event));
    this.#loadSoon();
  }

  /** @param {ProgressReport} news */
  report(news) {
    if (news.id !== this.id || !this.job) return;
    this.#take(progressed(this.job, news));
    this.#loadSoon();
  }

  /** @param {Job} job */
  #take(job) {
    const focused = /** @type {HTMLButtonElement | null} */ (focusedIn(this.element));
    const over = job.status === "completed" || job.status === "cancelled";
    this.job = job;
    setText(this.title, job.task);
    this.cancel.hidden = over || job.status === "failed";
    this.cancel.disabled = job.cancel_requested;
    this.requeue.hidden = job.status !== "failed";
    this.edit.hidden = !WAITING.includes(job.status) || this.editing.hasChildNodes();
    if (!WAITING.includes(job.status)) this.editing.replaceChildren();
    this.#showProgress(job);
    this.#showError(job.status === "completed" ? null : job.error);
    this.#payload.show(job.payload ? exact.stringify(job.payload, 2) : "");
    this.#result.show(job.status === "completed" && exact.stringify(job.result, 2));
    this.#showFacts(job);
    this.#showAttempts(job);
    // The focus of a button that has gone moves to the title.
    if (focused?.hidden || focused?.disabled) this.title.focus();
  }

  /** @param {Job} job */
  #showProgress(job) {
    const share = job.progress === null ? "" : `${Math.round(job.progress * 100)} %`;
    this.progress.hidden = job.status !== "running" || !(share || job.progress_message);
    set(this.bar, "value", job.progress);
    setText(this.progress.lastChild, [share, job.progress_message].filter(Boolean).join(", "));
  }

  /** @param {Job["error"]} error */
  #showError(error) {
    this.error.hidden = !error;
    setText(this.error.firstChild, error?.type ?? "");
    setText(this.error.lastChild, error?.message ?? "");
    this.#traceback.show(error?.traceback);
  }

  /** @param {Job} job */
  #showFacts(job) {
    const pauses = this.board.known.pausesOf(job);
    paintStatus(this.status, job, pauses);
    const unserved = WAITING.includes(job.status) && this.board.known.unserved(job.task);
    const warning = `No live worker serves the task ${job.task}: the job waits until one starts.`;
    setText(this.warning, whyPaused(pauses) || (unserved ? warning : ""));
    fill(
      this.facts,
      factsOf(job),
      () => h("div", h("dt"), h("dd")),
      (pair, [label, text]) => {
        setText(pair.children[0], label);
        setText(pair.children[1], text);
      },
    );
  }

  /** @param {Job} job */
  #showAttempts(job) {
    const attempts = attemptsOf(job);
    const first = attemptOf(job) - attempts.length + 1;
    this.history.hidden = attempts.length < 2 && !attempts[0]?.error;
    fill(this.attempts, attempts, attemptRow, (row, attempt) => {
      paintAttempt(row, attempt, first + attempts.indexOf(attempt));
    });
  }

  /** @param {"cancel" | "requeue"} operation @param {string} done */
  async #change(operation, done) {
    const answer = await this.board.act(operation, { id: this.id }, this.problem);
    if (!answer) return;
    const job = whole(answer);
    this.board.announce(job.status === "running" ? "The job is asked to stop." : done);
    this.#take(job);
    this.board.show(job);
  }

  #edit() {
    if (!this.job) return;
    const form = new EditJob(this.board, this.job, (changed) => {
      this.editing.replaceChildren();
      if (changed) this.board.announce("The job is changed.");
      if (changed) this.board.show(changed);
      if (changed ?? this.job) this.#take(/** @type {Job} */ (changed ?? this.job));
      this.title.focus();
    });
    this.editing.replaceChildren(form.element);
    this.edit.hidden = true;
    form.fields[0].control.node.focus();
  }

  tick() {
    if (this.job && !this.job.ended_at) this.#showFacts(this.job);
    if (this.job?.status === "pending") this.#loadSoon();
  }

  close() {
    clearTimeout(this.#timer);
  }
}

function attemptRow() {
  return h("li", h("p"), h("p.quiet"), h("details", h("summary"), pre("Traceback of this attempt")));
}

/** @param {HTMLElement} row @param {Attempt} attempt @param {number} number */
function paintAttempt(row, attempt, number) {
  const [line, times, details] = /** @type {Iterable<HTMLElement>} */ (row.children);
  const { worker, ending, error } = attempt;
  set(line, "data-ending", ending);
  setText(line, `${number}. ${ending} on ${worker}`);
  const waitedFor = duration(waited(attempt));
  setText(times, `claimed ${moment(claimed(attempt))}, waited ${waitedFor}, ran ${duration(ran(attempt))}`);
  details.hidden = !error;
  setText(details.firstChild, error ? `${error.type}: ${error.message}` : "");
  setText(details.lastChild, error?.traceback || "No traceback was kept.");
}
