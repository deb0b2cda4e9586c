// The board of a dtqkit queue: one ES module without imports, for the server's page and for a notebook's widget.
//
//   mount(el, source)   draws it into a shadow root of `el`; returns what takes it away again
//   source              {request(operation, params) -> Promise, subscribe(callback) -> unsubscribe}
//     webSource         fetch and /ws         modelSource   messages of an anywidget model
//
// The way of the data: source -> Board.receive -> Known (what is known) -> views, which touch only what has changed,
// at most five times a second. Text from the queue reaches the page as text nodes only, never as markup.

// ── The operations: those rows of dtqkit/control.py that a board asks for ───────────────────────────────────────────

export const ROUTES = {
  submit: ["POST", "/jobs"],
  jobs: ["GET", "/jobs"],
  dead_letters: ["GET", "/jobs/dead-letter/list"],
  requeue_dead: ["POST", "/jobs/dead-letter/requeue"],
  get: ["GET", "/jobs/{id}"],
  log: ["GET", "/jobs/{id}/logs"],
  requeue: ["POST", "/jobs/{id}/requeue"],
  cancel: ["POST", "/jobs/{id}/cancel"],
  tasks: ["GET", "/tasks"],
  stats: ["GET", "/stats"],
  health: ["GET", "/health"],
};

/** A request that was answered with a refusal, or not at all; `errors` are [{path, detail}] of a payload. */
export class RequestError extends Error {
  constructor({ code = "error", detail = "", title = "", status = 0, errors = [] }) {
    super(detail || title || code);
    Object.assign(this, { code, status, errors });
  }
}

const STATUSES = ["pending", "scheduled", "running", "completed", "failed", "cancelled"];
const LANES = ["high", "medium", "low"];
const WAITING = ["pending", "scheduled"];

// ── Sources ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const BACKOFF_MS = [500, 15_000];
const SETTLED_MS = 10_000;
const REQUEST_MS = 15_000;

/**
 * A queue behind HTTP and a WebSocket. Messages to a subscriber: {type: "snapshot" | "events", …} as the server sends
 * them, and {type: "state", state: "connecting" | "live" | "reconnecting" | "unauthorised", retryAt, refused}.
 * The token is kept for the tab only.
 */
export function webSource({ apiBase = "", wsUrl = "", token } = {}) {
  const base = new URL(apiBase ? apiBase.replace(/\/*$/, "/") : "./", document.baseURI);
  const socketUrl = new URL(wsUrl || "ws", base);
  socketUrl.protocol = socketUrl.protocol.replace("http", "ws");
  const memory = `dtqkit.token ${base.href}`;
  const listeners = new Set();
  let secret = token ?? recall(memory) ?? "";
  let state = { type: "state", state: "connecting" };
  let socket = null;
  let timer = 0;
  let failures = 0;

  const tell = (message) => listeners.forEach((listener) => listener(message));
  const become = (name, more) => tell((state = { type: "state", state: name, ...more }));

  function connect() {
    clearTimeout(timer);
    if (socket) return;
    const opened = (socket = new WebSocket(socketUrl));
    let liveAt = 0;
    opened.onopen = () => opened.send(JSON.stringify({ type: "hello", token: secret }));
    opened.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "snapshot" && !liveAt) {
        liveAt = Date.now();
        remember(memory, secret);
        become("live");
      }
      tell(message);
    };
    opened.onclose = ({ code }) => {
      if (socket !== opened) return;
      socket = null;
      if (code === 4401) return unauthorised();
      if (liveAt && Date.now() - liveAt > SETTLED_MS) failures = 0;
      const [least, most] = BACKOFF_MS;
      const wait = Math.max(least, Math.min(most, least * 2 ** failures++) * (0.75 + Math.random() / 4));
      timer = setTimeout(connect, wait);
      become("reconnecting", { retryAt: Date.now() + wait });
    };
  }

  function unauthorised() {
    const refused = secret !== "";
    disconnect();
    forget(memory);
    secret = "";
    become("unauthorised", { refused });
  }

  function disconnect() {
    clearTimeout(timer);
    const open = socket;
    socket = null;
    open?.close();
  }

  async function request(operation, params = {}) {
    const [method, path] = ROUTES[operation];
    const { id, ...rest } = params;
    const url = new URL(path.slice(1).replace("{id}", encodeURIComponent(id ?? "")), base);
    const init = { method, headers: secret ? { Authorization: `Bearer ${secret}` } : {}, referrerPolicy: "no-referrer" };
    if (method === "POST") {
      init.headers["Content-Type"] = "application/json";
      init.body = JSON.stringify(rest);
    } else {
      for (const [name, value] of Object.entries(rest)) url.searchParams.set(name, value);
    }
    let answer;
    try {
      answer = await fetch(url, { ...init, signal: AbortSignal.timeout(REQUEST_MS) });
    } catch (error) {
      const late = error.name === "TimeoutError";
      throw new RequestError({ code: "unreachable", detail: `The server ${late ? "does not answer" : "cannot be reached"}.` });
    }
    const body = await answer.json().catch(() => ({}));
    if (answer.status === 401) unauthorised();
    // /health answers 503 with its record when a store is away: that is its answer, not a failure.
    if (!answer.ok && operation !== "health") throw new RequestError({ title: answer.statusText, ...body, status: answer.status });
    return body;
  }

  return {
    request,
    subscribe(listener) {
      listeners.add(listener);
      listener(state);
      connect();
      return () => {
        listeners.delete(listener);
        if (!listeners.size) disconnect();
      };
    },
    /** Try now, whatever the backoff says. */
    retry: connect,
    signIn(given) {
      secret = given;
      failures = 0;
      become("connecting");
      disconnect();
      connect();
    },
  };
}

const ANSWER_MS = 5_000;

/**
 * A queue behind an anywidget model. To the kernel go {id, op, params}; from it come {id, result} or {id, error}, and
 * pushes {snapshot} and {events}. The first request, `snapshot`, asks the kernel to begin. Without an answer the board
 * shows the trait `snapshot` ({at, depths, workers, jobs}), which a notebook saves with its state.
 */
export function modelSource(model) {
  const waiting = new Map();
  const listeners = new Set();
  let last = 0;
  let alive = null;
  let watch = 0;

  const tell = (message) => listeners.forEach((listener) => listener(message));
  function become(now) {
    if (alive === now) return;
    alive = now;
    const saved = model.get("snapshot");
    if (now) tell({ type: "state", state: "live" });
    else if (saved?.jobs && !last) {
      tell({ type: "snapshot", ...saved });
      tell({ type: "state", state: "saved", at: Date.parse(saved.at) || null });
    } else tell({ type: "state", state: "reconnecting" });
  }

  function hear(message) {
    const heard = last;
    last = Date.now();
    if (!heard || alive === false) become(true);
    if (message.snapshot) tell({ type: "snapshot", ...message.snapshot });
    if (message.events) tell({ type: "events", ...message.events });
    const asked = waiting.get(message.id);
    if (!asked) return;
    waiting.delete(message.id);
    clearTimeout(asked.timer);
    if (message.error) asked.reject(new RequestError(message.error));
    else asked.resolve(message.result);
  }

  function request(op, params = {}) {
    const id = crypto.randomUUID?.() ?? `${Math.random()}`;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        waiting.delete(id);
        become(false);
        reject(new RequestError({ code: "unreachable", detail: "The kernel does not answer." }));
      }, ANSWER_MS);
      waiting.set(id, { resolve, reject, timer });
      model.send({ id, op, params });
    });
  }

  const begin = () =>
    request("snapshot").then(
      (snapshot) => snapshot && tell({ type: "snapshot", ...snapshot }),
      () => become(false),
    );

  return {
    request,
    subscribe(listener) {
      listeners.add(listener);
      if (listeners.size === 1) {
        model.on("msg:custom", hear);
        watch = setInterval(() => alive === false && begin(), ANSWER_MS * 2);
        begin();
      }
      return () => {
        listeners.delete(listener);
        if (listeners.size) return;
        clearInterval(watch);
        model.off("msg:custom", hear);
      };
    },
    retry: begin,
  };
}

// A tab may be forbidden to remember anything; then the token is asked for again.
function recall(key) {
  try { return sessionStorage.getItem(key); } catch { return null; }
}
function remember(key, value) {
  try { sessionStorage.setItem(key, value); } catch { /* see above */ }
}
function forget(key) {
  try { sessionStorage.removeItem(key); } catch { /* see above */ }
}

// ── The page: elements, text, numbers ───────────────────────────────────────────────────────────────────────────────

/** An element; `on…` are listeners, everything else attributes; children are nodes or text. */
function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

/** Sets text where it differs, so that a board at rest touches nothing. */
function say(node, text) {
  if (node.shown === text) return;
  node.shown = text;
  node.textContent = text;
}

