// @ts-check
/** @import { Attempt, Fault, Job, JobEvent, Lane, PartialJob, ProgressReport, Status } from "./types.ts" */
// Jobs, and what events change of them. Nothing here needs a document.

/** @type {Status[]} */
export const STATUSES = ["pending", "scheduled", "running", "completed", "failed", "cancelled"];
/** @type {Status[]} */
export const WAITING = ["pending", "scheduled"];
/** Of jobs that are over. */
export const OVER = STATUSES.slice(3);
/** @type {Lane[]} */
export const LANES = ["high", "medium", "low"];

/** Of a job that has no attempt under way. */
const NOT_RUN = { claimed_at: null, started_at: null, run_ms: null, wait_ms: null };

/** A job with all that the server leaves out because it is usual. @param {PartialJob} job @returns {Job} */
export function whole(job) {
  return {
    task: "",
    priority: "medium",
    status: "pending",
    max_attempts: 3,
    failures: 0,
    timeout_s: 300,
    tags: [],
    earlier: [],
    token: 0,
    rev: 1,
    cancel_requested: false,
    progress: null,
    progress_message: "",
    ...job,
  };
}

/** @param {string | Fault | null} error */
function faultOf(error) {
  if (typeof error !== "string") return error;
  const [type, ...message] = error.split(": ");
  return { type, message: message.join(": ") };
}

/**
 * The job after an event. An event has no times: those of its arrival count.
 *
 * @param {Job} job
 * @param {JobEvent} event
 */
export function after(job, event) {
  const { error, ...changes } = event;
  /** @type {Job} */
  const next = { ...job, cancel_requested: false, ...changes };
  if (error !== undefined) next.error = faultOf(error);
  if (event.status === "running" && job.status !== "running") {
    Object.assign(next, NOT_RUN, { claimed_at: now(), error: null, progress: null, progress_message: "" });
  }
  return WAITING.includes(event.status) ? { ...next, ...NOT_RUN } : next;
}

/**
 * The job after a report of its worker, which may come before the event of its claim.
 *
 * @param {Job} job
 * @param {ProgressReport} report
 * @returns {Job}
 */
export function progressed(job, { token, progress = null, message = "", started_at }) {
  const begun = WAITING.includes(job.status) && token > job.token;
  if (!begun && (job.status !== "running" || token < job.token)) return job;
  const next = begun ? after(job, { id: job.id, rev: job.rev, status: "running" }) : job;
  return { ...next, token, progress, progress_message: message, started_at: started_at ?? next.started_at };
}

/**
 * Of a running attempt, only a report says when it began: a record must not forget it.
 *
 * @param {Job} job
 * @param {Job | null} [was]
 * @returns {Job}
 */
export function renewed(job, was) {
  if (job.status !== "running" || job.token !== was?.token) return job;
  return { ...job, started_at: job.started_at ?? was.started_at };
}

/** In ms; an id begins with its time in seconds. @param {Job} job */
export const createdAt = (job) =>
  job.created_at ? Date.parse(job.created_at) : parseInt(job.id.slice(0, 8), 16) * 1000;

export const now = () => new Date().toISOString();

/** Seconds, or null. @param {string | null | undefined} from @param {string | null | undefined} to */
export const between = (from, to) => (from && to ? Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000) : null);

/** @param {Attempt} attempt */
export const claimed = (attempt) => attempt.claimed_at ?? attempt.started_at;

/** Whether a job's own times are of its last attempt: otherwise that one is in `earlier`. @param {Job} job */
const holdsLastAttempt = (job) => job.status === "running" || job.status === "completed";

/** How long an attempt waited, or a job's last one, in seconds; null: it never began. @param {Attempt | Job} one */
export function waited(one) {
  if (one.wait_ms != null) return one.wait_ms / 1000;
  const job = "earlier" in one ? one : null;
  /** @type {Attempt & { created_at?: string }} */
  const attempt = job && !holdsLastAttempt(job) ? (job.earlier.at(-1) ?? {}) : one;
  return between(attempt.queued_at ?? attempt.created_at, attempt.started_at);
}

/** How long it ran, in seconds; null: it never began. @param {Attempt | Job} one */
export function ran(one) {
  if (one.run_ms != null) return one.run_ms / 1000;
  return "status" in one && one.status === "running" ? between(one.started_at, now()) : null;
}

/** The number of the last attempt: a claim that could not begin is none. @param {Job} job */
export const attemptOf = ({ token, declined = 0, declined_before = 0 }) => token - declined - declined_before;

/** Oldest first. @param {Job} job @returns {Attempt[]} */
export function attemptsOf(job) {
  if (!claimed(job) || !holdsLastAttempt(job)) return job.earlier;
  return [...job.earlier, { ...job, ending: job.status, error: null }];
}

/** @param {Job} job */
export const triedOf = (job) => `${attemptOf(job)} · ${job.failures} of ${job.max_attempts}`;
