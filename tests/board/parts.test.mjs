import assert from "node:assert/strict";
import { test } from "node:test";
import { outcome, statusText } from "../../dtqkit/dashboard/board/columns.js";
import { uniqueOf } from "../../dtqkit/dashboard/board/job_facts.js";
import { Known } from "../../dtqkit/dashboard/board/known.js";
import { bannerOf } from "../../dtqkit/dashboard/board/link_status.js";
import { whereOf, whyPaused } from "../../dtqkit/dashboard/board/pauses.js";
import { whole } from "../../dtqkit/dashboard/board/records.js";
import { ROUTES, locate } from "../../dtqkit/dashboard/board/routes.js";
import { refusal, refused } from "../../dtqkit/dashboard/board/source.js";

const BASE = "https://queue.example.com/api/";
const event = (rev, status) => ({ id: "a", rev, status });

test("an operation is found below the base, its id encoded, the parameters of a GET in the address", () => {
  const get = locate("jobs", { status: "failed", limit: 50 }, BASE);
  assert.equal(String(get.url), "https://queue.example.com/api/jobs?status=failed&limit=50");
  assert.equal(get.body, undefined);
  assert.equal(String(locate("log", { id: "a/b" }, BASE).url), "https://queue.example.com/api/jobs/a%2Fb/logs");
});

test("the parameters of a POST are its body", () => {
  const post = locate("cancel", { id: "a", force: true }, BASE);
  assert.deepEqual([post.method, String(post.url), post.body], ["POST", `${BASE}jobs/a/cancel`, { force: true }]);
});

test("every route has a method and a path", () => {
  for (const [method, path] of Object.values(ROUTES)) assert.match(`${method} ${path}`, /^(GET|POST|PATCH) \/[a-z/{}-]+$/);
});

test("each change of a job is counted once, whatever the order", () => {
  const known = new Known();
  assert.deepEqual(
    [1, 3, 2, 3].map((rev) => known.news(event(rev, "completed"))),
    [true, true, false, false],
  );
  known.sample(true);
  assert.equal(known.past.completed.at(-1), 2);
  known.sample(true);
  assert.equal(known.past.completed.at(-1), 0);
  known.sample(false);
  assert.equal(known.past.completed.at(-1), null);
});

test("a task is unserved only when all workers are known to lack it", () => {
  const known = new Known();
  assert.equal(known.unserved("walk"), false);
  known.take({ workers: [{ tasks: ["walk"] }, { tasks: null }] });
  assert.equal(known.unserved("render"), false);
  known.take({ workers: [{ tasks: ["walk"] }] });
  assert.deepEqual([known.unserved("walk"), known.unserved("render")], [false, true]);
});

function held(known, more) {
  const job = whole({ id: "a", task: "render", payload: {}, ...more });
  return known.pausesOf(job).map(({ id }) => id);
}

test("a waiting job is held by the pauses of its lane and of its task, and no other job is", () => {
  const known = new Known();
  known.pauses = [
    { id: "lane", lane: "low" },
    { id: "task", task: "render" },
  ];
  assert.deepEqual(held(known, { priority: "low" }), ["lane", "task"]);
  assert.deepEqual(held(known, { status: "scheduled" }), ["task"]);
  assert.deepEqual(held(known, { task: "walk" }), []);
  assert.deepEqual(held(known, { status: "running" }), []);
});

test("a pause of payloads holds those that have its values, as the queue compares them", () => {
  const known = new Known();
  const holds = (where, payload, defaults) => {
    known.pauses = [{ id: "one", task: "render", where, defaults }];
    return held(known, { payload }).length > 0;
  };
  assert.equal(holds({ customer: 7 }, { customer: 7 }), true);
  assert.equal(holds({ customer: 7 }, { customer: "7" }), false);
  assert.equal(holds({ customer: 1 }, { customer: true }), false);
  assert.equal(holds({ customer: 9007199254740993n }, { customer: 9007199254740993n }), true);
  assert.equal(holds({ customer: 1e16 }, { customer: 10000000000000000n }), true);
  assert.equal(holds({ customer: null }, { customer: null }), true);
  assert.equal(holds({ customer: null }, {}), false);
  assert.equal(holds({ customer: 7 }, {}, { customer: 7 }), true);
  assert.equal(holds({ customer: 7 }, { customer: null }, { customer: 7 }), false);
  assert.equal(holds({ customer: 7 }, undefined, { customer: 7 }), false); // an event has no payload
});

test("a job that only a pause holds back is paused, one that is not due yet is scheduled", () => {
  const pauses = [{ id: "lane", lane: "low" }];
  const job = (more) => statusText(whole({ id: "a", ...more }), pauses);
  assert.equal(job({}), "Paused");
  assert.equal(statusText(whole({ id: "a" }), []), "Pending");
  assert.equal(job({ status: "scheduled", due_at: "2026-01-01T08:00:00Z" }), "Paused");
  assert.equal(job({ status: "scheduled", due_at: "2999-01-01T08:00:00Z" }), "Scheduled");
  assert.equal(job({ status: "scheduled" }), "Scheduled");
});

