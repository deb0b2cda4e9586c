// @ts-check
/** @import { Job } from "./types.ts" */
// What a job's panel says about it, as pairs of a label and a text.
import { capital, clock, duration, moment } from "./format.js";
import { attemptOf, claimed, createdAt, ran, triedOf, waited } from "./records.js";

/** What has a text. @param {Job} job @returns {[string, string][]} */
export function factsOf(job) {
  const begun = attemptOf(job) > 0 && {
    Claimed: moment(claimed(job)),
    Started: moment(job.started_at),
    Waited: duration(waited(job)),
    Ran: duration(ran(job)),
    Attempt: `${triedOf(job)} failures`,
  };
  const facts = {
    Priority: capital(job.priority),
    Worker: job.worker,
    Created: clock(createdAt(job)),
    Due: job.status === "scheduled" && moment(job.due_at),
    ...begun,
    Ended: job.ended_at && moment(job.ended_at),
    "Time limit": duration(job.timeout_s),
    Snoozed: job.snoozes && `${job.snoozes} times`,
    "Not tried again": job.status === "failed" && job.error?.final,
    "On failure": job.on_failure,
    "On success": job.on_success,
    Follows: job.follows,
    "Followed by": job.followed_by?.join(", "),
    "Expires after": job.expires_s && duration(job.expires_s),
    Tags: job.tags.join(", "),
    "Idempotency key": job.idempotency_key,
    Schedule: job.schedule && `${job.schedule}, for ${moment(job.scheduled_for)}`,
    Unique: uniqueOf(job),
  };
  return Object.entries(facts).flatMap(([label, text]) => (text ? [[label, text]] : []));
}

/** How it is unique, by which key, and how many submits have found it. @param {Job} job */
export function uniqueOf({ unique, unique_key, unique_until, duplicates = 0 }) {
  if (!unique) return "";
  const until = { waiting: "until it starts", active: "until it is over", window: `until ${moment(unique_until)}` };
  return `${until[unique]}, key ${unique_key}, ${duplicates} ${duplicates === 1 ? "duplicate" : "duplicates"}`;
}
