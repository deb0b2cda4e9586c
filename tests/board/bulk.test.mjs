import assert from "node:assert/strict";
import { test } from "node:test";
import { DEEDS, named } from "../../dtqkit/dashboard/board/bulk.js";
import { ROUTES } from "../../dtqkit/dashboard/board/routes.js";

test("what will be changed is named by each of its filters", () => {
  const of = ["failed"];
  assert.equal(named({ status: "failed", task: "render" }, of), "with status failed and task render");
  const where = { customer: 7, kind: "a" };
  assert.equal(named({ task: "render", where }, of), 'with task render and customer=7, kind="a"');
  assert.equal(named({ q: "nightly" }, of), "with “nightly” as id, key or tag");
  assert.equal(named({ since: "3600s" }, of), "with an age of at most 1 h");
  assert.equal(named({ ids: ["a"] }, of), "in the selection");
  assert.equal(named({}, ["pending", "scheduled"]), "(all that are pending or scheduled, without a filter)");
});

test("each change of many is an operation that a page can reach", () => {
  for (const { operation } of DEEDS) assert.ok(ROUTES[operation], operation);
});
