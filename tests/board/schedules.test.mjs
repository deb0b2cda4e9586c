import assert from "node:assert/strict";
import { test } from "node:test";
import { endText, runsOf, textsOf } from "../../dtqkit/dashboard/board/schedules.js";

const NOW = Date.parse("2026-01-01T08:00:00Z");
const nightly = { name: "nightly", task: "report", cron: "0 3 * * *", next_at: "2026-01-01T08:00:04Z" };

test("a schedule shows its task, when it runs, and what was missed", () => {
  assert.deepEqual(textsOf({ ...nightly, missed: 1200 }, NOW), [
    "nightly (report)",
    "0 3 * * * UTC",
    "in 4.0 s",
    "–",
    "1,200",
    "0",
    "Active",
  ]);
});

test("an interval, a time that has come, and a schedule that ends", () => {
  const pulse = { name: "pulse", task: "pulse", every_s: 90, next_at: "2026-01-01T07:59:59Z" };
  assert.deepEqual(textsOf(pulse, NOW).slice(0, 3), ["pulse", "every 1 m 30 s", "now"]);
  assert.equal(textsOf({ ...nightly, next_at: null }, NOW)[2], "never");
  assert.equal(textsOf({ ...nightly, next_at: "2026-01-01T07:58:00Z" }, NOW)[2], "2 m late");
});

test("how the last run ended is said beside the state, unless it ended well", () => {
  assert.equal(textsOf(nightly, NOW, "completed")[6], "Active");
  assert.equal(textsOf(nightly, NOW, "failed")[6], ""); // the link says it
  assert.equal(textsOf({ ...nightly, held_at: "2026-01-01T08:00:00Z" }, NOW, "failed")[6], "Waits for the run before");
  assert.deepEqual(["failed", "cancelled"].map(endText), ["Last run failed", "Last run cancelled"]);
  assert.deepEqual(["completed", undefined].map(endText), ["", ""]);
});

test("the runs of a schedule that are looked at are its last ones, oldest first, each once", () => {
  assert.deepEqual(runsOf({ last_job: "3", live: ["2", "3", "4"] }, "1"), ["1", "2", "3", "4"]);
  assert.deepEqual(runsOf({ last_job: "3" }, ""), ["3"]);
  assert.deepEqual(runsOf({ last_job: null }, ""), []);
});

test("why it is paused, why a run was refused, and that a run waits", () => {
  const paused = { ...nightly, paused: { at: "2026-01-01T08:00:00Z", reason: "holidays" } };
  assert.deepEqual([textsOf(paused, NOW)[2], textsOf(paused, NOW)[6]], ["–", "Paused: holidays"]);
  assert.equal(textsOf({ ...nightly, trouble: "too large" }, NOW)[6], "too large");
  assert.equal(textsOf({ ...nightly, held_at: "2026-01-01T08:00:00Z" }, NOW)[6], "Waits for the run before");
});