function attribute(node, name, value) {
  if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const SHAPES = {
  pending: "M8 3a5 5 0 1 1 0 10A5 5 0 0 1 8 3",
  scheduled: "M8 3a5 5 0 1 1 0 10A5 5 0 0 1 8 3M8 5.5V8l1.8 1.2",
  running: "M8 3a5 5 0 1 1-5 5M8 8h.01",
  completed: "M3.5 8.5l3 3 6-7",
  failed: "M4.5 4.5l7 7M11.5 4.5l-7 7",
  cancelled: "M8 3a5 5 0 1 1 0 10A5 5 0 0 1 8 3M4.6 11.4l6.8-6.8",
  high: "M3.5 9.5L8 5l4.5 4.5M3.5 13L8 8.5l4.5 4.5",
  medium: "M3.5 6.5h9M3.5 10h9",
  low: "M3.5 6l4.5 4.5L12.5 6",
  plus: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  search: "M7 2.8a4.2 4.2 0 1 1 0 8.4A4.2 4.2 0 0 1 7 2.8M10.2 10.2l3.3 3.3",
  mark: "M2.5 4.5h11M2.5 8h7.5M2.5 11.5h4.5",
  alert: "M8 2.5l6 10.5H2zM8 6.5v3M8 11.3h.01",
  copy: "M6 6h7v7H6zM10 3H3v7",
};

function icon(name) {
  return svg("svg", { class: `icon ${name}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: SHAPES[name] }));
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
const short = (id) => id.slice(-8);
const json = (value) => JSON.stringify(value, null, 2);

const grouped = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const count = (n) => (n < 100_000 ? grouped.format(n) : compact.format(n));
const rate = (perS) => (perS === 0 ? "0" : perS < 0.1 ? perS.toFixed(2) : perS < 100 ? perS.toFixed(1) : count(Math.round(perS)));

/** Seconds in the largest unit that says enough. */
function duration(s) {
  if (s == null || Number.isNaN(s)) return "–";
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  const minutes = Math.round(s / 60);
  if (s < 600) return `${Math.floor(Math.round(s) / 60)} m ${String(Math.round(s) % 60).padStart(2, "0")} s`;
  if (minutes < 60) return `${minutes} m`;
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} m`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

const timeOfDay = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndTime = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const clock = (ms) => (Math.abs(Date.now() - ms) < 43_200_000 ? timeOfDay : dayAndTime).format(ms);
const moment = (iso) => (iso ? clock(Date.parse(iso)) : "–");

/** A number on a round scale of 1, 2 or 5, at least `n`: the top of an axis. */
function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(n, 1)));
  return [1, 2, 5, 10].find((step) => step * power >= n) * power;
}

// ── What is known ───────────────────────────────────────────────────────────────────────────────────────────────────

const WINDOW_S = 300;
const SEEN = 5_000;

/** Numbers of the last minutes, one a second; null before the board looked. */
class Series {
  #values = new Array(WINDOW_S).fill(null);
  #next = 0;

  push(value) {
    this.#values[this.#next++ % WINDOW_S] = value;
  }

  /** The last `n`, oldest first. */
  last(n = WINDOW_S) {
    return Array.from({ length: n }, (_, i) => this.#values[(this.#next - n + i + WINDOW_S) % WINDOW_S]);
  }
}

/** A job's record with its defaults, which the wire leaves out. */
function whole(job) {
  return {
    priority: "medium", status: "pending", max_attempts: 3, timeout_s: 300, tags: [], earlier: [], token: 0, rev: 1, log: [],
    cancel_requested: false, progress: null, progress_message: "", ...job,
  };
}

/** The error of an event is one line: type and message. */
function withEvent(job, event) {
  const next = { ...job, ...event };
  if (typeof event.error === "string") {
    const [type, ...message] = event.error.split(": ");
    next.error = { kind: "exception", type, message: message.join(": ") };
  }
  if (event.status === "running" && job.status !== "running") {
    Object.assign(next, { started_at: new Date().toISOString(), run_ms: null, error: undefined, progress: null, progress_message: "" });
  }
  if (WAITING.includes(event.status)) Object.assign(next, { started_at: null, run_ms: null, cancel_requested: false });
  next.stale = true;
  return next;
}

const createdAt = (job) => (job.created_at ? Date.parse(job.created_at) : parseInt(job.id.slice(0, 8), 16) * 1000);

function waited(job) {
  if (!job.started_at || !job.created_at) return null;
  return Math.max(0, (Date.parse(job.started_at) - Date.parse(job.queued_at ?? job.created_at)) / 1000);
}

function ran(job) {
  if (job.run_ms != null) return job.run_ms / 1000;
  if (job.status === "running" && job.started_at) return Math.max(0, (Date.now() - Date.parse(job.started_at)) / 1000);
  return job.ended_at && job.started_at ? (Date.parse(job.ended_at) - Date.parse(job.started_at)) / 1000 : null;
}

/** All kept attempts, oldest first, as dtqkit.jobs.Job.attempts has them. */
function attemptsOf(job) {
  if (!job.started_at || !["running", "completed"].includes(job.status)) return job.earlier;
  const { token: number, worker, started_at, ended_at, run_ms } = job;
  const queued_at = job.queued_at ?? job.created_at;
  return [...job.earlier, { number, worker, queued_at, started_at, ended_at, run_ms, ending: job.status === "completed" ? "completed" : null }];
}

/** Depths, workers, rates and their past: all but the listings, which their views keep. */
class Known {
  depths = null;
  workers = [];
  workersAt = 0;
  depthsAt = 0;
  stats = null;
  health = null;
  tasks = null;
  past = { high: new Series(), medium: new Series(), low: new Series(), completed: new Series(), failed: new Series() };
  #seen = new Map();
  #ended = { completed: 0, failed: 0 };

  take({ depths, workers }) {
    if (depths) Object.assign(this, { depths, depthsAt: Date.now() });
    if (workers) Object.assign(this, { workers, workersAt: Date.now() });
  }

  /** Whether the event is news; those that end a job are counted. */
  news({ id, rev, status }) {
    const seen = this.#seen.get(id) ?? 0;
    if (seen >= rev) return false;
    this.#seen.delete(id);
    this.#seen.set(id, rev);
    if (this.#seen.size > SEEN) this.#seen.delete(this.#seen.keys().next().value);
    if (status in this.#ended) this.#ended[status] += 1;
    return true;
  }

  /** Once a second: the present becomes past. */
  sample(live) {
    for (const lane of LANES) this.past[lane].push(live ? (this.depths?.[lane] ?? null) : null);
    for (const kind of ["completed", "failed"]) {
      this.past[kind].push(live ? this.#ended[kind] : null);
      this.#ended[kind] = 0;
    }
  }

  beatAge(worker) {
    return worker.age_s + (Date.now() - this.workersAt) / 1000;
  }
}

// ── Charts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The path of a line through `values`; a gap where one is null. */
function linePath(values, width, height, top) {
  const step = width / (values.length - 1);
  let path = "";
  let pen = false;
  values.forEach((value, i) => {
    if (value === null) return void (pen = false);
    path += `${pen ? "L" : "M"}${(i * step).toFixed(1)} ${(height - (value / top) * height).toFixed(1)}`;
    pen = true;
  });
  return path;
}

class Sparkline {
  #line = svg("path", { class: "line" });
  #area = svg("path", { class: "area" });
  #drawn = "";
  element = svg("svg", { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" }, this.#area, this.#line);

  draw(values) {
    const top = Math.max(1, ...values);
    const path = linePath(values, 100, 26, top * 1.1);
    if (path === this.#drawn) return;
    this.#drawn = path;
    this.#line.setAttribute("d", path);
    const first = values.findIndex((value) => value !== null);
    this.#area.setAttribute("d", first < 0 ? "" : `${path}V28H${((first * 100) / (values.length - 1)).toFixed(1)}Z`);
  }
}

const CHART = { width: 600, height: 100 };

/** A titled frame with a legend of present values, an axis, and a reader's line under the pointer. */
class Chart {
  constructor(title, kinds, { values, format }) {
    Object.assign(this, { kinds, values, format, at: null });
    this.figures = Object.fromEntries(kinds.map((kind) => [kind, h("b", null, "–")]));
    this.when = h("span", { class: "when" });
    this.top = h("span", { class: "top" });
    this.cursor = svg("path", { class: "cursor" });
    this.plot = svg("g");
    this.svg = svg(
      "svg",
      { viewBox: `0 0 ${CHART.width} ${CHART.height}`, preserveAspectRatio: "none", role: "img", "aria-label": title },
      svg("path", { class: "grid", d: "M0 .5H600M0 50H600M0 99.5H600" }), this.plot, this.cursor,
    );
    this.frame = h("div", { class: "plot", onpointermove: (e) => this.#read(e), onpointerleave: () => this.#read(null) }, this.top, this.svg);
    this.element = h(
      "section", { class: "chart", "aria-label": title },
      h("header", null, h("h2", null, title), h("ul", { class: "legend" }, kinds.map((kind) => h("li", { class: kind }, kind, " ", this.figures[kind]))), this.when),
      this.frame, h("footer", { "aria-hidden": "true" }, h("span", null, "5 min ago"), h("span", null, "now")),
    );
  }

  #read(event) {
    const box = event && this.frame.getBoundingClientRect();
    this.at = box ? Math.min(0.9999, Math.max(0, (event.clientX - box.left) / box.width)) : null;
    this.draw();
  }

  draw() {
    const data = this.values();
    const length = data[this.kinds[0]].length;
    const i = this.at === null ? length - 1 : Math.floor(this.at * length);
    for (const kind of this.kinds) say(this.figures[kind], data[kind][i] === null ? "–" : this.format(data[kind][i]));
    const agoS = Math.round((length - 1 - i) * (WINDOW_S / length));
    say(this.when, this.at === null ? "" : agoS ? `${duration(agoS)} ago` : "now");
    attribute(this.cursor, "d", this.at === null ? "" : `M${((i + 0.5) / length) * CHART.width} 0V${CHART.height}`);
    attribute(this.svg, "aria-label", this.kinds.map((kind) => `${kind} ${this.figures[kind].textContent}`).join(", "));
    this.paint(data);
  }
}

class DepthChart extends Chart {
  constructor(known) {
    super("Waiting by lane", LANES, {
      values: () => Object.fromEntries(LANES.map((lane) => [lane, known.past[lane].last()])),
      format: count,
    });
    this.lines = Object.fromEntries(LANES.map((lane) => [lane, svg("path", { class: `line ${lane}` })]));
    this.plot.append(...Object.values(this.lines));
  }

  paint(data) {
    const top = ceiling(Math.max(4, ...LANES.flatMap((lane) => data[lane])));
    say(this.top, count(top));
    for (const lane of LANES) attribute(this.lines[lane], "d", linePath(data[lane], CHART.width, CHART.height, top));
  }
}

const BAR_S = 5;

class ThroughputChart extends Chart {
  constructor(known) {
    super("Finished per second", ["completed", "failed"], {
      values: () => ({ completed: perBar(known.past.completed), failed: perBar(known.past.failed) }),
      format: rate,
    });
    this.bars = { completed: svg("path", { class: "bars completed" }), failed: svg("path", { class: "bars failed" }) };
    this.plot.append(this.bars.completed, this.bars.failed);
  }

  paint({ completed, failed }) {
    const top = ceiling(Math.max(1, ...completed.map((value, i) => value + failed[i])));
    const width = CHART.width / completed.length;
    const y = (value) => ((value / top) * CHART.height).toFixed(1);
    const bar = (i, from, value) => (value ? `M${(i * width + 1).toFixed(1)} ${CHART.height - y(from)}h${(width - 2).toFixed(1)}v-${y(value)}h-${(width - 2).toFixed(1)}z` : "");
    say(this.top, `${count(top)}/s`);
    attribute(this.bars.completed, "d", completed.map((value, i) => bar(i, 0, value)).join(""));
    attribute(this.bars.failed, "d", failed.map((value, i) => bar(i, completed[i], value)).join(""));
  }
}

/** Events per second over each BAR_S seconds. */
function perBar(series) {
  const values = series.last();
  const bars = [];
  for (let i = 0; i < values.length; i += BAR_S) {
    const known = values.slice(i, i + BAR_S).filter((value) => value !== null);
    bars.push(known.length ? known.reduce((a, b) => a + b, 0) / known.length : null);
  }
  return bars;
}

const WAITS_SHOWN = 4;

/** For each task, the middle of its waits to the 95th percentile, on one logarithmic scale. */
class WaitsChart {
  #rows = h("ol", { class: "waits" });
  #note = h("p", { class: "quiet", hidden: true }, "No job has started in the last 5 minutes.");
  #drawn = "";
  element = h("section", { class: "chart", "aria-label": "Wait before start" },
    h("header", null, h("h2", null, "Wait before start"), h("ul", { class: "legend" }, h("li", { class: "p50" }, "p50"), h("li", { class: "p95" }, "p95"))),
    this.#rows, this.#note);

  draw(stats) {
    const tasks = (stats?.tasks ?? []).filter((task) => task.wait_p95_s !== null);
    tasks.sort((a, b) => b.completed + b.failed - a.completed - a.failed);
    const shown = tasks.slice(0, WAITS_SHOWN);
    const text = JSON.stringify(shown);
    if (text === this.#drawn) return;
    this.#drawn = text;
    this.#note.hidden = shown.length > 0;
    const logs = (value) => Math.log10(Math.max(value, 0.001));
    const least = Math.floor(Math.min(...shown.map((task) => logs(task.wait_p50_s))) - 0.05);
    const most = Math.ceil(Math.max(...shown.map((task) => logs(task.wait_p95_s))) + 0.05);
    const x = (value) => (100 * (logs(value) - least)) / (most - least);
    this.#rows.replaceChildren(...shown.map((task) => {
      const [from, to] = [x(task.wait_p50_s), x(task.wait_p95_s)];
      return h("li", null,
        h("span", { class: "name", title: task.task }, task.task),
        svg("svg", { class: "range", "aria-hidden": "true" },
          svg("line", { class: "rail", x1: "1%", x2: "99%", y1: "50%", y2: "50%" }),
          svg("line", { x1: `${from}%`, x2: `${to}%`, y1: "50%", y2: "50%" }),
          svg("circle", { class: "p50", cx: `${from}%`, cy: "50%", r: 4 }), svg("circle", { class: "p95", cx: `${to}%`, cy: "50%", r: 4 })),
        h("span", { class: "figures" }, duration(task.wait_p50_s), h("i", null, " – "), duration(task.wait_p95_s)));
    }));
  }
}

// ── The first row ───────────────────────────────────────────────────────────────────────────────────────────────────

class Overview {
  #sparks = {};
  #text = {};
  #beats = h("ul", { class: "beats" });

  constructor(known) {
    this.known = known;
    this.charts = [new DepthChart(known), new ThroughputChart(known)];
    this.waits = new WaitsChart();
    this.element = h("div", { class: "overview" },
      h("dl", { class: "figures", "aria-label": "The queue now" },
        LANES.map((lane) => this.#cell(lane, [icon(lane), capital(lane)], (this.#sparks[lane] = new Sparkline()).element)),
        this.#cell("throughput", ["Throughput"]), this.#cell("failures", ["Failures"]), this.#cell("oldest", ["Oldest wait"]), this.#cell("workers", ["Workers"], this.#beats)),
      h("div", { class: "charts" }, this.charts.map((chart) => chart.element), this.waits.element));
  }

  #cell(name, label, extra) {
    const value = h("dd", { class: "value" }, "–");
    const foot = h("dd", { class: "foot" });
    this.#text[name] = { value, foot };
    return h("div", { class: `cell ${name}` }, h("dt", null, label), value, extra ? h("dd", { class: "extra" }, extra) : null, foot);
  }

  #say(name, value, foot, title) {
    say(this.#text[name].value, value);
    say(this.#text[name].foot, foot);
    attribute(this.#text[name].foot, "title", title);
  }

  /** The numbers; charts follow once a second. */
  update() {
    const { depths, stats, workers } = this.known;
    for (const lane of LANES) {
      const forecast = stats?.forecast?.find((one) => one.lane === lane);
      this.#say(lane, depths ? count(depths[lane]) : "–", depths ? clears(depths[lane], forecast) : "", interval(forecast));
    }
    const ended = stats ? stats.completed + stats.failed : 0;
    this.#say("throughput", stats ? `${rate(stats.throughput_per_s)}/s` : "–", stats ? `${plural(stats.completed, "job")} in ${duration(stats.window_s)}` : "");
    this.#say("failures", stats ? count(stats.failed) : "–", ended ? `${((100 * stats.failed) / ended).toFixed(1)} % of ${plural(ended, "job")}` : "none have ended");
    attribute(this.#text.failures.value, "data-bad", stats?.failed > 0);
    this.#say("oldest", depths ? (depths.oldest_wait_s === null ? "none" : duration(depths.oldest_wait_s)) : "–",
      depths ? `${count(depths.running)} running, ${count(depths.scheduled)} scheduled` : "");
    this.#say("workers", count(workers.length), workers.length ? `${load(workers)} slots busy` : "nothing will run");
    attribute(this.#text.workers.value, "data-bad", depths && !workers.length);
    this.beats();
  }

  beats() {
    const shown = this.known.workers.slice(0, 3);
    while (this.#beats.children.length > shown.length) this.#beats.lastChild.remove();
    shown.forEach((worker, i) => {
      const item = this.#beats.children[i] ?? this.#beats.appendChild(h("li", null, h("span"), " ", h("b")));
      const age = this.known.beatAge(worker);
      say(item.firstChild, worker.name);
      say(item.lastChild, duration(age));
      attribute(item, "data-late", age > LATE_S);
      attribute(item, "title", `${worker.name}: last beat ${duration(age)} ago`);
    });
  }

  tick() {
    for (const lane of LANES) this.#sparks[lane].draw(this.known.past[lane].last(120));
    for (const chart of this.charts) chart.draw();
    this.waits.draw(this.known.stats);
    this.beats();
  }
}

const LATE_S = 9;
const load = (workers) => `${workers.reduce((sum, worker) => sum + worker.load, 0)} of ${workers.reduce((sum, worker) => sum + worker.concurrency, 0)}`;

function clears(depth, forecast) {
  if (!depth) return "empty";
  if (!forecast) return "waiting";
  return forecast.drain_s === null ? "not draining" : `clear in ${duration(forecast.drain_s)}`;
}

function interval(forecast) {
  if (!forecast || forecast.low_s === null) return null;
  return `90 % between ${duration(forecast.low_s)} and ${forecast.high_s === null ? "never" : duration(forecast.high_s)}`;
}

// ── Tables of jobs ──────────────────────────────────────────────────────────────────────────────────────────────────

function statusLabel(job) {
  if (job.status === "running" && job.cancel_requested) return "Stopping";
  if (job.status === "pending" && job.failures) return "Retrying";
  return capital(job.status);
}

function paintStatus(cell, job) {
  if (cell.status !== job.status) {
    cell.status = job.status;
    cell.icon?.remove();
    cell.prepend((cell.icon = icon(job.status)));
    cell.label ??= cell.appendChild(h("span"));
    attribute(cell, "data-status", job.status);
  }
  const share = job.status === "running" && job.progress !== null ? ` ${Math.round(job.progress * 100)} %` : "";
  say(cell.label, statusLabel(job) + share);
}

/** What there is to say of the job in one line: its error, what it reports, when it is due, its result. */
function outcome(job) {
  if (job.error && job.status !== "completed") return `${job.error.type}: ${job.error.message}`;
  if (job.status === "running") return job.progress_message;
  if (job.status === "scheduled" && job.due_at) return `due ${moment(job.due_at)}`;
  return job.result == null ? "" : JSON.stringify(job.result).slice(0, 200);
}

const COLUMNS = {
  status: ["Status", paintStatus],
  outcome: ["Outcome", (cell, job) => {
    const text = outcome(job);
    if (cell.shown !== text) attribute(cell, "title", text || null);
    say(cell, text);
    attribute(cell, "data-bad", job.error && job.status !== "completed");
  }],
  priority: ["Priority", (cell, job) => {
    if (cell.priority === job.priority) return;
    cell.priority = job.priority;
    cell.replaceChildren(icon(job.priority), h("span", null, capital(job.priority)));
  }],
  created: ["Created", (cell, job) => {
    const at = createdAt(job);
    say(cell, clock(at));
    if (cell.at !== at) attribute(cell, "title", new Date((cell.at = at)).toISOString());
  }],
  died: ["Failed", (cell, job) => say(cell, moment(job.ended_at))],
  wait: ["Wait", (cell, job) => say(cell, duration(waited(job)))],
  run: ["Run", (cell, job) => say(cell, duration(ran(job)))],
  attempts: ["Tries", (cell, job) => say(cell, job.token ? `${job.token}/${job.max_attempts}` : "–")],
  worker: ["Worker", (cell, job) => {
    say(cell, job.worker ?? "–");
    attribute(cell, "title", job.worker);
  }],
};

/** Rows by the job's id, newest first; a row keeps its element, so that focus and scroll stay where they are. */
class JobTable {
  rows = new Map();
  #dirty = new Set();
  #tabbable = null;
  #hovered = false;

  /** `open(id)` is called for the row that was chosen; `choose(id)`, if given, makes the rows selectable. */
  constructor(label, columns, { open, choose }) {
    Object.assign(this, { columns, open, choose, chosen: new Set() });
    this.body = h("tbody", { onkeydown: (e) => this.#move(e), onfocusin: (e) => this.#focused(e), onclick: (e) => this.#clicked(e),
      onpointerenter: () => (this.#hovered = true), onpointerleave: () => (this.#hovered = false) });
    const heads = columns.map((key) => h("th", { scope: "col", class: key }, COLUMNS[key][0]));
    heads.splice(1, 0, h("th", { scope: "col", class: "task" }, "Task"));
    if (choose) {
      this.all = h("input", { type: "checkbox", "aria-label": "Select all on this page", onchange: () => this.#chooseAll() });
      heads.unshift(h("th", { scope: "col", class: "choose" }, this.all));
    }
    this.element = h("table", { "aria-label": label }, h("thead", null, h("tr", null, heads)), this.body);
  }

  /** Whether somebody points at a row or works in it: then none must move. */
  get held() {
    return (this.#hovered && this.body.matches(":hover")) || this.body.contains(this.body.getRootNode().activeElement);
  }

  put(job) {
    const row = this.rows.get(job.id);
    if (!row) return this.#insert(job);
    if (job.rev < row.job.rev) return;
    row.job = job;
    this.#dirty.add(row);
  }

  patch(id, change) {
    const row = this.rows.get(id);
    if (!row) return;
    row.job = change(row.job);
    this.#dirty.add(row);
  }

  remove(id) {
    const row = this.rows.get(id);
    if (!row) return;
    row.tr.remove();
    this.rows.delete(id);
    this.chosen.delete(id);
    this.#dirty.delete(row);
    if (this.#tabbable === row) this.#makeTabbable(this.rows.values().next().value);
  }

  /** These jobs and no others; the row that has the focus stays. */
  replace(jobs) {
    const wanted = new Set(jobs.map((job) => job.id));
    for (const [id, row] of this.rows) if (!wanted.has(id) && !row.tr.contains(this.body.getRootNode().activeElement)) this.remove(id);
    jobs.forEach((job) => this.put(job));
  }

  get lowest() {
    return this.body.lastElementChild?.dataset.id ?? "";
  }

  trim(size) {
    while (this.rows.size > size) this.remove(this.lowest);
  }

  #insert(job) {
    const cells = {};
    const tr = h("tr", { "data-id": job.id });
    const button = h("button", { class: "open", tabindex: "-1" }, h("span", null, job.task));
    for (const key of this.columns) tr.append((cells[key] = h("td", { class: key })));
    tr.firstChild.after(h("td", { class: "task", title: job.task }, button, h("code", { title: job.id }, short(job.id))));
    if (this.choose) {
      tr.prepend(h("td", { class: "choose" }, h("input", { type: "checkbox", "aria-label": `Select ${job.task} ${short(job.id)}`,
        onchange: (e) => this.#choose(job.id, e.target.checked) })));
    }
    const row = { job, tr, cells, button };
    this.rows.set(job.id, row);
    // Ids grow with time, and new jobs come on top: the place is nearly always the first one looked at.
    let before = this.body.firstElementChild;
    while (before && before.dataset.id > job.id) before = before.nextElementSibling;
    this.body.insertBefore(tr, before);
    if (!this.#tabbable) this.#makeTabbable(row);
    this.#paint(row);
  }

  #paint({ job, tr, cells }) {
    for (const key of this.columns) COLUMNS[key][1](cells[key], job);
    attribute(tr, "data-status", job.status);
  }

  flush() {
    for (const row of this.#dirty) this.#paint(row);
    this.#dirty.clear();
  }

  /** Once a second: what runs gets older. */
  tick() {
    for (const row of this.rows.values()) if (row.job.status === "running" && row.cells.run) COLUMNS.run[1](row.cells.run, row.job);
  }

  mark(id) {
    for (const row of this.rows.values()) attribute(row.tr, "data-open", row.job.id === id);
  }

  focus(id) {
    (this.rows.get(id) ?? this.#tabbable)?.button.focus();
  }

  #makeTabbable(row) {
    if (this.#tabbable) this.#tabbable.button.tabIndex = -1;
    this.#tabbable = row ?? null;
    if (row) row.button.tabIndex = 0;
  }

  #focused(event) {
    const row = this.rows.get(event.target.closest("tr").dataset.id);
    if (row) this.#makeTabbable(row);
  }

  #clicked(event) {
    if (event.target.closest(".choose")) return;
    const tr = event.target.closest("tr");
    if (tr && !String(getSelection())) this.open(tr.dataset.id);
  }

  #move(event) {
    const tr = event.target.closest("tr");
    const to = {
      ArrowDown: () => tr.nextElementSibling, j: () => tr.nextElementSibling,
      ArrowUp: () => tr.previousElementSibling, k: () => tr.previousElementSibling,
      Home: () => this.body.firstElementChild, End: () => this.body.lastElementChild,
    }[event.key]?.();
    if (!to || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    to.querySelector(event.target.matches("input") ? "input" : "button").focus();
  }

  #choose(id, on) {
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    this.#chosenChanged();
  }

  #chooseAll() {
    this.chosen = new Set(this.all.checked ? this.rows.keys() : []);
    this.#chosenChanged();
  }

  #chosenChanged() {
    for (const { tr, job } of this.rows.values()) tr.querySelector("input").checked = this.chosen.has(job.id);
    this.all.checked = this.rows.size > 0 && this.chosen.size === this.rows.size;
    this.all.indeterminate = this.chosen.size > 0 && !this.all.checked;
    this.choose();
  }

  unchooseAll() {
    this.chosen.clear();
    this.#chosenChanged();
  }
}

// ── Listings: a table, its filters and its pages ────────────────────────────────────────────────────────────────────

const TYPING_MS = 250;
const REFRESH_S = 5;

function choice(label, options, onchange) {
  const select = h("select", { "aria-label": label, onchange }, h("option", { value: "" }, `Any ${label.toLowerCase()}`));
  select.append(...options.map((option) => h("option", { value: option }, capital(option))));
  return select;
}

/** What both listings share: filters, keyset pages, and the states loading, empty and failed. */
class Listing {
  #asked = 0;
  #cursors = [];
  #next = null;
  #typing = 0;

  constructor(board, operation, table, empty) {
    Object.assign(this, { board, operation, table, empty });
    this.task = choice("Task", [], () => this.reload());
    this.priority = choice("Priority", LANES, () => this.reload());
    this.size = h("select", { "aria-label": "Rows on a page", onchange: () => this.reload() }, [50, 100, 200].map((n) => h("option", { value: n }, `${n} rows`)));
    this.newer = h("button", { class: "plain", onclick: () => this.#turn(-1) }, "Newer");
    this.older = h("button", { class: "plain", onclick: () => this.#turn(1) }, "Older");
    this.page = h("span", { class: "quiet" });
    this.note = h("div", { class: "note", hidden: true });
    this.pages = h("nav", { class: "pages", "aria-label": "Pages" }, this.size, this.page, this.newer, this.older);
  }

  search(placeholder) {
    this.text = h("input", { type: "search", placeholder, "aria-label": "Find by id, idempotency key or tag", autocomplete: "off", spellcheck: "false", oninput: () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.reload(), TYPING_MS);
    } });
    return h("label", { class: "search" }, icon("search"), this.text);
  }

  get filters() {
    const { task, priority, status, text } = this;
    const set = { task: task.value, priority: priority.value, status: status?.value, q: text?.value.trim() };
    return Object.fromEntries(Object.entries(set).filter(([, value]) => value));
  }

  get first() {
    return this.#cursors.length === 0;
  }

  offer(tasks) {
    const names = tasks.map((task) => task.name);
    const now = [...this.task.options].slice(1).map((option) => option.value);
    if (names.join() === now.join()) return;
    const value = this.task.value;
    this.task.replaceChildren(this.task.options[0], ...names.map((name) => h("option", { value: name }, name)));
    this.task.value = names.includes(value) ? value : "";
  }

  #turn(step) {
    if (step > 0) this.#cursors.push(this.#next);
    else this.#cursors.pop();
    this.table.replace([]);
    this.load();
    this.board.toTop();
  }

  /** From the first page, with the filters as they are. */
  reload() {
    this.#cursors = [];
    this.table.replace([]);
    return this.load();
  }

  /** The present page again. A later request makes the answer of an earlier one void. */
  async load() {
    const asked = ++this.#asked;
    const cursor = this.#cursors.at(-1);
    if (!this.table.rows.size) this.#tell("Loading…");
    try {
      const page = await this.board.source.request(this.operation, { ...this.filters, limit: Number(this.size.value), ...(cursor && { cursor }) });
      if (asked !== this.#asked) return;
      this.#next = page.cursor;
      this.loaded(page.items.map(whole));
    } catch (error) {
      if (asked === this.#asked && !this.table.rows.size) this.#tell("The jobs cannot be listed.", error.message, "failed");
    }
    this.reflect();
  }

  loaded(jobs) {
    this.table.replace(jobs);
    this.settle();
  }

  settle() {
    if (this.table.rows.size) this.note.hidden = true;
    else if (Object.keys(this.filters).length) this.#tell("No job matches.", "Other filters may find some.", "", this.#clearButton());
    else this.#tell(...this.empty);
  }

  #clearButton() {
    return h("button", { class: "plain", onclick: () => {
      for (const field of [this.task, this.priority, this.status, this.text]) if (field) field.value = "";
      this.reload();
    } }, "Clear filters");
  }

  #tell(title, detail = "", state = "", action = null) {
    this.note.hidden = false;
    this.note.className = `note ${state}`;
    this.note.replaceChildren(h("strong", null, title), detail ? h("span", null, detail) : "", action ?? "");
  }

  reflect() {
    this.newer.disabled = this.first;
    this.older.disabled = !this.#next;
    say(this.page, `Page ${this.#cursors.length + 1}`);
  }
}

class JobsView extends Listing {
  #fresh = new Map();
  #refreshAt = 0;
  #stale = false;

  constructor(board) {
    const table = new JobTable("Jobs", ["status", "outcome", "priority", "created", "wait", "run", "attempts", "worker"], { open: (id) => board.openJob(id) });
    super(board, "jobs", table, ["Nothing has been submitted yet.", "Submit a job here, or from Python: queue.submit(task, …)."]);
    this.status = choice("Status", STATUSES, () => this.reload());
    this.pill = h("button", { class: "pill", hidden: true, onclick: () => this.show() });
    this.element = h("div", { class: "listing" },
      h("div", { class: "tools", role: "search" }, this.search("Find an id, key or tag"), this.status, this.task, this.priority, this.pill, this.pages), table.element, this.note);
  }

  reload() {
    this.#drop();
    return super.reload();
  }

  show() {
    this.board.toTop();
    return this.reload();
  }

  #drop() {
    this.#fresh.clear();
    this.pill.hidden = true;
  }

  #matches(job) {
    const { status, task, priority } = this.filters;
    return (!status || job.status === status) && (!task || job.task === task) && (!priority || job.priority === priority);
  }

  hear(event) {
    const known = this.table.rows.has(event.id);
    if (known) this.table.patch(event.id, (job) => (event.rev > job.rev ? withEvent(job, event) : job));
    else if (this.first && !this.filters.q && this.#matches(event) && this.#belongs(event.id)) this.#fresh.set(event.id, whole({ ...this.#fresh.get(event.id), ...event, stale: true }));
    this.#stale ||= known || this.#fresh.has(event.id);
  }

  /** Whether a job that is not on the page would be on it. */
  #belongs(id) {
    return this.#fresh.has(id) || this.table.rows.size < Number(this.size.value) || id > this.table.lowest;
  }

  progress({ id, token, progress = null, message = "" }) {
    this.table.patch(id, (job) => (job.status === "running" && job.token <= token ? { ...job, token, progress, progress_message: message } : job));
  }

  /** Puts in what has come, unless that would move a row under somebody's hand or eye: then it is only announced. */
  update() {
    const held = this.table.held || this.board.scrolled;
    if (!held) {
      for (const event of this.#fresh.values()) this.table.put(withEvent(event, event));
      for (const { job } of [...this.table.rows.values()]) if (!this.#matches(job)) this.table.remove(job.id);
      this.table.trim(Number(this.size.value));
      this.#fresh.clear();
      this.settle();
    }
    this.pill.hidden = this.#fresh.size === 0;
    if (this.#fresh.size) say(this.pill, `${plural(this.#fresh.size, "new job")}`);
    this.table.flush();
  }

  loaded(jobs) {
    this.#stale = false;
    if (this.table.rows.size && (this.table.held || this.board.scrolled)) {
      for (const job of jobs) {
        if (this.table.rows.has(job.id)) this.table.put(job);
        else if (this.first && job.id > this.table.lowest) this.#fresh.set(job.id, job);
      }
      return;
    }
    this.#drop();
    super.loaded(jobs);
  }

  /** Events say little of a job: the records follow, at most every few seconds. */
  tick() {
    this.table.tick();
    if (this.#stale && Date.now() > this.#refreshAt) {
      this.#refreshAt = Date.now() + REFRESH_S * 1000;
      this.load();
    }
  }
}

class DeadView extends Listing {
  #count = 0;
  #stale = false;

  constructor(board) {
    const table = new JobTable("Dead letters", ["status", "outcome", "priority", "died", "attempts", "worker"], { open: (id) => board.openJob(id), choose: () => this.#chosen() });
    super(board, "dead_letters", table, ["No dead letters.", "A job that fails for good is kept here until it is requeued or expires."]);
    this.bulk = h("div", { class: "bulk", role: "group", "aria-label": "Requeue", "aria-live": "polite" });
    this.element = h("div", { class: "listing" },
      h("div", { class: "tools", role: "search" }, this.search("Find an id, key or tag"), this.task, this.priority, this.pages), this.bulk, table.element, this.note);
    this.#chosen();
  }

  get #shownFilters() {
    const { task, priority } = this.filters;
    return { ...(task && { task }), ...(priority && { priority }) };
  }

  /** First step: what to requeue. A search cannot be requeued as a whole, since it is no filter of `requeue_dead`. */
  #chosen() {
    const n = this.table.chosen.size;
    const matching = Object.keys(this.#shownFilters).length ? "all that match" : "all";
    this.bulk.replaceChildren(
      h("span", null, n ? `${plural(n, "job")} selected` : "Select jobs, or requeue"),
      n ? h("button", { class: "plain strong", onclick: () => this.#preview({ ids: [...this.table.chosen] }) }, "Requeue selected") : "",
      n ? h("button", { class: "plain", onclick: () => this.table.unchooseAll() }, "Clear") : "",
      this.text?.value || n ? "" : h("button", { class: "plain strong", disabled: !this.table.rows.size, onclick: () => this.#preview(this.#shownFilters) }, matching),
    );
  }

  /** Second step: how many that are, as the queue counts them, and the last word. */
  async #preview(query) {
    const counted = await this.board.act("requeue_dead", { ...query, dry_run: true });
    if (!counted) return;
    this.#count = counted.matched;
    const go = h("button", { class: "primary", disabled: !this.#count, onclick: () => this.#requeue(query) }, `Requeue ${count(this.#count)}`);
    this.bulk.replaceChildren(
      h("span", null, this.#count ? `${plural(this.#count, "dead letter")} will be run again.` : "There is nothing left to requeue."),
      go, h("button", { class: "plain", onclick: () => this.#chosen() }, "Keep"));
    go.focus();
  }

  async #requeue(query) {
    const done = await this.board.act("requeue_dead", query);
    if (!done) return;
    this.board.announce(`${plural(done.requeued, "job")} requeued.`);
    this.table.unchooseAll();
    await this.reload();
    this.#chosen();
    this.table.rows.size ? this.table.focus() : this.task.focus();
  }

  hear({ status }) {
    this.#stale ||= status === "failed" || WAITING.includes(status);
  }

  progress() {}

  update() {
    this.table.flush();
  }

  loaded(jobs) {
    this.#stale = false;
    super.loaded(jobs);
    if (!this.bulk.querySelector(".primary")) this.#chosen();
  }

  tick(seconds) {
    if (this.#stale && seconds % REFRESH_S === 0 && !this.table.held && !this.board.scrolled && !this.table.chosen.size) this.load();
  }
}

// ── Workers, and the place for capacity ─────────────────────────────────────────────────────────────────────────────

const WORKER_COLUMNS = ["Worker", "Lanes", "Slots", "Completed", "Failed", "Last beat", "Up", "Version"];

class WorkersView {
  #rows = new Map();
  #body = h("tbody");
  #note = h("div", { class: "note", hidden: true }, h("strong", null, "No worker is alive."), h("span", null, "Jobs are accepted and wait. Start one with: dtqkit worker APP"));
  element = h("div", { class: "listing" }, h("table", { class: "workers", "aria-label": "Workers" },
    h("thead", null, h("tr", null, WORKER_COLUMNS.map((label) => h("th", { scope: "col" }, label)))), this.#body), this.#note);

  constructor(board) {
    this.known = board.known;
  }

  load() {}
  hear() {}
  progress() {}

  update() {
    const { workers } = this.known;
    const alive = new Set(workers.map((worker) => worker.id));
    for (const [id, tr] of this.#rows) if (!alive.has(id)) tr.remove(), this.#rows.delete(id);
    for (const worker of workers) {
      if (!this.#rows.has(worker.id)) this.#rows.set(worker.id, this.#body.appendChild(this.#row(worker)));
      this.#paint(this.#rows.get(worker.id), worker);
    }
    this.#note.hidden = workers.length > 0;
  }

  #row(worker) {
    const slots = h("td", { class: "slots" }, h("meter", { min: 0, max: worker.concurrency, "aria-label": "Slots busy" }), h("span"));
    return h("tr", null, h("td", { class: "task" }, h("b", null, worker.name), h("code", null, `${worker.host}:${worker.pid}`)),
      h("td", null, worker.lanes.join(", ")), slots, h("td"), h("td"), h("td", { class: "beat" }), h("td"), h("td", null, worker.version));
  }

  #paint({ cells }, worker) {
    const age = this.known.beatAge(worker);
    cells[2].firstChild.value = worker.load;
    say(cells[2].lastChild, `${worker.load} of ${worker.concurrency}${worker.status === "stopping" ? ", stopping" : ""}`);
    say(cells[3], count(worker.completed));
    say(cells[4], count(worker.failed));
    say(cells[5], `${duration(age)} ago${age > LATE_S ? ", late" : ""}`);
    attribute(cells[5], "data-bad", age > LATE_S);
    say(cells[6], duration((Date.now() - Date.parse(worker.started_at)) / 1000));
  }

  tick() {
    this.update();
  }
}

/** Whoever has a capacity panel puts it into the board's element with slot="capacity". */
class CapacityView {
  element = h("div", { class: "listing" }, h("slot", { name: "capacity" }, h("div", { class: "note" },
    h("strong", null, "How many workers will be enough?"),
    h("span", null, "The capacity model answers from this queue's own history: dtqkit plan on a terminal, capacity.explore(…) in a notebook."))));

  load() {}
  hear() {}
  progress() {}
  update() {}
  tick() {}
}

// ── The panel on the right: a job, or a form ────────────────────────────────────────────────────────────────────────

/** A labelled block of preformatted text, which can be scrolled with the keys. */
function block(label, { open = true } = {}) {
  const text = h("pre", { tabindex: "0", role: "region", "aria-label": label });
  const details = h("details", { open, hidden: true }, h("summary", null, label), text);
  return { element: details, say(value) {
    details.hidden = value == null || value === "";
    say(text, value ?? "");
  } };
}

class JobPanel {
  #facts = {};
  #attempts = h("ol", { class: "attempts" });
  #attemptsShown = "";
  #askedAt = 0;
  #timer = 0;

  constructor(board, id) {
    Object.assign(this, { board, id, job: null });
    this.title = h("h2", { id: "panel-title", tabindex: "-1" }, "Job");
    this.status = h("span", { class: "status" });
    this.cancel = h("button", { class: "plain", hidden: true, onclick: () => this.#change("cancel", "Cancelled.") }, "Cancel job");
    this.requeue = h("button", { class: "primary", hidden: true, onclick: () => this.#change("requeue", "Requeued.") }, "Requeue");
    this.copy = h("button", { class: "plain icon-only", "aria-label": "Copy the id", title: "Copy the id", onclick: () => this.#copy() }, icon("copy"));
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.bar = h("progress", { max: 1, "aria-label": "Progress" });
    this.message = h("span");
    this.progress = h("div", { class: "progress", hidden: true }, this.bar, this.message);
    this.error = h("div", { class: "error", hidden: true }, h("b"), h("p"));
    this.traceback = block("Traceback");
    this.result = block("Result");
    this.payload = block("Payload");
    this.log = block("Log");
    this.history = h("section", { hidden: true }, h("h3", null, "Attempts"), this.#attempts);
    this.element = h("div", { class: "job" },
      h("header", null, this.title, h("p", { class: "line" }, this.status, h("code", { class: "id" }, id), this.copy)),
      h("div", { class: "actions" }, this.cancel, this.requeue), this.problem, this.progress, this.error, this.traceback.element,
      h("dl", { class: "facts" }, ["Priority", "Created", "Due", "Started", "Ended", "Waited", "Ran", "Tries", "Worker", "Time limit", "Tags", "Key"].map((name) => this.#fact(name))),
      this.payload.element, this.result.element, this.history, this.log.element);
    this.load();
  }

  #fact(name) {
    const value = h("dd");
    const pair = h("div", { hidden: true }, h("dt", null, name), value);
    this.#facts[name] = { pair, value };
    return pair;
  }

  async load() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#askedAt = Date.now();
    const { source } = this.board;
    try {
      const [job, log] = await Promise.all([source.request("get", { id: this.id }), source.request("log", { id: this.id })]);
      if (!this.job || job.rev >= this.job.rev) this.#take(whole(job));
      this.log.say(log.lines.join("\n"));
      this.problem.hidden = true;
    } catch (error) {
      if (!this.job) this.#fail(error.message);
    }
  }

  #soon() {
    this.#timer ||= setTimeout(() => this.load(), Math.max(0, this.#askedAt + 500 - Date.now()));
  }

  hear(event) {
    if (event.id !== this.id || !this.job || event.rev <= this.job.rev) return;
    this.#take(withEvent(this.job, event));
    this.#soon();
  }

  heardProgress({ id, token, progress = null, message = "", log }) {
    if (id !== this.id || this.job?.status !== "running" || token < this.job.token) return;
    this.#take({ ...this.job, progress, progress_message: message });
    if (log) this.#soon();
  }

  #take(job) {
    const had = this.element.contains(this.element.getRootNode().activeElement) && this.element.getRootNode().activeElement;
    this.job = job;
    this.update();
    // An action that has gone takes the focus along: it goes to the title instead of nowhere.
    if (had && had.hidden) this.title.focus();
  }

  update() {
    const { job } = this;
    if (!job) return;
    const over = job.status === "completed" || job.status === "cancelled";
    say(this.title, job.task);
    paintStatus(this.status, job);
    this.cancel.hidden = over || job.status === "failed";
    this.cancel.disabled = job.cancel_requested || !this.board.acting;
    this.requeue.hidden = job.status !== "failed";
    this.requeue.disabled = !this.board.acting;
    this.progress.hidden = job.status !== "running" || (job.progress === null && !job.progress_message);
    attribute(this.bar, "value", job.progress);
    say(this.message, [job.progress === null ? "" : `${Math.round(job.progress * 100)} %`, job.progress_message].filter(Boolean).join(" · "));
    const error = over ? null : job.error;
    this.error.hidden = !error;
    say(this.error.firstChild, error?.type ?? "");
    say(this.error.lastChild, error?.message ?? "");
    this.traceback.say(error?.traceback);
    this.payload.say(job.payload && json(job.payload));
    this.result.say(job.status === "completed" && job.result !== undefined ? json(job.result) : "");
    this.#sayFacts(job);
    this.#sayAttempts(attemptsOf(job));
  }

  #sayFacts(job) {
    const facts = {
      Priority: capital(job.priority), Created: clock(createdAt(job)), Due: job.status === "scheduled" && moment(job.due_at),
      Started: job.started_at && moment(job.started_at), Ended: job.ended_at && moment(job.ended_at),
      Waited: waited(job) !== null && duration(waited(job)), Ran: ran(job) !== null && duration(ran(job)),
      Tries: job.token > 0 && `${job.token}, at most ${plural(job.max_attempts, "failure")}`, Worker: job.worker, "Time limit": duration(job.timeout_s),
      Tags: job.tags.join(", "), Key: job.idempotency_key,
    };
    for (const [name, text] of Object.entries(facts)) {
      this.#facts[name].pair.hidden = !text;
      say(this.#facts[name].value, text || "");
    }
  }

  #sayAttempts(attempts) {
    this.history.hidden = attempts.length < 2 && !attempts[0]?.error;
    const shown = JSON.stringify(attempts.map(({ number, ending }) => [number, ending]));
    if (shown === this.#attemptsShown) return;
    this.#attemptsShown = shown;
    const opened = new Set([...this.#attempts.querySelectorAll("details[open]")].map((details) => details.dataset.number));
    this.#attempts.replaceChildren(...attempts.toReversed().map((attempt) => {
      const { number, worker, ending, error, run_ms, started_at } = attempt;
      const line = [h("b", null, `${number}`), h("span", { class: "ending", "data-ending": ending ?? "running" }, ending ?? "running"),
        h("span", null, worker), h("span", { class: "quiet" }, `${moment(started_at)}${run_ms == null ? "" : `, ${duration(run_ms / 1000)}`}`)];
      if (!error) return h("li", null, h("p", null, line));
      const trace = h("pre", { tabindex: "0", role: "region", "aria-label": `Traceback of attempt ${number}` }, error.traceback || `${error.type}: ${error.message}`);
      return h("li", null, h("details", { "data-number": number, open: opened.has(String(number)) }, h("summary", null, line, h("em", null, `${error.type}: ${error.message}`)), trace));
    }));
  }

  async #change(operation, done) {
    const job = await this.board.act(operation, { id: this.id }, (message) => this.#fail(message));
    if (!job) return;
    this.board.announce(job.status === "running" ? "The job has been asked to stop." : done);
    this.#take(whole(job));
    this.board.heardRecord(whole(job));
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.id);
      this.board.announce("The id has been copied.");
    } catch {
      getSelection().selectAllChildren(this.element.querySelector(".id"));
    }
  }

  #fail(message) {
    this.problem.hidden = false;
    say(this.problem, message);
  }

  tick() {
    if (this.job?.status === "running") this.#sayFacts(this.job);
  }

  close() {
    clearTimeout(this.#timer);
  }
}

// ── The form: fields from a JSON Schema ─────────────────────────────────────────────────────────────────────────────

class FieldError extends Error {}

/** The schema behind references and behind "or null". */
function resolve(schema, root) {
  while (schema.$ref) schema = { ...root.$defs?.[schema.$ref.split("/").pop()], ...schema, $ref: undefined };
  const ways = schema.anyOf?.filter((way) => way.type !== "null");
  if (ways?.length !== 1) return schema;
  return { ...resolve(ways[0], root), ...schema, anyOf: undefined, nullable: true };
}

const DATES = { date: "date", "date-time": "datetime-local", time: "time" };

/** How a value of this schema is asked for: a control, `put` a value into it, `read` it (undefined: left out). */
function control(schema) {
  if (schema.enum) {
    const select = h("select", null, h("option", { value: "" }, "–"), schema.enum.map((value, i) => h("option", { value: i }, String(value))));
    return { node: select, put: (value) => (select.value = schema.enum.indexOf(value)), read: () => (select.value === "" ? undefined : schema.enum[select.value]) };
  }
  if (schema.type === "boolean") {
    const box = h("input", { type: "checkbox" });
    return { node: box, put: (value) => (box.checked = value), read: () => box.checked };
  }
  if (schema.type === "integer" || schema.type === "number") {
    const whole = schema.type === "integer";
    const input = h("input", { type: "text", inputmode: whole ? "numeric" : "decimal", autocomplete: "off" });
    return { node: input, put: (value) => (input.value = value), read: () => number(input.value.trim(), whole) };
  }
  if (schema.type === "string") {
    const type = DATES[schema.format] ?? "text";
    const input = h("input", { type, step: type === "text" || type === "date" ? null : "1", autocomplete: "off", spellcheck: "false" });
    const dated = type === "datetime-local";
    return {
      node: input,
      put: (value) => (input.value = dated && value ? localTime(value) : value),
      read: () => (type !== "text" && !input.value ? undefined : dated ? new Date(input.value).toISOString() : input.value),
    };
  }
  const area = h("textarea", { rows: 2, spellcheck: "false", class: "json" });
  return { node: area, put: (value) => (area.value = value == null ? "" : JSON.stringify(value)), read: () => (area.value.trim() ? parsed(area.value) : undefined) };
}

function number(text, whole) {
  if (!text) return undefined;
  const value = Number(text);
  if (!Number.isFinite(value)) throw new FieldError(`${text} is not a number.`);
  if (whole && !Number.isSafeInteger(value)) throw new FieldError(Number.isInteger(value) ? "This number is too large for a browser; submit it from Python." : `${text} is not a whole number.`);
  return value;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FieldError(`This is not JSON: ${error.message}`);
  }
}

function localTime(iso) {
  const date = new Date(iso);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** What the schema says of a value, in words. */
function hint(schema, required) {
  const types = { array: "JSON list", object: "JSON object", integer: "whole number", number: "number" };
  const bounds = [["minimum", "at least "], ["maximum", "at most "], ["exclusiveMinimum", "above "], ["exclusiveMaximum", "below "], ["minLength", "length at least "], ["maxLength", "length at most "]];
  return [
    schema.enum ? null : (types[schema.type] ?? (schema.type ? null : "JSON")),
    ...bounds.map(([key, words]) => schema[key] !== undefined && words + schema[key]), required ? null : "optional",
  ].filter(Boolean).join(", ");
}

class Field {
  constructor(name, schema, { required = false, label = name } = {}) {
    Object.assign(this, { name, schema, required, control: control(schema) });
    const id = `field-${name}`;
    const { node } = this.control;
    this.error = h("p", { class: "problem", id: `${id}-error`, hidden: true });
    build(node, { id, "aria-describedby": `${id}-help ${id}-error`, "aria-required": required ? "true" : null }, []);
    const label_ = h("label", { for: id }, label);
    const help = h("small", { id: `${id}-help` }, hint(schema, required));
    this.element = h("div", { class: `field ${schema.type === "boolean" ? "check" : ""}` }, node.type === "checkbox" ? [node, label_, help] : [label_, help, node],
      schema.description ? h("small", { class: "help" }, schema.description) : null, this.error);
    if (schema.default !== undefined && schema.default !== null) this.control.put(schema.default);
    node.addEventListener("input", () => this.complain(""));
  }

  /** The value; undefined when it is left to the function: not given, or what its default is anyway. */
  read() {
    const value = this.control.read();
    if (value === undefined && this.required) throw new FieldError("This is needed.");
    const { default: preset } = this.schema;
    if (this.required || preset === undefined) return value;
    return (preset === null && value === "") || JSON.stringify(value) === JSON.stringify(preset) ? undefined : value;
  }

  complain(text) {
    this.error.hidden = !text;
    say(this.error, text);
    attribute(this.control.node, "aria-invalid", text ? "true" : null);
  }
}

const OPTIONS = {
  priority: { enum: LANES },
  delay_s: { type: "number", minimum: 0, description: "Seconds before it may start." },
  max_attempts: { type: "integer", minimum: 1, maximum: 100 },
  timeout_s: { type: "number", exclusiveMinimum: 0, description: "Seconds that one attempt may run." },
  idempotency_key: { type: "string", description: "The same key with the same payload gives the first job again." },
  tags: { type: "string", description: "Separated by commas." },
};
const OPTION_LABELS = { priority: "Priority", delay_s: "Delay", max_attempts: "Attempts", timeout_s: "Time limit", idempotency_key: "Idempotency key", tags: "Tags" };

class SubmitPanel {
  #fields = [];
  #options = [];

  constructor(board) {
    this.board = board;
    this.title = h("h2", { id: "panel-title", tabindex: "-1" }, "Submit a job");
    this.task = h("select", { id: "submit-task", onchange: () => this.#choose() });
    this.about = h("p", { class: "about" });
    this.arguments = h("div", { class: "fields" });
    this.more = h("div", { class: "fields" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.done = h("p", { class: "done", role: "status" });
    this.submit = h("button", { class: "primary", type: "submit" }, "Submit");
    this.form = h("form", { novalidate: true, onsubmit: (e) => this.#send(e), onkeydown: (e) => e.key === "Enter" && (e.ctrlKey || e.metaKey) && this.form.requestSubmit() },
      h("div", { class: "field" }, h("label", { for: "submit-task" }, "Task"), this.task), this.about, this.arguments,
      h("details", null, h("summary", null, "Options"), this.more), this.problem, h("div", { class: "actions" }, this.submit, this.done));
    this.empty = h("div", { class: "note", hidden: true }, h("strong", null, "No task is known yet."), h("span", null, "Workers publish their tasks when they start."));
    this.element = h("div", { class: "submit" }, h("header", null, this.title), this.form, this.empty);
    this.load();
  }

  async load() {
    const tasks = await this.board.loadTasks();
    this.form.hidden = !tasks.length;
    this.empty.hidden = tasks.length > 0;
    if (this.task.options.length) return;
    this.task.append(...tasks.map((task) => h("option", { value: task.name }, task.name)));
    if (tasks.length) this.#choose();
    if (this.task.getRootNode().activeElement === this.title) this.task.focus();
  }

  #choose() {
    const { schema, defaults, description } = this.board.known.tasks.find((task) => task.name === this.task.value);
    say(this.about, description);
    this.about.hidden = !description;
    this.#fields = Object.entries(schema.properties ?? {}).map(([name, part]) => new Field(name, resolve(part, schema), { required: schema.required?.includes(name) }));
    const presets = { priority: defaults.priority, max_attempts: defaults.max_attempts, timeout_s: defaults.timeout_s };
    this.#options = Object.entries(OPTIONS).map(([name, part]) => new Field(`option-${name}`, { ...part, default: presets[name] ?? null }, { label: OPTION_LABELS[name] }));
    this.arguments.replaceChildren(...this.#fields.map((field) => field.element), this.#fields.length ? "" : h("p", { class: "quiet" }, "This task takes no arguments."));
    this.more.replaceChildren(...this.#options.map((field) => field.element));
    this.#complain("");
    say(this.done, "");
  }

  #complain(text) {
    this.problem.hidden = !text;
    say(this.problem, text);
  }

  /** The values of `fields` by `name`, or null after each that is wrong has said so. */
  #values(fields, name) {
    const values = {};
    let wrong = null;
    for (const field of fields) {
      field.complain("");
      try {
        const value = field.read();
        if (value !== undefined) values[name(field)] = value;
      } catch (error) {
        if (!(error instanceof FieldError)) throw error;
        field.complain(error.message);
        wrong ??= field;
      }
    }
    wrong?.control.node.focus();
    return wrong ? null : values;
  }

  async #send(event) {
    event.preventDefault();
    this.#complain("");
    say(this.done, "");
    const payload = this.#values(this.#fields, (field) => field.name);
    const options = payload && this.#values(this.#options, (field) => field.name.slice("option-".length));
    if (!options) return;
    if (options.tags) options.tags = options.tags.split(",").map((tag) => tag.trim()).filter(Boolean);
    this.submit.disabled = true;
    try {
      const job = whole(await this.board.source.request("submit", { task: this.task.value, payload, ...options }));
      this.done.shown = null;
      this.done.replaceChildren("Submitted ", h("button", { type: "button", class: "link", onclick: () => this.board.openJob(job.id) }, short(job.id)));
      this.board.heardRecord(job);
    } catch (error) {
      this.#refused(error);
    } finally {
      this.submit.disabled = false;
      this.submit.focus({ preventScroll: true });
      this.#wrong()?.focus();
    }
  }

  #wrong() {
    return this.form.querySelector("[aria-invalid]");
  }

  /** Puts what the server says at the field that its path, such as `$.pages[3].width`, begins with. */
  #refused(error) {
    const rest = [];
    for (const { path = "$", detail = error.message } of error.errors) {
      const [, name, deeper = ""] = /^\$\.([^.[]+)(.*)$/.exec(path) ?? [];
      const field = this.#fields.find((one) => one.name === name);
      if (field) field.complain(deeper ? `${detail} (at ${path})` : detail);
      else rest.push(detail);
    }
    if (rest.length || !error.errors.length) this.#complain(rest.join(" ") || error.message);
  }

  hear() {}
  heardProgress() {}
  update() {}
  tick() {}
  close() {}
}

// ── The board ───────────────────────────────────────────────────────────────────────────────────────────────────────

const PAINT_MS = 200;
const STATS_S = 5;
const NOTICE_MS = 5_000;

const KEYS = [["/", "find a job"], ["n", "submit a job"], ["1 – 4", "jobs, dead letters, workers, capacity"], ["↑ ↓ or k j", "move in a table"], ["Enter", "open the job"], ["Esc", "close the panel"], ["?", "these keys"]];

const STATES = {
  connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", unauthorised: "Signed out", saved: "Saved snapshot",
};

class Board {
  known = new Known();
  state = { state: "connecting" };
  panel = null;
  scrolled = false;
  #opener = null;
  #since = Date.now();
  #seconds = 0;
  #painted = 0;
  #painting = 0;
  #notice = 0;
  #stop = new AbortController();

  constructor(root, source) {
    this.source = source;
    this.root = root;
    this.overview = new Overview(this.known);
    this.views = { jobs: ["Jobs", new JobsView(this)], dead: ["Dead letters", new DeadView(this)], workers: ["Workers", new WorkersView(this)], capacity: ["Capacity", new CapacityView()] };
    this.#build();
    this.show("jobs");
    root.replaceChildren(this.element);
    const { signal } = this.#stop;
    // Keys pressed in the board are the board's: a notebook around it would take them for its own.
    root.addEventListener("keydown", (event) => this.#key(event), { signal });
    this.unsubscribe = source.subscribe((message) => this.receive(message));
    this.clock = setInterval(() => this.#tick(), 1000);
  }

  close() {
    this.unsubscribe();
    clearInterval(this.clock);
    clearTimeout(this.#painting);
    clearTimeout(this.#notice);
    this.panel?.close();
    this.#stop.abort();
    this.root.replaceChildren();
  }

  // -- what it is made of

  #build() {
    this.light = h("p", { class: "light", role: "status" }, h("i"), h("span"));
    this.newJob = h("button", { class: "primary", onclick: () => this.openForm() }, icon("plus"), "Submit job");
    this.help = h("button", { class: "plain icon-only", "aria-label": "Keys", title: "Keys (?)", onclick: () => this.keys.showModal() }, "?");
    this.banner = h("div", { class: "banner", role: "status", hidden: true });
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "Views", onkeydown: (e) => this.#turn(e) }, Object.entries(this.views).map(([key, [label]]) =>
      h("button", { role: "tab", id: `tab-${key}`, "aria-controls": "view", onclick: () => this.show(key) }, label)));
    this.view = h("div", { id: "view", role: "tabpanel" });
    this.above = h("div", { class: "above" });
    this.scroller = h("div", { class: "scroller" }, this.overview.element, this.above, this.tabs, this.view);
    this.side = h("aside", { class: "side", "aria-labelledby": "panel-title", hidden: true });
    this.main = h("main", null, this.scroller, this.side);
    this.prompt = this.#buildPrompt();
    this.keys = h("dialog", { "aria-label": "Keys" }, h("h2", null, "Keys"), h("dl", null, KEYS.map(([key, what]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, what)))),
      h("form", { method: "dialog" }, h("button", { class: "plain" }, "Close")));
    this.toast = h("div", { class: "toast", role: "status" });
    this.element = h("div", { class: "board" },
      h("header", { class: "bar" }, h("h1", null, icon("mark"), "dtqkit"), this.light, h("span", { class: "grow" }), this.help, this.newJob),
      this.banner, this.main, this.prompt, this.keys, this.toast);
    // The listing is scrolled once what stands above it has left: no layout is asked for.
    const observer = new IntersectionObserver(([entry]) => (this.scrolled = !entry.isIntersecting && entry.boundingClientRect.top < entry.rootBounds?.top), { root: this.scroller });
    observer.observe(this.above);
    this.#stop.signal.addEventListener("abort", () => observer.disconnect());
  }

  #buildPrompt() {
    this.token = h("input", { type: "password", id: "token", autocomplete: "off", required: true, "aria-describedby": "token-help token-problem", spellcheck: "false" });
    this.tokenProblem = h("p", { class: "problem", id: "token-problem", role: "alert", hidden: true });
    const signIn = (event) => {
      event.preventDefault();
      if (this.token.value.trim()) this.source.signIn(this.token.value.trim());
      this.token.value = "";
    };
    return h("form", { class: "prompt", hidden: true, onsubmit: signIn }, icon("mark"), h("h2", null, "Sign in to this queue"),
      h("p", { id: "token-help" }, "The server asks for its token: the value of DTQ_TOKEN, or of DTQ_READ_TOKEN to look only. It is kept until this tab is closed."),
      h("label", { for: "token" }, "Token"), this.token, this.tokenProblem, h("button", { class: "primary", type: "submit" }, "Sign in"));
  }

  get current() {
    return this.views[this.shown][1];
  }

  get acting() {
    return this.state.state !== "saved";
  }

  show(key) {
    this.shown = key;
    for (const tab of this.tabs.children) {
      const here = tab.id === `tab-${key}`;
      attribute(tab, "aria-selected", here);
      tab.tabIndex = here ? 0 : -1;
    }
    attribute(this.view, "aria-labelledby", `tab-${key}`);
    this.view.replaceChildren(this.current.element);
    this.current.update();
    if (this.state.state === "live") this.current.load();
  }

  #turn(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const keys = Object.keys(this.views);
    this.show(keys[(keys.indexOf(this.shown) + step + keys.length) % keys.length]);
    this.tabs.querySelector("[aria-selected=true]").focus();
  }

  toTop() {
    if (this.scrolled) this.above.scrollIntoView();
  }

  // -- what comes from the source

  receive(message) {
    if (message.type === "state") return this.#become(message);
    this.known.take(message);
    if (message.type === "snapshot") {
      // The listing asks for itself while live; a saved board has nothing else to show.
      const jobs = this.views.jobs[1];
      if (jobs.first && !Object.keys(jobs.filters).length) message.jobs.map(whole).forEach((job) => jobs.table.put(job));
    }
    for (const event of message.type === "events" ? (message.jobs ?? []) : []) this.#hear(event);
    for (const event of message.progress ?? []) {
      this.current.progress(event);
      this.panel?.heardProgress(event);
    }
    this.#paintSoon();
  }

  #hear(event) {
    if (!this.known.news(event)) return;
    this.views.jobs[1].hear(event);
    this.views.dead[1].hear(event);
    this.panel?.hear(event);
  }

  /** A job's record, as an answer brought it: shown at once, whatever the events say. */
  heardRecord(job) {
    const { table } = this.views.jobs[1];
    if (table.rows.has(job.id)) table.put(job);
    else this.views.jobs[1].hear(job);
    this.#paintSoon();
  }

  #become(message) {
    const before = this.state.state;
    this.state = message;
    if (before === "live" && message.state !== "live") this.#since = Date.now();
    if (message.state === "live" && before !== "live") {
      this.current.load();
      this.#ask();
    }
    const out = message.state === "unauthorised";
    this.prompt.hidden = !out;
    this.main.hidden = out;
    if (out) {
      this.tokenProblem.hidden = !message.refused;
      say(this.tokenProblem, message.refused ? "The server does not know this token." : "");
      attribute(this.token, "aria-invalid", message.refused || null);
      this.closePanel();
      this.token.focus();
    }
    this.newJob.hidden = out || message.state === "saved";
    this.#reflect();
    this.#paintSoon();
  }

  /** The light in the bar, and the banner with what has happened and what will. */
  #reflect() {
    const { state, retryAt, at } = this.state;
    attribute(this.light, "data-state", state);
    say(this.light.lastChild, STATES[state]);
    const { redis, mongodb } = this.known.health ?? {};
    if (state === "reconnecting") {
      const inS = Math.max(0, Math.ceil(((retryAt ?? 0) - Date.now()) / 1000));
      this.#banner("lost", this.known.depthsAt ? `Connection lost at ${clock(this.#since)}. This is what was known then.` : "The queue cannot be reached.", inS ? `Next try in ${inS} s.` : "Trying…", true);
    } else if (state === "saved") this.#banner("saved", `As it was${at ? ` on ${dayAndTime.format(at)}` : ""}.`, "Run the cell to go live.");
    else if (state === "live" && mongodb === "down") this.#banner("lost", "MongoDB is away.", "Jobs are refused until it is back.");
    else if (state === "live" && redis === "down") this.#banner("degraded", "Redis is away.", "Jobs are accepted, and will run when it is back.");
    else this.banner.hidden = true;
  }

  #banner(kind, fact, next, again = false) {
    if (this.banner.dataset.kind !== kind || this.banner.hidden) {
      this.banner.dataset.kind = kind;
      this.banner.replaceChildren(icon("alert"), h("strong"), h("span", { "aria-live": "off" }), again && this.source.retry ? h("button", { class: "plain", onclick: () => this.source.retry() }, "Try now") : "");
    }
    this.banner.hidden = false;
    say(this.banner.children[1], fact);
    say(this.banner.children[2], next);
  }

  // -- painting

  /** At most five times a second; together with the browser's own frames. */
  #paintSoon() {
    if (this.#painting) return;
    this.#painting = setTimeout(() => requestAnimationFrame(() => this.#paint()), Math.max(0, this.#painted + PAINT_MS - Date.now()));
  }

  #paint() {
    this.#painting = 0;
    this.#painted = Date.now();
    this.overview.update();
    this.current.update();
    this.panel?.update();
  }

  #tick() {
    const live = this.state.state === "live";
    this.#seconds += 1;
    this.known.sample(live);
    if (live || this.#seconds === 1) {
      this.overview.tick();
      this.current.tick(this.#seconds);
      this.panel?.tick();
    }
    if (live && this.#seconds % STATS_S === 0) this.#ask();
    this.#reflect();
  }

  /** What no event tells: rates and forecast, the stores' health, the tasks that there are. */
  async #ask() {
    const ask = (operation) => this.source.request(operation).catch(() => null);
    const [stats, health] = await Promise.all([ask("stats"), ask("health"), this.known.tasks?.length ? null : this.loadTasks()]);
    Object.assign(this.known, { stats: stats ?? this.known.stats, health: health ?? this.known.health });
    this.#reflect();
    this.#paintSoon();
  }

  async loadTasks() {
    try {
      this.known.tasks = await this.source.request("tasks");
    } catch {
      this.known.tasks ??= [];
    }
    for (const key of ["jobs", "dead"]) this.views[key][1].offer(this.known.tasks);
    return this.known.tasks;
  }

  // -- what somebody does

  /** Does `operation`; undefined after a failure, which has been told. */
  async act(operation, params, fail = (message) => this.announce(message, true)) {
    try {
      return await this.source.request(operation, params);
    } catch (error) {
      fail(error.code === "forbidden" ? "This token may only look, not change anything." : error.message);
      return undefined;
    }
  }

  announce(text, bad = false) {
    clearTimeout(this.#notice);
    this.toast.replaceChildren(h("span", null, text));
    attribute(this.toast, "data-bad", bad);
    this.#notice = setTimeout(() => this.toast.replaceChildren(), NOTICE_MS);
  }

  openJob(id) {
    this.#open(new JobPanel(this, id));
    this.#markOpen(id);
  }

  openForm() {
    if (!this.newJob.hidden) this.#open(new SubmitPanel(this));
  }

  #open(panel) {
    this.panel?.close();
    if (this.side.hidden) this.#opener = this.root.activeElement;
    this.panel = panel;
    const close = h("button", { class: "plain icon-only close", "aria-label": "Close", title: "Close (Esc)", onclick: () => this.closePanel() }, icon("close"));
    this.side.replaceChildren(close, panel.element);
    this.side.hidden = false;
    panel.title.focus({ preventScroll: true });
  }

  closePanel() {
    if (!this.panel) return;
    const { id } = this.panel;
    this.panel.close();
    this.panel = null;
    this.side.hidden = true;
    this.side.replaceChildren();
    this.#markOpen(null);
    const { table } = this.current;
    if (id && table?.rows.has(id)) table.focus(id);
    else if (this.#opener?.isConnected) this.#opener.focus();
    else this.tabs.querySelector("[aria-selected=true]").focus();
  }

  #markOpen(id) {
    for (const key of ["jobs", "dead"]) this.views[key][1].table.mark(id);
  }

  #key(event) {
    event.stopPropagation();
    if (event.key === "Escape" && !this.keys.open) return this.closePanel();
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea") || this.main.hidden || this.keys.open) return;
    const view = Object.keys(this.views)[Number(event.key) - 1];
    const act = { "/": () => this.current.text?.focus(), n: () => this.openForm(), "?": () => this.keys.showModal() }[event.key] ?? (view && (() => this.show(view)));
    if (!act) return;
    event.preventDefault();
    act();
  }
}

// ── Where it lives ──────────────────────────────────────────────────────────────────────────────────────────────────

/** A notebook's theme need not be the system's: JupyterLab and VS Code say theirs on the body. */
function followTheme(el) {
  const { body } = document;
  const look = () => {
    const jupyter = body.dataset.jpThemeLight;
    const light = jupyter ? jupyter === "true" : /vscode-(high-contrast-)?light/.test(body.className) || null;
    const dark = jupyter === "false" || /vscode-(dark|high-contrast)(?!-light)/.test(body.className);
    attribute(el, "data-theme", light ? "light" : dark ? "dark" : null);
  };
  look();
  const observer = new MutationObserver(look);
  observer.observe(body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light"] });
  return () => observer.disconnect();
}

/** Draws the board into a shadow root of `el`, styled by the text `css`. Returns what takes it away again. */
export function mount(el, source, { css = "" } = {}) {
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  root.adoptedStyleSheets = [sheet];
  el.setAttribute("data-lm-suppress-shortcuts", "true");
  const unfollow = followTheme(el);
  const board = new Board(root, source);
  return () => {
    unfollow();
    board.close();
  };
}

/** The page: takes a token from the address (#token=…) and out of it, and the styles from the page's own sheet. */
export function mountPage({ apiBase, wsUrl }) {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname + location.search);
  const { sheet } = document.querySelector('link[rel="stylesheet"]');
  const css = Array.from(sheet.cssRules, (rule) => rule.cssText).join("\n");
  return mount(document.getElementById("board"), webSource({ apiBase, wsUrl, token: given || undefined }), { css });
}

/** The widget: anywidget calls it for each view; the model's trait `css` is the text of board.css. */
function render({ model, el }) {
  const host = el.appendChild(document.createElement("div"));
  return mount(host, modelSource(model), { css: model.get("css") });
}

export default { render };