test("why something is paused says which pauses, until when, and their reasons", () => {
  const [since, until] = ["2026-01-01T08:00:00Z", "2999-01-01T08:00:00Z"];
  const why = whyPaused([
    { lane: "low", paused_at: since, reason: "the month's end" },
    { task: "render", where: { customer: 7 }, paused_at: since, until },
  ]);
  assert.match(why, /^Lane low is paused since .+ until it is resumed: the month's end\nTask render where customer=7 /);
  assert.match(why, /is paused since .+ until 1 Jan\W.+\.$/);
  assert.equal(whyPaused([]), "");
});

test("values of a payload are read as JSON, and as on the command line", () => {
  assert.deepEqual(whereOf('{"customer": 7, "kind": "a=b"}'), { customer: 7, kind: "a=b" });
  assert.deepEqual(whereOf("customer = 7,kind=a=b"), { customer: 7, kind: "a=b" });
  assert.deepEqual(whereOf('customer="7", old=true'), { customer: "7", old: true });
  assert.deepEqual(whereOf("customer=9007199254740993"), { customer: 9007199254740993n });
  assert.deepEqual(whereOf("customer"), { customer: "" }); // which the queue refuses
});

test("a chart takes the minutes that were not observed from the record", () => {
  const known = new Known();
  const at = (minute) => new Date(Date.UTC(2026, 0, 1, 8, minute)).toISOString();
  const minute = (n) => ({ at: at(n), completed: 60 * n, failed: 0, waiting: { high: n, medium: 0, low: 0 } });
  known.stats = { at: at(15), minutes: Array.from({ length: 15 }, (_, n) => minute(n)) };
  known.statsAt = Date.now();
  known.take({ depths: { high: 99 } });
  known.sample(true);
  assert.deepEqual([known.series("completed")[0], known.series("completed").at(-2)], [0, 14]);
  assert.deepEqual([known.series("high").at(-2), known.series("high").at(-1)], [14, 99]);
});

test("the banner shows what is wrong and what happens next", () => {
  const facts = { link: { type: "state", state: "live" }, health: null, unserved: undefined, lostAt: 0 };
  assert.deepEqual(bannerOf(facts), []);
  assert.match(bannerOf({ ...facts, unserved: "walk" })[0], /No live worker serves the task walk/);
  assert.match(bannerOf({ ...facts, unserved: "walk", health: { redis: "down" } })[0], /Redis is away/);
  assert.match(bannerOf({ ...facts, health: { redis: "down", mongodb: "down" } })[0], /MongoDB is away/);
  const connecting = { ...facts, link: { type: "state", state: "connecting" } };
  assert.deepEqual(bannerOf({ ...connecting, unserved: "walk" }), []);
  assert.match(bannerOf({ ...connecting, health: { mongodb: "down" } })[0], /MongoDB is away/);
  const lost = { type: "state", state: "reconnecting", retryAt: Date.now() + 2500 };
  assert.deepEqual(bannerOf({ ...facts, link: lost }), ["The queue cannot be reached.", "Next try in 3 s."]);
  assert.match(bannerOf({ ...facts, link: lost, lostAt: Date.now() })[0], /^Connection lost at \d\d:/);
});

test("an outcome is an error, a message, a time or a result", () => {
  const job = (more) => outcome(whole({ id: "a", ...more }));
  assert.equal(job({ status: "failed", error: { type: "E", message: "m" } }), "E: m");
  assert.equal(job({ status: "running", progress_message: "half" }), "half");
  assert.match(job({ status: "scheduled", due_at: new Date().toISOString() }), /^due \d\d:/);
  assert.equal(job({ status: "completed", result: { n: 9007199254740993n } }), '{"n":9007199254740993}');
  assert.equal(job({ status: "completed", result: "x".repeat(500) }).length, 200);
  assert.equal(job({ status: "completed", result: null }), "");
});

test("a refusal is an error with its code; a token that may only look is named", () => {
  const error = refused({ code: "forbidden", title: "Forbidden", errors: [{ path: "$.a" }] });
  assert.deepEqual([error.message, error.code, error.errors], ["Forbidden", "forbidden", [{ path: "$.a" }]]);
  assert.equal(refusal(error), "This token may look, but not change anything.");
  assert.equal(refusal(refused({ code: "gone", detail: "No." })), "No.");
});

test("a unique job says until when, by which key, and how many submits have found it", () => {
  assert.equal(uniqueOf({}), "");
  const job = { unique: "active", unique_key: "doc-7" };
  assert.equal(uniqueOf(job), "until it is over, key doc-7, 0 duplicates");
  assert.equal(uniqueOf({ ...job, unique: "waiting", duplicates: 1 }), "until it starts, key doc-7, 1 duplicate");
  const until = new Date().toISOString();
  assert.match(uniqueOf({ ...job, unique: "window", unique_until: until }), /^until .+, key doc-7, 0 duplicates$/);
});
