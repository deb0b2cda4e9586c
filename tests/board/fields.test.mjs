import assert from "node:assert/strict";
import { test } from "node:test";
import { hint, numberOf, parsed, resolve } from "../../dtqkit/dashboard/board/fields.js";

test("a reference and a single way of anyOf are followed", () => {
  const root = { $defs: { Kind: { enum: ["a"] }, Old: { $ref: "#/$defs/Kind" } } };
  assert.deepEqual(resolve({ $ref: "#/$defs/Old", default: "a" }, root).enum, ["a"]);
  const way = resolve({ anyOf: [{ type: "integer" }, { type: "null" }], default: null }, root);
  assert.deepEqual([way.type, way.default, way.anyOf], ["integer", null, undefined]);
});

test("several ways stay, and a boolean that may be null is a choice", () => {
  const several = { anyOf: [{ type: "integer" }, { type: "string" }] };
  assert.equal(resolve(several, {}), several);
  assert.deepEqual(resolve({ anyOf: [{ type: "boolean" }, { type: "null" }] }, {}).enum, [true, false]);
});

test("a number is read exactly, up to 64 bits", () => {
  assert.equal(numberOf("", true), undefined);
  assert.equal(numberOf("1.5", false), 1.5);
  assert.equal(numberOf("+9007199254740993", true), 9007199254740993n);
  assert.equal(numberOf("-9223372036854775808", true), -9223372036854775808n);
});

for (const [text, whole, message] of [
  ["9223372036854775808", true, /64 bits/],
  ["1.5", true, /1\.5 is not a whole number/],
  ["x", false, /x is not a number/],
  ["1e999", false, /not a number/],
]) {
  test(`${text} is refused`, () => assert.throws(() => numberOf(text, whole), { message }));
}

test("text that is not JSON is refused as a field's error", () => {
  assert.equal(parsed(""), undefined);
  assert.deepEqual(parsed('{"n": 9007199254740993}'), { n: 9007199254740993n });
  assert.throws(() => parsed("{"), /^Error: This is not JSON: /);
});

test("a hint shows the type, the bounds and whether the field is optional", () => {
  assert.equal(hint({ type: "integer", minimum: 0, maximum: 9 }, true), "whole number, ≥ 0, ≤ 9");
  assert.equal(hint({ type: "string", format: "date" }, false), "date, optional");
  assert.equal(hint({ enum: [1] }, true), "choice");
  assert.equal(hint({}, false), "JSON, optional");
});
