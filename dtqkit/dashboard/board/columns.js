// @ts-check
/** @import { Job, Pause } from "./types.ts" */
// The columns of a table of jobs: a heading, and what paints a cell.
import { exact } from "./exact.js";
import { h, icon, set, setText } from "./dom.js";
import { capital, clock, duration, moment } from "./format.js";
import { whyPaused } from "./pauses.js";
import { attemptOf, between, createdAt, now, ran, triedOf, waited } from "./records.js";

const RESULT_SHOWN = 200;

/** Whether it would start if it were not for these pauses. @param {Job} job @param {Pause[]} pauses */
function isHeld({ status, due_at: due }, pauses) {
  return pauses.length > 0 && (status === "pending" || Date.parse(due ?? "") <= Date.now());
}

/** @param {Job} job @param {Pause[]} pauses those that hold it */
export function statusText(job, pauses) {
  if (isHeld(job, pauses)) return "Paused";
  if (job.status === "cancelled" && job.error?.type === "JobExpired") return "Expired";
  if (job.status !== "running") return capital(job.status);
  if (job.cancel_requested) return "Stopping";
  const share = job.progress !== null ? ` ${Math.round(job.progress * 100)} %` : "";
  if (job.started_at || share) return `Running${share}`;
  return `Claimed ${duration(between(job.claimed_at, now()))} ago`;
}

/**
 * The icon is replaced only when the status has changed.
 *
 * @param {HTMLElement} cell
 * @param {Job} job
 * @param {Pause[]} pauses those that hold it
 */
export function paintStatus(cell, job, pauses) {
  const text = statusText(job, pauses);
  const status = text === "Paused" ? "paused" : job.status;
  if (cell.dataset.status !== status) {
    cell.replaceChildren(icon(status), h("span"));
    set(cell, "data-status", status);
  }
  setText(cell.lastChild, text);
  set(cell, "title", whyPaused(pauses) || null);
}

/** @param {Job} job */
export function outcome(job) {
  if (job.error && job.status !== "completed") return `${job.error.type}: ${job.error.message}`;
  if (job.status === "running") return job.progress_message;
  if (job.status === "scheduled" && job.due_at) return `due ${moment(job.due_at)}`;
  return job.result == null ? "" : exact.stringify(job.result).slice(0, RESULT_SHOWN);
}

/** What may be cut is whole while it is pointed at. @param {HTMLElement} cell @param {string} words */
function paintLong(cell, words) {
  setText(cell, words);
  set(cell, "title", words || null);
}

/** @param {HTMLElement} cell @param {Job} job */
function paintOutcome(cell, job) {
  paintLong(cell, outcome(job));
  set(cell, "data-bad", job.error && job.status !== "completed");
}

/** @param {HTMLElement} cell @param {Job} job */
function paintWorker(cell, job) {
  paintLong(cell, job.worker ?? "–");
}

/** A job's priority never changes. @param {HTMLElement} cell @param {Job} job */
function paintPriority(cell, job) {
  if (!cell.hasChildNodes()) cell.append(icon(job.priority), h("span", capital(job.priority)));
}

/** @param {HTMLElement} cell @param {Job} job */
function paintAttempts(cell, job) {
  setText(cell, attemptOf(job) ? triedOf(job) : "–");
  set(cell, "title", attemptOf(job) > 0 && `attempt ${triedOf(job)} failures`);
}

/** @param {(job: Job) => string} of @returns {(cell: HTMLElement, job: Job) => void} */
const text = (of) => (cell, job) => setText(cell, of(job));

/** @typedef {keyof typeof COLUMNS} Column */
export const COLUMNS = {
  status: { head: "Status", paint: paintStatus },
  outcome: { head: "Outcome", paint: paintOutcome },
  priority: { head: "Priority", paint: paintPriority },
  created: { head: "Created", paint: text((job) => clock(createdAt(job))) },
  died: { head: "Failed", paint: text((job) => moment(job.ended_at)) },
  wait: { head: "Wait", paint: text((job) => duration(waited(job))) },
  run: { head: "Run", paint: text((job) => duration(ran(job))) },
  attempts: { head: "Attempt", paint: paintAttempts },
  worker: { head: "Worker", paint: paintWorker },
};
