import assert from "node:assert/strict";
import { test } from "node:test";
import { linePath, means } from "../../dtqkit/dashboard/board/charts.js";

test("a line starts with a move and goes on from value to value", () => {
  assert.equal(linePath([0, 5, 10], 100, 20, 10), "M0.0 20.0L50.0 10.0L100.0 0.0");
});

test("a line bridges a short gap and restarts after a long one", () => {
  const short = [0, null, 10, 10, 10, 10, 10, 10, 10];
  assert.match(linePath(short, 80, 20, 10), /^M0\.0 20\.0L20\.0 0\.0L/);
  const long = [0, null, null, null, 10, 10, 10, 10, 10];
  assert.match(linePath(long, 80, 20, 10), /^M0\.0 20\.0M40\.0 0\.0L/);
});

test("a line without values is no line", () => {
  assert.equal(linePath([null, null], 100, 20, 10), "");
});

test("a mean counts only the seconds that were observed", () => {
  assert.deepEqual(means([1, null, 3, null, null, ...new Array(5).fill(null)]), [2, null]);
});
