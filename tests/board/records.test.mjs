import assert from "node:assert/strict";
import { test } from "node:test";
import {
  after,
  attemptOf,
  attemptsOf,
  createdAt,
  progressed,
  ran,
  renewed,
  triedOf,
  waited,
  whole,
} from "../../dtqkit/dashboard/board/records.js";

const ID = "65a000000000000000000001";
const START = "2026-01-01T08:00:02Z";
const pending = whole({ id: ID, task: "walk" });
const running = whole({
  id: ID,
  status: "running",
  token: 1,
  rev: 2,
  started_at: START,
  queued_at: "2026-01-01T08:00:00Z",
});

test("what the server leaves out has its usual value", () => {
  assert.deepEqual(
    [pending.status, pending.priority, pending.max_attempts, pending.tags],
    ["pending", "medium", 3, []],
  );
  assert.equal(whole({ id: ID, priority: "high" }).priority, "high");
});

test("an error of an event is split into its type and its message", () => {
  const job = after(running, { id: ID, rev: 3, status: "failed", error: "KeyError: 'a: b'" });
  assert.deepEqual(job.error, { type: "KeyError", message: "'a: b'" });
});

test("an event without an error keeps the one that is known, and null takes it away", () => {
  const failed = after(running, { id: ID, rev: 3, status: "failed", error: "KeyError: x" });
  assert.equal(after(failed, { id: ID, rev: 4, status: "failed" }).error.type, "KeyError");
  assert.equal(after(failed, { id: ID, rev: 4, status: "completed", error: null }).error, null);
});

test("a claim begins a new attempt, and a retry ends it", () => {
  const claimed = after(
    { ...pending, error: { type: "E", message: "" }, run_ms: 5 },
    { id: ID, rev: 2, status: "running" },
  );
  assert.deepEqual([claimed.error, claimed.run_ms, claimed.started_at], [null, null, null]);
  assert.ok(Date.now() - Date.parse(claimed.claimed_at) < 60_000);
  const again = after(running, { id: ID, rev: 3, status: "pending" });
  assert.deepEqual([again.started_at, again.claimed_at], [null, null]);
});

test("a requested cancel is cleared by the next event", () => {
  assert.equal(
    after({ ...running, cancel_requested: true }, { id: ID, rev: 3, status: "running" }).cancel_requested,
    false,
  );
});

test("a report of a newer attempt begins it, one of an older attempt is nothing", () => {
  const begun = progressed(pending, { id: ID, token: 1, progress: 0.5, started_at: START });
  assert.deepEqual([begun.status, begun.progress, begun.started_at], ["running", 0.5, START]);
  assert.equal(progressed({ ...running, token: 2 }, { id: ID, token: 1, progress: 0.5 }).progress, null);
  const done = whole({ id: ID, status: "completed", token: 1 });
  assert.equal(progressed(done, { id: ID, token: 2 }), done);
});

test("a record that does not know yet when its attempt began does not forget it", () => {
  assert.equal(renewed({ ...running, started_at: null }, running).started_at, START);
  assert.equal(renewed({ ...running, token: 2, started_at: null }, running).started_at, null);
});

test("waits and runs are those of the last attempt", () => {
  const earlier = [{ wait_ms: 1, queued_at: "2026-01-01T08:00:00Z", started_at: "2026-01-01T08:00:05Z" }];
  assert.equal(waited(running), 2);
  assert.equal(waited(whole({ id: ID, status: "failed", earlier })), 5);
  assert.equal(waited({ wait_ms: 1500 }), 1.5);
  assert.equal(waited(pending), null);
  assert.equal(ran({ run_ms: 40 }), 0.04);
  assert.equal(ran(pending), null);
  assert.ok(ran(running) > 0);
});

test("a claim that could not begin is no attempt", () => {
  const job = whole({ id: ID, status: "running", token: 5, declined: 2, declined_before: 1, failures: 1 });
  assert.equal(attemptOf(job), 2);
  assert.equal(triedOf(job), "2 · 1 of 3");
});

test("the attempt under way is the last of the attempts", () => {
  const earlier = [{ worker: "a", ending: "failed" }];
  assert.deepEqual(
    attemptsOf({ ...running, earlier }).map((one) => one.ending),
    ["failed", "running"],
  );
  assert.deepEqual(attemptsOf(whole({ id: ID, status: "failed", started_at: START, earlier })), earlier);
});

test("an id has the time of its job", () => {
  assert.equal(createdAt(pending), 0x65a00000 * 1000);
  assert.equal(createdAt({ ...pending, created_at: START }), Date.parse(START));
});
