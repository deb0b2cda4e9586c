// @ts-check
/** @import { Schema } from "./types.ts" */
// What every task takes beside its arguments: the names of the API, with a label and a schema for the form.
import { LANES } from "./records.js";

/** @typedef {Record<string, [label: string, schema: Schema]>} Options */

const SECONDS = { type: "number", minimum: 0 };
const TEXT = { type: "string" };
/** Of which the API takes a list. */
const LISTS = ["tags", "unique_by"];

/** By the heading that they stand under. @type {Record<string, Options>} */
export const OPTIONS = {
  Start: {
    priority: ["Priority", { enum: LANES }],
    delay_s: ["Delay", { ...SECONDS, description: "Seconds before it may start." }],
    starts_at: ["Start at", { ...TEXT, format: "date-time", description: "Not before; instead of a delay." }],
    expires_s: ["Expires after", { ...SECONDS, description: "Seconds: cancelled if it has not started by then." }],
  },
  "One at a time": {
    unique: [
      "Unique",
      { enum: ["waiting", "active", "window"], description: "Until the first has started, is over, or for some time." },
    ],
    unique_key: ["Unique key", { ...TEXT, description: "Which are the same. Empty: those with the same payload." }],
    unique_by: ["Unique by", { ...TEXT, description: "Or by arguments: their names, separated by commas." }],
    unique_for_s: ["Unique for", { ...SECONDS, description: "Seconds of a window: a throttle." }],
    on_duplicate: ["On duplicate", { enum: ["return", "raise", "replace"], description: "What a second submit does." }],
    debounce_s: ["Debounce", { ...SECONDS, description: "Seconds after the last submit until it starts." }],
    debounce_max_s: ["Debounce max", { ...SECONDS, description: "Seconds after the first submit, at most." }],
  },
  Attempts: {
    max_attempts: ["Attempts", { type: "integer", minimum: 1, description: "How often it is tried." }],
    timeout_s: ["Time limit", { ...SECONDS, description: "Seconds that one attempt may run." }],
    backoff: ["Backoff", { enum: ["exponential", "linear", "fixed"], description: "How the retry delay grows." }],
    backoff_s: ["Retry delay", { ...SECONDS, description: "Seconds after the first failure." }],
    backoff_max_s: ["Retry delay max", { ...SECONDS, description: "Seconds that it may grow to." }],
  },
  "Follow-ups and labels": {
    on_success: ["On success", { ...TEXT, description: "A task to submit once it has completed." }],
    on_failure: ["On failure", { ...TEXT, description: "A task to submit once it has failed." }],
    tags: ["Tags", { ...TEXT, description: "Separated by commas." }],
    idempotency_key: [
      "Idempotency key",
      { ...TEXT, description: "The same key with the same payload gives the first job again." },
    ],
  },
};

/** What a call says of these, it says all of: see `dtqkit/tasks/unique.py`. */
const HOW = ["unique", "debounce_s"];
const UNIQUE = [...HOW, "unique_for_s", "on_duplicate", "debounce_max_s"];
const WHICH = ["unique_key", "unique_by"];

/**
 * The options to send. A call that says how its job is unique says all of it: then what the form shows of the task's
 * own unique options is sent, too, since these do not apply any more.
 *
 * @param {Record<string, any>} changed
 * @param {(name: string) => unknown} shown
 */
export function sentOf(changed, shown) {
  const all = HOW.some((name) => name in changed);
  const which = WHICH.filter((name) => changed[name] || !WHICH.some((other) => changed[other]));
  const said = all ? [...UNIQUE, ...which].map((name) => [name, shown(name)]) : [];
  const sent = Object.entries({ ...Object.fromEntries(said), ...changed });
  const given = sent.filter(([, value]) => value !== undefined && (value !== "" || !all));
  return Object.fromEntries(given.map(([name, value]) => [name, LISTS.includes(name) ? listOf(value) : value]));
}

/** @param {string} text */
export function listOf(text) {
  const parts = text.split(",").map((part) => part.trim());
  return parts.filter(Boolean);
}
