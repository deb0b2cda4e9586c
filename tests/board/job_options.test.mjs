import assert from "node:assert/strict";
import { test } from "node:test";
import { OPTIONS, sentOf } from "../../dtqkit/dashboard/board/job_options.js";

const ofTask = { unique: "active", unique_key: "doc-7", on_duplicate: "raise", debounce_s: undefined };

test("what is not about being unique is sent as it is, with tags as a list", () => {
  const sent = sentOf({ tags: " a, ,b ", delay_s: 3 }, (name) => ofTask[name]);
  assert.deepEqual(sent, { tags: ["a", "b"], delay_s: 3 });
});

test("a call that says how its job is unique sends what the form shows of the rest, too", () => {
  const shown = { ...ofTask, unique: "waiting", debounce_max_s: "" };
  const sent = sentOf({ unique: "waiting" }, (name) => shown[name]);
  assert.deepEqual(sent, { unique: "waiting", unique_key: "doc-7", on_duplicate: "raise" });
  assert.deepEqual(sentOf({ unique_key: "doc-8" }, (name) => shown[name]), { unique_key: "doc-8" });
});

test("lists are sent as such, and of two ways to say which jobs are the same, the one that was typed", () => {
  const shown = { unique: "active", unique_by: "a, b" };
  const send = (changed) => sentOf(changed, (name) => ({ ...shown, ...changed })[name]);
  assert.deepEqual(send({ unique: "waiting" }), { unique: "waiting", unique_by: ["a", "b"] });
  assert.deepEqual(send({ unique: "waiting", unique_key: "doc-8" }), { unique: "waiting", unique_key: "doc-8" });
  assert.deepEqual(send({ unique: "waiting", unique_by: "" }), { unique: "waiting" });
  assert.deepEqual(send({ unique_by: "c" }), { unique_by: ["c"] });
  assert.deepEqual(send({ backoff: "fixed", backoff_s: 0 }), { backoff: "fixed", backoff_s: 0 });
});

test("each option has a label of its own and says what it means", () => {
  const all = Object.values(OPTIONS).flatMap((group) => Object.entries(group));
  assert.equal(new Set(all.map(([, [label]]) => label)).size, all.length);
  assert.deepEqual(all.filter(([name, [, schema]]) => name !== "priority" && !schema.description), []);
});
