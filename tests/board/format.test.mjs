import assert from "node:assert/strict";
import { test } from "node:test";
import {
  capital,
  ceiling,
  clock,
  count,
  duration,
  figure,
  moment,
  plural,
  rate,
  short,
} from "../../dtqkit/dashboard/board/format.js";

const DURATIONS = [
  [null, "–"],
  [0, "0 ms"],
  [0.0123, "12 ms"],
  [0.9994, "999 ms"],
  [0.9996, "1.0 s"],
  [9.94, "9.9 s"],
  [9.96, "10 s"],
  [59.4, "59 s"],
  [59.6, "1 m"],
  [119.7, "2 m"],
  [150, "2 m 30 s"],
  [3569, "59 m 29 s"],
  [3570, "1 h"],
  [5400, "1 h 30 m"],
  [86_399, "24 h"],
  [86_400, "1 d"],
  [90_000, "1 d 1 h"],
];

for (const [seconds, text] of DURATIONS) {
  test(`${seconds} seconds are ${text}`, () => assert.equal(duration(seconds), text));
}

test("a rate has as many digits as help", () => {
  assert.deepEqual([0, 0.05, 2.34, 99.94, 1234.5].map(rate), ["0", "0.05", "2.3", "99.9", "1,235"]);
});

test("numbers are grouped and words agree with them", () => {
  assert.equal(count(1_234_567), "1,234,567");
  assert.deepEqual(
    [0, 1, 2000].map((n) => plural(n, "job")),
    ["0 jobs", "1 job", "2,000 jobs"],
  );
  assert.equal(capital("high"), "High");
  assert.equal(short("65a000000000000000000007"), "00000007");
});

test("a number on a tile has at most six digits", () => {
  assert.deepEqual([0, 1204, 999_999, 1_234_567, 98_765_432].map(figure), ["0", "1,204", "999,999", "1.23M", "98.8M"]);
});

test("a scale ends at the next 1, 2 or 5", () => {
  assert.deepEqual([1, 1.5, 2, 3, 7, 10, 12_345].map(ceiling), [1, 2, 2, 5, 10, 10, 20_000]);
});

test("a time of today has no day, an older one has", () => {
  assert.match(clock(Date.now()), /^\d\d:\d\d:\d\d$/);
  assert.match(moment("2026-01-31T12:00:00Z".replace("2026", "2020")), /^(31 Jan|1 Feb|30 Jan), \d\d:\d\d$/);
  assert.equal(moment(null), "–");
});
