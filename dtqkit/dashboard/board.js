// The board: one ES module without imports, for a server's page and a notebook.
//
// A source is {request(operation, params) -> Promise, subscribe(callback) -> unsubscribe}: modelSource (an anywidget
// model), or webSource of page.js. Views touch only what has changed, at most five times a second. Text from the queue
// becomes text nodes only.

const STATUSES = ["pending", "scheduled", "running", "completed", "failed", "cancelled"];
const WAITING = ["pending", "scheduled"];
const LANES = ["high", "medium", "low"];

// == Whole numbers beyond 2^53: a BigInt here, exact in JSON; in a notebook's messages a text after a NUL

const LONG = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const packLong = (text) => (/^-?\d{16,}$/.test(text) && !Number.isSafeInteger(Number(text)) ? `"\\u0000${text}"` : text);
const revive = (_, value) => (typeof value === "string" && /^\0-?\d+$/.test(value) ? BigInt(value.slice(1)) : value);
const pack = (_, value) => (typeof value === "bigint" ? `\0${value}` : value);
const copied = (value, make) => value && JSON.parse(JSON.stringify(value, pack), make);

export const exact = {
	parse: (text) => JSON.parse(/\d{16}/.test(text) ? text.replace(LONG, packLong) : text, revive),
	stringify: (value, space) => JSON.stringify(value, pack, space)?.replace(/"\\u0000(-?\d+)"/g, "$1"),
};

// == The source of a notebook

/** `errors`: [{path, detail}] of a payload. */
export const refused = ({ code, detail, title, errors }) => Object.assign(new Error(detail || title || code), { code, errors });

const ANSWER_MS = 5_000;

/** {id, op, params} go to the kernel; {id, result | error}, {snapshot} and {events} come. A saved trait is shown first. */
export function modelSource(model) {
	const asked = new Map();
	let listener = () => {};
	let state = "connecting";
	let number = Math.random(); // every view hears every answer
	let heard = 0;

	function become(next, more) {
		if (state !== next) listener({ type: "state", state: (state = next), ...more });
	}

	function lost() {
		const saved = state === "connecting" && copied(model.get("snapshot"), revive);
		if (saved?.jobs) listener({ type: "snapshot", ...saved });
		if (saved?.jobs) become("saved", { at: Date.parse(saved.at) });
		else if (state !== "saved") become("reconnecting");
	}

	function hear(message) {
		const { id, result, error, snapshot, events } = copied(message, revive);
		heard = Date.now();
		become("live");
		if (snapshot) listener({ type: "snapshot", ...snapshot });
		if (events) listener({ type: "events", ...events });
		const { resolve, reject, timer } = asked.get(id) ?? {};
		asked.delete(id);
		clearInterval(timer);
		if (error) reject?.(refused(error));
		else resolve?.(result);
	}

	function request(op, params = {}) {
		const id = `${(number += 1)}`;
		return new Promise((resolve, reject) => {
			const timer = setInterval(() => {
				if (Date.now() - heard < ANSWER_MS) return; // alive, while a cell blocks its answer
				clearInterval(timer);
				asked.delete(id);
				lost();
				reject(refused({ detail: "The kernel does not answer." }));
			}, ANSWER_MS);
			asked.set(id, { resolve, reject, timer });
			model.send({ id, op, params: copied(params) });
		});
	}

	const begin = () => request("snapshot").then((snapshot) => snapshot && listener({ type: "snapshot", ...snapshot }), () => {});

	return {
		request,
		subscribe(given) {
			listener = given;
			model.on("msg:custom", hear);
			const watch = setInterval(() => state === "live" || begin(), 2 * ANSWER_MS);
			begin();
			return () => {
				clearInterval(watch);
				model.off("msg:custom", hear);
			};
		},
		retry: begin,
	};
}

// == Elements

/** An element `tag.class`: attributes (`on…`: listeners), then nodes or text. */
const h = (selector, ...rest) => build((tag) => document.createElement(tag || "div"), selector, rest);
const svg = (selector, ...rest) => build((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag), selector, rest);

function build(create, selector, rest) {
	const [tag, ...classes] = selector.split(".");
	const node = create(tag);
	node.classList.add(...classes);
	if (rest[0]?.constructor === Object) dress(node, rest.shift());
	node.append(...rest.flat().filter((child) => child));
	return node;
}

function dress(node, attributes) {
	for (const [name, value] of Object.entries(attributes)) {
		if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
		else set(node, name, value);
	}
}

function say(node, text) {
	if (node.said === text) return;
	node.said = text;
	node.textContent = text;
}

/** Sets an attribute; null and false take it away. */
function set(node, name, value) {
	if (value == null || value === false) node.removeAttribute(name);
	else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : value);
}

function fill(parent, items, make, paint) {
	while (parent.children.length > items.length) parent.lastChild.remove();
	items.forEach((item, i) => paint(parent.children[i] ?? parent.appendChild(make(item)), item));
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
	mark: "M2.5 4.5h11M2.5 8h7.5M2.5 11.5h4.5",
};

const icon = (name) => svg(`svg.icon.${name}`, { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: SHAPES[name] }));
const button = (kind, label, onclick, more) => h(`button.${kind}`, { type: "button", onclick, ...more }, label);

// == Words and numbers

const capital = (word) => word[0].toUpperCase() + word.slice(1);
const short = (id) => id.slice(-8);
const grouped = new Intl.NumberFormat("en");
const count = (n) => grouped.format(n);
const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;
const rate = (perS) => (perS === 0 ? "0" : perS < 0.1 ? perS.toFixed(2) : perS < 100 ? perS.toFixed(1) : count(Math.round(perS)));

function duration(s) {
	if (s == null) return "–";
	if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
	if (s < 9.95) return `${s.toFixed(1)} s`;
	if (s < 59.5) return `${Math.round(s)} s`;
	const [unit, name, part, small] = s < 3570 ? [60, "m", 1, "s"] : s < 86_400 ? [3600, "h", 60, "m"] : [86_400, "d", 3600, "h"];
	const parts = Math.round(s / part) % (unit / part);
	return `${Math.floor(Math.round(s / part) / (unit / part))} ${name}${parts ? ` ${parts} ${small}` : ""}`;
}

const timeOfDay = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndTime = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const clock = (ms) => (Math.abs(Date.now() - ms) < 43_200_000 ? timeOfDay : dayAndTime).format(ms);
const moment = (iso) => (iso ? clock(Date.parse(iso)) : "–");

function ceiling(n) {
	const power = 10 ** Math.floor(Math.log10(n));
	return [1, 2, 5, 10].find((step) => step * power >= n) * power;
}

// == Records

function whole(job) {
	return {
		priority: "medium", status: "pending", max_attempts: 3, failures: 0, timeout_s: 300, tags: [], earlier: [], token: 0, rev: 1,
		cancel_requested: false, progress: null, progress_message: "", ...job,
	};
}

/** After an event: an error is one line, times those of its arrival. */
function after(job, event) {
	const next = { ...job, cancel_requested: false, ...event };
	if (typeof event.error === "string") {
		const [type, ...message] = event.error.split(": ");
		next.error = { type, message: message.join(": ") };
	}
	if (event.status === "running" && job.status !== "running") {
		Object.assign(next, { ...NOT_RUN, claimed_at: new Date().toISOString(), error: null, progress: null, progress_message: "" });
	}
	return WAITING.includes(event.status) ? { ...next, ...NOT_RUN } : next;
}

const NOT_RUN = { claimed_at: null, started_at: null, run_ms: null, wait_ms: null };

function progressed(job, { token, progress = null, message = "", started_at }) {
	const begun = WAITING.includes(job.status) && token > job.token;
	if (!begun && (job.status !== "running" || token < job.token)) return job;
	const next = { ...(begun ? after(job, { status: "running" }) : job), token, progress, progress_message: message };
	return { ...next, started_at: started_at ?? next.started_at };
}

/** Of a running attempt, only a report says when it began. */
const renewed = (job, was) => (job.status === "running" && job.token === was?.token ? { ...job, started_at: job.started_at ?? was.started_at } : job);

const createdAt = (job) => (job.created_at ? Date.parse(job.created_at) : parseInt(job.id.slice(0, 8), 16) * 1000);
const between = (from, to) => (from && to ? Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000) : null);
const now = () => new Date().toISOString();
const claimed = (one) => one.claimed_at ?? one.started_at;

/** Of an attempt, or of the last one of a job; null: it never began. */
function waited(one) {
	if (one.wait_ms != null) return one.wait_ms / 1000;
	const of = one.earlier && !holds(one) ? (one.earlier.at(-1) ?? {}) : one;
	return between(of.queued_at ?? of.created_at, of.started_at);
}
/** Whether a job's own fields are of its last attempt. */
const holds = ({ status }) => ["running", "completed"].includes(status);
const ran = (one) => (one.run_ms != null ? one.run_ms / 1000 : one.status === "running" ? between(one.started_at, now()) : null);

/** What could not begin is no attempt. */
const attemptOf = ({ token, declined = 0, declined_before = 0 }) => token - declined - declined_before;
const attemptsOf = (job) => (claimed(job) && holds(job) ? [...job.earlier, { ...job, ending: job.status, error: null }] : job.earlier);
const triedOf = (job) => `${attemptOf(job)} · ${job.failures} of ${job.max_attempts}`;

const WINDOW_S = 900;
const SEEN = 5_000;

/** Depths, workers, counts and their past: all but the listings. */
class Known {
	depths = null;
	workers = [];
	at = 0;
	stats = null;
	health = null;
	tasks = [];
	/** A value a second, oldest first; null where nobody looked. */
	past = Object.fromEntries([...LANES, "completed", "failed"].map((name) => [name, new Array(WINDOW_S).fill(null)]));
	#seen = new Map();
	#ended = { completed: 0, failed: 0 };

	take({ depths, workers }) {
		this.depths = depths ?? this.depths;
		if (workers) Object.assign(this, { workers, at: Date.now() });
	}

	/** False while it is not known what the workers have. */
	unserved(task) {
		return this.at > 0 && this.workers.every(({ tasks }) => tasks && !tasks.includes(task));
	}

	/** By the second: what was seen and heard; before that, the record's minutes. */
	series(name) {
		const { minutes, at } = this.stats ?? { minutes: [] };
		const ageS = (Date.parse(at) - Date.parse(minutes[0]?.at) + Date.now() - this.asked) / 1000;
		return this.past[name].map((seen, i) => {
			const minute = minutes[Math.floor((ageS - WINDOW_S + i) / 60)];
			return name in this.#ended ? (minute ? minute[name] / 60 : seen) : (seen ?? minute?.waiting?.[name] ?? null);
		});
	}

	news({ id, rev, status }) {
		if ((this.#seen.get(id) ?? 0) >= rev) return false;
		this.#seen.delete(id);
		this.#seen.set(id, rev);
		if (this.#seen.size > SEEN) this.#seen.delete(this.#seen.keys().next().value);
		if (status in this.#ended) this.#ended[status] += 1;
		return true;
	}

	sample(live) {
		for (const [name, values] of Object.entries(this.past)) {
			values.shift();
			values.push(live ? (this.#ended[name] ?? this.depths?.[name] ?? null) : null);
		}
		this.#ended = { completed: 0, failed: 0 };
	}

	beatAge(worker) {
		return worker.age_s + (Date.now() - this.at) / 1000;
	}
}

// == Charts

function linePath(values, width, height, top) {
	let gap = Infinity;
	return values.map((value, i) => {
		if (value === null) return (gap += 1) && "";
		const pen = gap > values.length / 4 ? "M" : "L";
		gap = 0;
		return `${pen}${((i * width) / (values.length - 1)).toFixed(1)} ${(height - (value / top) * height).toFixed(1)}`;
	}).join("");
}

function sparkline() {
	const line = svg("path.line");
	const element = svg("svg.spark", { viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" }, line);
	return { element, draw: (values) => set(line, "d", linePath(values, 100, 26, 1.1 * Math.max(1, ...values))) };
}

const WIDTH = 600;
const HEIGHT = 100;

/** The legend: present values, `note` how late the others are. */
class Chart {
	constructor(title, kinds, values, note, say = count) {
		Object.assign(this, { kinds, values, format: say });
		this.figures = kinds.map(() => h("b"));
		this.lines = kinds.map((kind) => svg(`path.line.${kind}`));
		this.top = h("span.top");
		this.svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, svg("path.grid", { d: "M0 .5H600M0 50H600M0 99.5H600" }), this.lines);
		this.element = h("section.chart", { "aria-label": title },
			h("header", h("h2", title), h("ul.legend", kinds.map((kind, i) => h(`li.${kind}`, kind, " ", this.figures[i])))),
			h(".plot", this.top, this.svg), h("footer", h("span", "15 min ago"), h("span", note), h("span", "now")));
	}

	draw() {
		const series = this.kinds.map(this.values);
		const top = ceiling(Math.max(1, ...series.flat()));
		say(this.top, this.format(top));
		series.forEach((values, i) => {
			set(this.lines[i], "d", linePath(values, WIDTH, HEIGHT, top));
			say(this.figures[i], values.at(-1) === null ? "–" : this.format(values.at(-1)));
		});
		set(this.svg, "aria-label", this.kinds.map((kind, i) => `${kind} ${this.figures[i].textContent}`).join(", "));
	}
}

const MEAN_S = 5;

function means(values) {
	return Array.from({ length: values.length / MEAN_S }, (_, i) => {
		const known = values.slice(i * MEAN_S, (i + 1) * MEAN_S).filter((value) => value !== null);
		return known.length ? known.reduce((a, b) => a + b) / known.length : null;
	});
}

const WAITS_SHOWN = 4;

/** On one logarithmic scale. */
class WaitsChart {
	#rows = h("ol.waits");
	#note = h("p.quiet");
	element = h("section.chart", { "aria-label": "Wait before start" },
		h("header", h("h2", "Wait before start"), h("ul.legend", h("li.p50", "p50"), h("li.p95", "p95"))), this.#rows, this.#note);

	draw(stats) {
		const ended = (task) => task.completed + task.failed;
		const tasks = (stats?.tasks ?? []).filter((task) => task.wait_p95_s !== null).sort((a, b) => ended(b) - ended(a)).slice(0, WAITS_SHOWN);
		say(this.#note, !tasks.length ? "No job has run in the last 5 minutes." : stats.sampled ? `Of the newest ${count(stats.sampled)} ends.` : "");
		const log = (value) => Math.log10(Math.max(value, 0.001));
		const least = Math.min(...tasks.map((task) => log(task.wait_p50_s))) - 0.2;
		const most = Math.max(...tasks.map((task) => log(task.wait_p95_s))) + 0.2;
		const x = (value) => `${((100 * (log(value) - least)) / (most - least)).toFixed(1)}%`;
		const dot = (kind) => svg(`circle.${kind}`, { cy: "50%", r: 4 });
		fill(this.#rows, tasks,
			() => h("li", h("span.name"), svg("svg.range", { "aria-hidden": "true" }, svg("line", { y1: "50%", y2: "50%" }), dot("p50"), dot("p95")), h("span.figures")),
			(row, { task, wait_p50_s, wait_p95_s }) => {
				const [name, { children: [range, middle, high] }, figures] = row.children;
				say(name, task);
				set(range, "x1", x(wait_p50_s));
				set(range, "x2", x(wait_p95_s));
				set(middle, "cx", x(wait_p50_s));
				set(high, "cx", x(wait_p95_s));
				say(figures, `${duration(wait_p50_s)} – ${duration(wait_p95_s)}`);
			});
	}
}

// == The first row

const LATE_S = 9;
const BEATS_SHOWN = 3;
const sum = (items, name) => items.reduce((total, item) => total + item[name], 0);

class Overview {
	#figures = {};
	#sparks = LANES.map(sparkline);
	#beats = h("ul.beats");
	#waits = new WaitsChart();

	constructor(known) {
		this.known = known;
		this.charts = [
			new Chart("Waiting by lane", LANES, (lane) => known.series(lane), "each minute, now each second"),
			new Chart("Finished", ["completed", "failed"], (kind) => means(known.series(kind)), "each minute counted, then as heard", (perS) => `${rate(perS)}/s`),
		];
		this.element = h(".overview",
			h("dl.figures", { "aria-label": "The queue now" }, LANES.map((lane, i) => this.#cell(lane, [icon(lane), capital(lane)], this.#sparks[i].element)),
				this.#cell("throughput", "Throughput"), this.#cell("failures", "Failures"), this.#cell("oldest", "Oldest wait"), this.#cell("workers", "Workers", this.#beats)),
			h(".charts", { tabindex: "0", role: "group", "aria-label": "Charts" }, this.charts.map((chart) => chart.element), this.#waits.element));
	}

	#cell(name, label, extra) {
		const [value, foot] = (this.#figures[name] = [h("dd.value"), h("dd.foot")]);
		return h(`.cell.${name}`, h("dt", label), value, extra && h("dd.extra", extra), foot);
	}

	#say(name, value, foot, { bad, title } = {}) {
		const [figure, below] = this.#figures[name];
		say(figure, value);
		set(figure, "data-bad", bad);
		say(below, foot);
		set(below, "title", title);
	}

	update() {
		const { depths, stats, workers } = this.known;
		if (!depths) return Object.keys(this.#figures).forEach((name) => this.#say(name, "–", ""));
		for (const lane of LANES) {
			const forecast = stats?.forecast.find((one) => one.lane === lane);
			const range = forecast?.low_s != null && `${duration(forecast.low_s)} to ${duration(forecast.high_s)}`;
			const drain = forecast?.drain_s;
			this.#say(lane, count(depths[lane]), !depths[lane] ? "empty" : drain === undefined ? "waiting" : drain === null ? "not draining" : `est. clear in ${duration(drain)} (${range})`, { title: range && `90 % in ${range}` });
		}
		const ended = stats ? stats.completed + stats.failed : 0;
		this.#say("throughput", stats ? `${rate(stats.throughput_per_s)}/s` : "–", stats ? `${count(stats.completed)} in ${duration(stats.window_s)}` : "");
		this.#say("failures", stats ? count(stats.failed) : "–", ended ? `${((100 * stats.failed) / ended).toFixed(1)} % of ${count(ended)} ended` : "none have ended", { bad: stats?.failed > 0 });
		this.#say("oldest", depths.oldest_wait_s === null ? "none" : duration(depths.oldest_wait_s), `${count(depths.running)} running, ${count(depths.scheduled)} scheduled`);
		this.#say("workers", count(workers.length), workers.length ? `${sum(workers, "load")} of ${sum(workers, "concurrency")} busy` : "nothing will run", { bad: !workers.length });
		this.#tellBeats();
	}

	#tellBeats() {
		fill(this.#beats, this.known.workers.slice(0, BEATS_SHOWN), () => h("li", h("span"), h("b")), (row, worker) => {
			const age = this.known.beatAge(worker);
			say(row.firstChild, worker.name);
			say(row.lastChild, duration(age));
			set(row, "data-late", age > LATE_S);
			set(row, "title", `${worker.name}: last beat ${duration(age)} ago`);
		});
	}

	tick() {
		LANES.forEach((lane, i) => this.#sparks[i].draw(this.known.series(lane).slice(-360)));
		this.charts.forEach((chart) => chart.draw());
		this.#waits.draw(this.known.stats);
		this.#tellBeats();
	}
}

// == Tables of jobs

function paintStatus(cell, job) {
	if (cell.status !== job.status) {
		cell.status = job.status;
		cell.label = h("span");
		cell.replaceChildren(icon(job.status), cell.label);
		set(cell, "data-status", job.status);
	}
	const running = job.status === "running";
	const share = running && job.progress !== null ? ` ${Math.round(job.progress * 100)} %` : "";
	say(cell.label, !running ? capital(job.status) : job.cancel_requested ? "Stopping" : job.started_at || share ? `Running${share}` : `Claimed ${duration(between(job.claimed_at, now()))} ago`);
}

function outcome(job) {
	if (job.error && job.status !== "completed") return `${job.error.type}: ${job.error.message}`;
	if (job.status === "running") return job.progress_message;
	if (job.status === "scheduled" && job.due_at) return `due ${moment(job.due_at)}`;
	return job.result == null ? "" : exact.stringify(job.result).slice(0, 200);
}

const text = (of) => (cell, job) => say(cell, of(job));
const COLUMNS = {
	status: ["Status", paintStatus],
	outcome: ["Outcome", (cell, job) => {
		say(cell, outcome(job));
		set(cell, "data-bad", job.error && job.status !== "completed");
	}],
	priority: ["Priority", (cell, job) => cell.said ?? (cell.said = job.priority, cell.append(icon(job.priority), h("span", capital(job.priority))))],
	created: ["Created", text((job) => clock(createdAt(job)))],
	died: ["Failed", text((job) => moment(job.ended_at))],
	wait: ["Wait", text((job) => duration(waited(job)))],
	run: ["Run", text((job) => duration(ran(job)))],
	attempts: ["Attempt", (cell, job) => {
		say(cell, attemptOf(job) ? triedOf(job) : "–");
		set(cell, "title", attemptOf(job) > 0 && `attempt ${triedOf(job)} failures`);
	}],
	worker: ["Worker", text((job) => job.worker ?? "–")],
};

/** Newest first; a row keeps its element and focus. */
class JobTable {
	rows = new Map();
	chosen = new Set();
	#dirty = new Set();
	#tabbable = null;

	constructor(label, columns, { open, choose }) {
		Object.assign(this, { columns, open, choose });
		this.body = h("tbody", { onkeydown: (e) => this.#move(e), onfocusin: (e) => this.#aim(this.#rowOf(e)), onclick: (e) => this.#clicked(e) });
		const heads = columns.map((key) => h(`th.${key}`, { scope: "col" }, COLUMNS[key][0]));
		heads.splice(1, 0, h("th.task", { scope: "col" }, "Task"));
		this.all = h("input", { type: "checkbox", "aria-label": "Select all on this page", onchange: () => this.chooseAll(this.all.checked) });
		if (choose) heads.unshift(h("th.choose", { scope: "col" }, this.all));
		this.element = h("table.jobs", { "aria-label": label }, h("thead", h("tr", heads)), this.body);
	}

	get focused() {
		return this.body.contains(this.body.getRootNode().activeElement) ? this.body.getRootNode().activeElement : null;
	}

	get held() {
		return this.focused !== null || this.body.matches(":hover");
	}

	get lowest() {
		return this.body.lastElementChild?.dataset.id ?? "";
	}

	put(job) {
		const row = this.rows.get(job.id);
		if (!row) this.#insert(job);
		else if (job.rev >= row.job.rev) this.patch(job.id, (was) => renewed(job, was));
	}

	patch(id, change) {
		const row = this.rows.get(id);
		if (!row) return;
		row.job = change(row.job);
		this.#dirty.add(row);
	}

	remove(id) {
		const row = this.rows.get(id);
		row.tr.remove();
		this.rows.delete(id);
		this.#dirty.delete(row);
		if (this.chosen.delete(id)) this.#chosenChanged();
		if (this.#tabbable === row) this.#aim(this.rows.values().next().value);
	}

	clear() {
		for (const id of [...this.rows.keys()]) this.remove(id);
	}

	replace(jobs) {
		const wanted = new Set(jobs.map((job) => job.id));
		for (const [id, { tr }] of this.rows) if (!wanted.has(id) && !tr.contains(this.focused)) this.remove(id);
		jobs.forEach((job) => this.put(job));
	}

	#insert(job) {
		const cells = Object.fromEntries(this.columns.map((key) => [key, h(`td.${key}`)]));
		const opener = h("button.open", { type: "button", tabindex: "-1" }, h("span", job.task));
		const tr = h("tr", { "data-id": job.id }, Object.values(cells));
		tr.firstChild.after(h("td.task", { title: `${job.task} ${job.id}` }, opener, h("code", short(job.id))));
		const box = this.choose && h("input", { type: "checkbox", "aria-label": `Select ${job.task} ${short(job.id)}`, onchange: () => this.#choose(job.id, box.checked) });
		if (box) tr.prepend(h("td.choose", box));
		const row = { job, tr, cells, opener, box };
		this.rows.set(job.id, row);
		let next = this.body.firstElementChild;
		while (next && next.dataset.id > job.id) next = next.nextElementSibling;
		this.body.insertBefore(tr, next);
		if (!this.#tabbable) this.#aim(row);
		this.#dirty.add(row);
	}

	flush() {
		for (const { job, cells } of this.#dirty) this.columns.forEach((key) => COLUMNS[key][1](cells[key], job));
		this.#dirty.clear();
	}

	tick() {
		for (const { job, cells } of this.rows.values()) if (job.status === "running" && cells.run) ["status", "run"].forEach((key) => COLUMNS[key][1](cells[key], job));
	}

	mark(open) {
		for (const [id, { tr }] of this.rows) set(tr, "data-open", id === open);
	}

	focus(id) {
		(this.rows.get(id) ?? this.#tabbable)?.opener.focus();
	}

	#rowOf(event) {
		return this.rows.get(event.target.closest("tr").dataset.id);
	}

	#aim(row = null) {
		if (this.#tabbable) this.#tabbable.opener.tabIndex = -1;
		this.#tabbable = row;
		if (row) row.opener.tabIndex = 0;
	}

	#clicked(event) {
		if (!event.target.closest(".choose") && !String(getSelection())) this.open(this.#rowOf(event).job.id);
	}

	#move(event) {
		const { tr } = this.#rowOf(event);
		const [down, up] = [tr.nextElementSibling, tr.previousElementSibling];
		const to = { ArrowDown: down, j: down, ArrowUp: up, k: up, Home: this.body.firstElementChild, End: this.body.lastElementChild }[event.key];
		if (!to || event.ctrlKey || event.metaKey) return;
		event.preventDefault();
		to.querySelector(event.target.tagName).focus();
	}

	#choose(id, on) {
		this.chosen[on ? "add" : "delete"](id);
		this.#chosenChanged();
	}

	chooseAll(on) {
		this.chosen = new Set(on ? this.rows.keys() : []);
		for (const { box } of this.rows.values()) box.checked = on;
		this.#chosenChanged();
	}

	#chosenChanged() {
		this.all.checked = this.chosen.size > 0 && this.chosen.size === this.rows.size;
		this.all.indeterminate = this.chosen.size > 0 && !this.all.checked;
		this.choose();
	}
}

// == Listings: a table, its filters and its pages

const TYPING_MS = 250;
const REFRESH_MS = 1_900;

class Listing {
	table;
	stale = false;
	#asked = 0;
	#loading = 0;
	#cursors = [];
	#next = null;
	#typing = 0;
	#refreshed = 0;
	#fresh = new Map();

	constructor(board, operation, table, { filters, always = {}, empty }) {
		Object.assign(this, { board, operation, table, always, empty });
		const reload = () => this.reload();
		const choice = (label, options) => h("select", { "aria-label": label, onchange: reload }, h("option", { value: "" }, `Any ${label.toLowerCase()}`), options.map((one) => h("option", { value: one }, capital(one))));
		const choices = { status: choice("Status", STATUSES), task: choice("Task", []), priority: choice("Priority", LANES) };
		this.text = h("input", { type: "search", placeholder: "Find an id, key or tag", "aria-label": "Find by id, idempotency key or tag", "aria-keyshortcuts": "/", title: "/", autocomplete: "off", spellcheck: "false", oninput: () => {
			clearTimeout(this.#typing);
			this.#typing = setTimeout(reload, TYPING_MS);
		} });
		this.fields = { q: this.text, ...Object.fromEntries(filters.map((name) => [name, choices[name]])) };
		this.pill = button("pill", "", () => this.board.toTop() ?? this.reload(), { hidden: true });
		this.size = h("select", { "aria-label": "Rows on a page", onchange: reload }, [50, 100, 200].map((n) => h("option", { value: n }, `${n} rows`)));
		this.page = h("span.quiet");
		this.newer = button("plain", "Newer", () => this.#turn(() => this.#cursors.pop()));
		this.older = button("plain", "Older", () => this.#turn(() => this.#cursors.push(this.#next)));
		this.note = h(".note");
		const { q, ...selects } = this.fields;
		this.tools = h(".tools", q, Object.values(selects), this.pill,
			h("nav.pages", { "aria-label": "Pages" }, this.size, this.page, this.newer, this.older));
		this.element = h(".listing", this.tools, table.element, this.note);
	}

	get filters() {
		return Object.fromEntries(Object.entries(this.fields).map(([name, field]) => [name, field.value.trim()]).filter(([, value]) => value));
	}

	get first() {
		return this.#cursors.length === 0;
	}

	/** A task that no worker serves, of a job that waits for some time. */
	get unserved() {
		return [...this.table.rows.values()].find(({ job }) => job.status === "pending" && Date.now() - createdAt(job) > 5000 && this.board.known.unserved(job.task))?.job.task;
	}

	get #still() {
		return this.table.held || this.board.scrolled;
	}

	offer(tasks) {
		const { task } = this.fields;
		const { value } = task;
		fill(task, ["", ...tasks.map((one) => one.name)], () => h("option"), (option, name) => name && (set(option, "value", name), say(option, name)));
		task.value = value;
	}

	#turn(step) {
		step();
		this.table.clear();
		this.board.toTop();
		this.load();
	}

	reload() {
		this.#cursors = [];
		this.table.clear();
		return this.load();
	}

	/** The last request's answer counts. */
	async load() {
		const asked = (this.#loading = ++this.#asked);
		const cursor = this.#cursors.at(-1);
		this.stale = false;
		this.#refreshed = Date.now();
		if (!this.table.rows.size) this.#tell("Loading…");
		try {
			const page = await this.board.request(this.operation, { ...this.filters, limit: Number(this.size.value), ...(cursor && { cursor }) });
			if (asked !== this.#asked) return;
			this.#next = page.cursor;
			this.#loading = 0;
			this.#take(page.items.map(whole));
		} catch (error) {
			this.stale = true;
			if (asked === this.#asked && !this.table.rows.size) this.#tell("The jobs cannot be listed.", error.message, "failed");
		}
		this.newer.disabled = this.first;
		this.older.disabled = !this.#next;
		say(this.page, `Page ${this.#cursors.length + 1}`);
	}

	#take(jobs) {
		if (this.table.rows.size && this.#still) {
			for (const job of jobs) if (this.table.rows.has(job.id)) this.table.put(job);
		} else {
			this.#fresh.clear();
			this.table.replace(jobs);
		}
		this.update();
	}

	#matches(job) {
		const { q, ...wanted } = { ...this.filters, ...this.always };
		return !q && Object.entries(wanted).every(([name, value]) => job[name] === value);
	}

	hear(event) {
		const known = this.table.rows.has(event.id);
		this.table.patch(event.id, (job) => (event.rev > job.rev ? after(job, event) : job));
		if (known || this.#fresh.has(event.id) || this.#belongs(event)) this.stale = true;
		else return;
		if (!known) this.#fresh.set(event.id, after(whole({ ...this.#fresh.get(event.id), id: event.id }), event));
		if (this.#fresh.size > 200) this.#fresh.delete(this.#fresh.keys().next().value);
	}

	#belongs(job) {
		return this.first && this.#matches(job) && (this.table.rows.size < Number(this.size.value) || job.id > this.table.lowest);
	}

	report(news) {
		this.table.patch(news.id, (job) => progressed(job, news));
	}

	show(job) {
		if (this.table.rows.has(job.id) || this.#belongs(job)) this.table.put(job);
		this.update();
	}

	/** What would move a row in use is only announced. */
	update() {
		const { table } = this;
		if (!this.#still) {
			for (const job of this.#fresh.values()) if (this.#matches(job)) table.put(job);
			for (const { job } of [...table.rows.values()]) if (!this.filters.q && !this.#matches(job)) table.remove(job.id);
			while (table.rows.size > Number(this.size.value)) table.remove(table.lowest);
			this.#fresh.clear();
		}
		this.pill.hidden = !this.#fresh.size;
		say(this.pill, plural(this.#fresh.size, "new job"));
		table.flush();
		if (table.rows.size) this.note.hidden = true;
		else if (!this.#loading) this.#tell(...(Object.keys(this.filters).length ? ["No job matches these filters."] : this.empty));
	}

	#tell(title, detail = "", kind = "") {
		this.note.hidden = false;
		if (this.note.said === title) return;
		this.note.said = title;
		this.note.className = `note ${kind}`;
		this.note.replaceChildren(h("strong", title), detail);
	}

	tick() {
		this.table.tick();
		const waiting = [...this.table.rows.values()].some(({ job }) => job.status === "pending" || job.status === "running");
		if ((this.stale || waiting) && Date.now() - this.#refreshed > REFRESH_MS) this.load();
	}
}

function jobsView(board) {
	const table = new JobTable("Jobs", ["status", "outcome", "priority", "created", "wait", "run", "attempts", "worker"], { open: (id) => board.openJob(id) });
	return new Listing(board, "jobs", table, {
		filters: ["status", "task", "priority"],
		empty: ["Nothing has been submitted yet.", "Submit a job here, or from Python: queue.submit(task, …)"],
	});
}

class DeadLetters extends Listing {
	constructor(board) {
		const table = new JobTable("Dead letters", ["status", "outcome", "priority", "died", "attempts", "worker"], { open: (id) => board.openJob(id), choose: () => this.#offer() });
		super(board, "dead_letters", table, {
			filters: ["task", "priority"], always: { status: "failed" },
			empty: ["No dead letters.", "A job that fails for good is kept here until it is requeued or expires."],
		});
		this.bulk = h(".bulk", { role: "group", "aria-label": "Requeue" });
		this.tools.after(this.bulk);
	}

	reload() {
		this.#offer();
		return super.reload();
	}

	async load() {
		await super.load();
		if (!this.bulk.querySelector(".primary")) this.#offer();
	}

	#offer() {
		const { size } = this.table.chosen;
		const { q, ...filters } = this.filters;
		const offer = JSON.stringify([size, q, filters, this.table.rows.size > 0]);
		if (this.offered === offer) return;
		this.offered = offer;
		const held = this.bulk.matches(":focus-within");
		// `requeue_dead` takes no search: what that found is requeued by selection.
		this.bulk.replaceChildren(
			size ? h("span", `${count(size)} selected`) : "",
			size ? button("plain", "Requeue selected…", () => this.#preview({ ids: [...this.table.chosen] })) : "",
			q ? "" : button("plain", Object.keys(filters).length ? "Requeue all that match…" : "Requeue all…", () => this.#preview(filters), { disabled: !this.table.rows.size }));
		if (held) (this.bulk.querySelector("button:enabled") ?? this.text).focus();
	}

	async #preview(query) {
		const counted = await this.board.act("requeue_dead", { ...query, dry_run: true });
		if (!counted) return;
		const go = button("primary", `Requeue ${count(counted.matched)}`, () => this.#requeue(query), { disabled: !counted.matched });
		const not = button("plain", "Not now", () => this.#offer());
		this.offered = "";
		this.bulk.replaceChildren(h("span", { role: "status" }, `${plural(counted.matched, "dead letter")} will run again.`), go, not);
		(go.disabled ? not : go).focus();
	}

	async #requeue(query) {
		const done = await this.board.act("requeue_dead", query);
		if (!done) return;
		this.board.announce(`${plural(done.requeued, "job")} requeued.`);
		this.table.chooseAll(false);
		await this.reload();
		if (this.table.rows.size) this.table.focus();
		else this.text.focus();
	}
}

// == Workers, and the place for capacity

class Workers {
	#body = h("tbody");
	#note = h(".note", h("strong", "No worker is alive."), "Jobs wait. Start one: dtqkit worker APP");
	element = h(".listing", h("table.workers", { "aria-label": "Workers" },
		h("thead", h("tr", ["Worker", "Last beat", "Slots busy", "Lanes", "Completed", "Failed", "Up", "Host", "Version"].map((label) => h("th", { scope: "col" }, label)))), this.#body), this.#note);

	constructor(known) {
		this.known = known;
	}

	update() {
		fill(this.#body, this.known.workers, () => h("tr", Array.from({ length: 9 }, () => h("td"))), ({ cells }, worker) => {
			const age = this.known.beatAge(worker);
			const upS = (Date.now() - Date.parse(worker.started_at)) / 1000;
			[
				worker.name, `${duration(age)} ago${age > LATE_S ? ", late" : ""}`, `${worker.load} of ${worker.concurrency}${worker.status === "stopping" ? ", stopping" : ""}`,
				worker.lanes.join(", "), count(worker.completed), count(worker.failed), duration(Math.max(0, upS)), `${worker.host}:${worker.pid}`, worker.version,
			].forEach((text, i) => say(cells[i], text));
			set(cells[1], "data-bad", age > LATE_S);
		});
		this.#note.hidden = this.known.workers.length > 0;
	}

	tick() {
		this.update();
	}
}

const capacity = () => ({ element: h(".listing", h("slot", { name: "capacity" }, h(".note", h("strong", "How many workers will be enough?"),
	"Ask dtqkit plan --jobs-per-day …, or capacity.explore(…) in a notebook."))) });

// == The panel on the right: a job

const pre = (label, text = "") => h("pre", { tabindex: "0", role: "region", "aria-label": label }, text);

function part(label) {
	const text = pre(label);
	const element = h("details", { open: true, hidden: true }, h("summary", label), text);
	return { element, say(value) {
		element.hidden = !value;
		say(text, value ?? "");
	} };
}

const RELOAD_MS = 500;

class JobPanel {
	#asked = 0;
	#timer = 0;
	#parts = Object.fromEntries(["Traceback", "Payload", "Result", "Log"].map((label) => [label, part(label)]));

	constructor(board, id) {
		Object.assign(this, { board, id, job: null });
		this.title = h("h2", { id: "panel-title", tabindex: "-1" }, "Job");
		this.status = h("span.status");
		this.cancel = button("plain", "Cancel job", () => this.#change("cancel", "The job is cancelled."), { hidden: true });
		this.requeue = button("primary", "Requeue", () => this.#change("requeue", "The job is requeued."), { hidden: true });
		this.problem = h("p.problem", { role: "alert" });
		this.bar = h("progress", { max: 1, "aria-label": "Progress" });
		this.progress = h(".progress", { hidden: true }, this.bar, h("span"));
		this.error = h(".error", { hidden: true }, h("b"), h("p"));
		this.warning = h("p.warning", { role: "status" });
		this.facts = h("dl.facts");
		this.attempts = h("ol.attempts");
		this.history = h("section", { hidden: true }, h("h3", "Attempts"), this.attempts);
		const { Traceback, Payload, Result, Log } = this.#parts;
		this.element = h(".job", h("header", this.title, h("p.line", this.status, h("code", id))), h(".actions", this.cancel, this.requeue),
			this.problem, this.warning, this.progress, this.error, Traceback.element, this.facts, Payload.element, Result.element, this.history, Log.element);
		this.load();
	}

	async load() {
		clearTimeout(this.#timer);
		this.#timer = 0;
		this.#asked = Date.now();
		try {
			const [job, log] = await Promise.all(["get", "log"].map((operation) => this.board.request(operation, { id: this.id })));
			if (!this.job || job.rev >= this.job.rev) this.take(renewed(whole(job), this.job));
			this.#parts.Log.say(log.lines.join("\n"));
		} catch (error) {
			if (!this.job) say(this.problem, error.message);
		}
	}

	#loadSoon() {
		this.#timer ||= setTimeout(() => this.load(), Math.max(0, this.#asked + RELOAD_MS - Date.now()));
	}

	hear(event) {
		if (event.id !== this.id || !this.job || event.rev <= this.job.rev) return;
		this.take(after(this.job, event));
		this.#loadSoon();
	}

	report(news) {
		if (news.id !== this.id || !this.job) return;
		this.take(progressed(this.job, news));
		this.#loadSoon();
	}

	take(job) {
		const focused = this.element.getRootNode().activeElement;
		const over = job.status === "completed" || job.status === "cancelled";
		const error = over ? null : job.error;
		const share = job.progress === null ? null : `${Math.round(job.progress * 100)} %`;
		this.job = job;
		say(this.title, job.task);
		this.cancel.hidden = over || job.status === "failed";
		this.cancel.disabled = job.cancel_requested;
		this.requeue.hidden = job.status !== "failed";
		this.progress.hidden = job.status !== "running" || !(share || job.progress_message);
		set(this.bar, "value", job.progress);
		say(this.progress.lastChild, [share, job.progress_message].filter(Boolean).join(", "));
		this.error.hidden = !error;
		say(this.error.firstChild, error?.type ?? "");
		say(this.error.lastChild, error?.message ?? "");
		this.#parts.Traceback.say(error?.traceback);
		this.#parts.Payload.say(job.payload && exact.stringify(job.payload, 2));
		this.#parts.Result.say(job.status === "completed" && exact.stringify(job.result, 2));
		this.#sayFacts();
		this.#sayAttempts(attemptsOf(job));
		// The focus of a button that has gone moves to the title.
		if (focused?.hidden || focused?.disabled) this.title.focus();
	}

	#sayFacts() {
		const { job } = this;
		paintStatus(this.status, job);
		say(this.warning, WAITING.includes(job.status) && this.board.known.unserved(job.task) ? `No live worker serves the task ${job.task}: the job waits until one starts.` : "");
		const facts = Object.entries({
			Priority: capital(job.priority), Worker: job.worker, Created: clock(createdAt(job)), Due: job.status === "scheduled" && moment(job.due_at),
			...(attemptOf(job) > 0 && { Claimed: moment(claimed(job)), Started: moment(job.started_at), Waited: duration(waited(job)), Ran: duration(ran(job)), Attempt: `${triedOf(job)} failures` }),
			Ended: job.ended_at && moment(job.ended_at), "Time limit": duration(job.timeout_s),
			Tags: job.tags.join(", "), "Idempotency key": job.idempotency_key,
		}).filter(([, text]) => text);
		fill(this.facts, facts, () => h("div", h("dt"), h("dd")), (pair, fact) => fact.forEach((text, i) => say(pair.children[i], text)));
	}

	#sayAttempts(attempts) {
		this.history.hidden = attempts.length < 2 && !attempts[0]?.error;
		fill(this.attempts, attempts, () => h("li", h("p"), h("p.quiet"), h("details", h("summary"), pre("Traceback of this attempt"))), (row, attempt) => {
			const [line, times, details] = row.children;
			const { worker, ending, error } = attempt;
			set(line, "data-ending", ending);
			say(line, `${attemptOf(this.job) - attempts.length + attempts.indexOf(attempt) + 1}. ${ending} on ${worker}`);
			say(times, `claimed ${moment(claimed(attempt))}, waited ${duration(waited(attempt))}, ran ${duration(ran(attempt))}`);
			details.hidden = !error;
			say(details.firstChild, error ? `${error.type}: ${error.message}` : "");
			say(details.lastChild, error?.traceback || "No traceback was kept.");
		});
	}

	async #change(operation, done) {
		say(this.problem, "");
		const job = await this.board.act(operation, { id: this.id }, (message) => say(this.problem, message));
		if (!job) return;
		this.board.announce(job.status === "running" ? "The job is asked to stop." : done);
		this.take(whole(job));
		this.board.show(this.job);
	}

	tick() {
		if (this.job && !this.job.ended_at) this.#sayFacts();
		if (this.job?.status === "pending") this.#loadSoon();
	}

	close() {
		clearTimeout(this.#timer);
	}
}

// == The panel on the right: a form from a JSON Schema

class FieldError extends Error {}

function resolve(schema, root) {
	while (schema.$ref) schema = { ...root.$defs[schema.$ref.split("/").pop()], ...schema, $ref: undefined };
	const ways = schema.anyOf?.filter((way) => way.type !== "null") ?? [];
	if (ways.length !== 1) return schema;
	const way = resolve(ways[0], root);
	return { ...way, ...schema, anyOf: undefined, ...(way.type === "boolean" && { type: undefined, enum: [true, false] }) };
}

const DATES = { date: "date", "date-time": "datetime-local", time: "time" };

function control(schema) {
	if (schema.enum) {
		const node = h("select", h("option", { value: "" }, "–"), schema.enum.map((value, i) => h("option", { value: i }, String(value))));
		return { node, put: (value) => (node.value = schema.enum.indexOf(value)), read: () => schema.enum[node.value || -1] };
	}
	if (schema.type === "boolean") {
		const node = h("input", { type: "checkbox" });
		return { node, put: (value) => (node.checked = value), read: () => node.checked };
	}
	if (!["integer", "number", "string"].includes(schema.type)) {
		const node = h("textarea.json", { rows: 2, spellcheck: "false" });
		return { node, put: (value) => (node.value = exact.stringify(value)), read: () => parsed(node.value.trim()) };
	}
	const numeric = schema.type !== "string";
	const type = DATES[schema.format] ?? "text";
	const node = h("input", { type, inputmode: numeric && "decimal", step: schema.format === "date" ? null : "1", autocomplete: "off", spellcheck: "false" });
	const put = (value) => (node.value = value);
	if (numeric) return { node, put, read: () => numberOf(node.value.trim(), schema.type === "integer") };
	if (type === "text") return { node, put, read: () => node.value };
	return { node, put, read: () => (type === "datetime-local" && node.value ? new Date(node.value).toISOString() : node.value || undefined) };
}

function numberOf(text, whole) {
	if (!text) return undefined;
	const value = Number(text);
	if (whole && /^[+-]?\d+$/.test(text) && !Number.isSafeInteger(value)) {
		const long = BigInt(text.replace("+", ""));
		if (BigInt.asIntN(64, long) === long) return long;
		throw new FieldError("This does not fit in the 64 bits of a whole number.");
	}
	if (!Number.isFinite(value) || (whole && !Number.isSafeInteger(value))) throw new FieldError(`${text} is not a ${whole ? "whole " : ""}number.`);
	return value;
}

function parsed(text) {
	try {
		return text ? exact.parse(text) : undefined;
	} catch (error) {
		throw new FieldError(`This is not JSON: ${error.message}`);
	}
}

const TYPES = { array: "JSON list", object: "JSON object", integer: "whole number", number: "number", string: "text", boolean: "yes or no" };

function hint({ enum: choices, format, type, minimum, maximum }, required) {
	const kind = choices ? "choice" : (format ?? TYPES[type] ?? "JSON");
	return [kind, minimum !== undefined && `≥ ${minimum}`, maximum !== undefined && `≤ ${maximum}`, !required && "optional"].filter(Boolean).join(", ");
}

class Field {
	constructor(name, schema, { required = false, label = name } = {}) {
		Object.assign(this, { name, schema, required, ...control(schema) });
		const id = `field-${label}`;
		dress(this.node, { id, "aria-describedby": `${id}-help ${id}-problem`, "aria-required": required && "true", oninput: () => this.complain("") });
		this.problem = h("p.problem", { id: `${id}-problem` });
		this.element = h(`.field.${schema.type === "boolean" ? "check" : "plainly"}`, h("label", { for: id }, label), h("small", { id: `${id}-help` }, hint(schema, required)), this.node,
			schema.description && h("small.help", schema.description), this.problem);
		if (schema.default != null) this.put(schema.default);
	}

	/** Undefined: nothing was given, or the default. */
	value() {
		const value = this.read();
		if (this.required && value === undefined) throw new FieldError("This is needed.");
		const left = !this.required && (exact.stringify(value) === exact.stringify(this.schema.default) || (value === "" && this.schema.default == null));
		return left ? undefined : value;
	}

	complain(text) {
		say(this.problem, text);
		set(this.node, "aria-invalid", text ? "true" : null);
	}
}

const OPTIONS = {
	priority: ["Priority", { enum: LANES }],
	delay_s: ["Delay", { type: "number", minimum: 0, description: "Seconds before it may start." }],
	max_attempts: ["Attempts", { type: "integer", minimum: 1 }],
	timeout_s: ["Time limit", { type: "number", description: "Seconds that one attempt may run." }],
	idempotency_key: ["Idempotency key", { type: "string", description: "The same key with the same payload gives the first job again." }],
	tags: ["Tags", { type: "string", description: "Separated by commas." }],
};

class SubmitPanel {
	#arguments = [];
	#options = [];

	constructor(board) {
		this.board = board;
		this.title = h("h2", { id: "panel-title", tabindex: "-1" }, "Submit a job");
		this.task = h("select", { id: "submit-task", onchange: () => this.#choose() });
		this.about = h("p.about");
		this.fields = h(".fields");
		this.more = h(".fields");
		this.problem = h("p.problem", { role: "alert" });
		this.done = h("p", { role: "status" });
		this.submit = h("button.primary", { type: "submit" }, "Submit");
		this.element = h("form.submit", { novalidate: true, onsubmit: (e) => this.#send(e), onkeydown: (e) => e.key === "Enter" && e.ctrlKey && this.element.requestSubmit() },
			h("header", this.title), h(".field", h("label", { for: "submit-task" }, "Task"), this.task), this.about, this.fields,
			h("details", h("summary", "Options"), this.more), this.problem, h(".actions", this.submit, this.done));
		board.loadTasks().then(() => this.#offer(board.known.tasks));
	}

	#offer(tasks) {
		this.task.replaceChildren(...tasks.map((task) => h("option", { value: task.name }, task.name)));
		this.submit.disabled = !tasks.length;
		if (tasks.length) this.#choose();
		else say(this.about, "No task is known yet: workers publish theirs when they start.");
		if (this.task.getRootNode().activeElement === this.title) this.task.focus();
	}

	#choose() {
		const { schema, defaults, description } = this.board.known.tasks.find((task) => task.name === this.task.value);
		say(this.about, description);
		this.#arguments = Object.entries(schema.properties).map(([name, one]) => new Field(name, resolve(one, schema), { required: schema.required?.includes(name) }));
		this.#options = Object.entries(OPTIONS).map(([name, [label, one]]) => new Field(name, { ...one, default: defaults[name] }, { label }));
		this.fields.replaceChildren(...this.#arguments.map((field) => field.element));
		this.more.replaceChildren(...this.#options.map((field) => field.element));
	}

	/** Throws the first FieldError once all are shown. */
	#values(fields) {
		const values = {};
		let wrong = null;
		for (const field of fields) {
			try {
				field.complain("");
				const value = field.value();
				if (value !== undefined) values[field.name] = value;
			} catch (error) {
				field.complain(error.message);
				wrong ??= error;
			}
		}
		if (wrong) throw wrong;
		return values;
	}

	async #send(event) {
		event.preventDefault();
		say(this.problem, "");
		say(this.done, "");
		this.submit.disabled = true;
		try {
			const payload = this.#values(this.#arguments);
			const { tags, ...options } = this.#values(this.#options);
			if (tags) options.tags = tags.split(",").map((tag) => tag.trim()).filter(Boolean);
			const job = whole(await this.board.request("submit", { task: this.task.value, payload, ...options }));
			this.done.said = null;
			this.done.replaceChildren("Submitted ", button("link", short(job.id), () => this.board.openJob(job.id)));
			this.board.show(job);
		} catch (error) {
			if (!(error instanceof FieldError)) this.#refused(error);
		}
		this.submit.disabled = false;
		(this.element.querySelector("[aria-invalid]") ?? this.submit).focus();
	}

	#refused(error) {
		const rest = [];
		for (const { path = "$", detail = error.message } of error.errors?.length ? error.errors : [{}]) {
			const [, name, deeper] = /^\$\.([^.[]+)(.*)$/.exec(path) ?? [];
			const field = this.#arguments.find((one) => one.name === name);
			if (field) field.complain(deeper ? `${detail} (at ${path})` : detail);
			else rest.push(refusal(error, detail));
		}
		say(this.problem, rest.join(" "));
	}
}

const refusal = (error, detail = error.message) => (error.code === "forbidden" ? "This token may look, but not change anything." : detail);

// == The board

const PAINT_MS = 200;
const STATS_S = 5;
const NOTICE_MS = 5_000;
const STATES = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", unauthorised: "Signed out", saved: "Saved snapshot" };
class Board {
	known = new Known();
	state = { state: "connecting" };
	panel = null;
	scrolled = false;
	#lostAt = 0;
	#opener = null;
	#seconds = 0;
	#painted = 0;
	#painting = 0;
	#notice = 0;

	constructor(root, source) {
		Object.assign(this, { root, source });
		this.overview = new Overview(this.known);
		this.listings = [jobsView(this), new DeadLetters(this)];
		this.views = { Jobs: this.listings[0], "Dead letters": this.listings[1], Workers: new Workers(this.known), Capacity: capacity() };
		this.#build();
		this.overview.tick();
		this.open("Jobs");
		// Keys are not a notebook's shortcuts.
		this.element.addEventListener("keydown", (event) => this.#key(event));
		root.replaceChildren(this.element);
		this.unsubscribe = source.subscribe((message) => this.receive(message));
		this.clock = setInterval(() => this.#tick(), 1000);
	}

	close() {
		this.unsubscribe();
		this.observer.disconnect();
		[this.clock, this.#painting, this.#notice].forEach(clearTimeout);
		this.panel?.close?.();
		this.root.replaceChildren();
	}

	#build() {
		this.light = h("p.light", { role: "status" }, h("i"), h("span"));
		this.submit = button("primary", "Submit job", () => this.openForm(), { title: "n", "aria-keyshortcuts": "n" });
		this.banner = h(".banner", { role: "status", hidden: true }, h("strong"), h("span", { "aria-live": "off" }), button("plain", "Try now", () => this.source.retry()));
		const tabs = Object.keys(this.views).map((name) => button("tab", name, () => this.open(name)));
		this.tabs = h("nav.tabs", { "aria-label": "Views" }, tabs);
		this.view = h(".view");
		this.edge = h(".edge");
		this.scroller = h(".scroller", this.overview.element, this.edge, this.tabs, this.view);
		this.side = h("aside.side", { "aria-labelledby": "panel-title", hidden: true });
		this.main = h("main", this.scroller, this.side);
		this.toast = h(".toast", { role: "status" });
		this.element = h(".board", { tabindex: "-1" }, h("header.bar", h("h1", icon("mark"), "dtqkit"), this.light, this.submit), this.banner, this.main, this.#buildPrompt(), this.toast);
		// Whether it has left the view, without a layout.
		this.observer = new IntersectionObserver(([{ isIntersecting, boundingClientRect, rootBounds }]) => (this.scrolled = !isIntersecting && boundingClientRect.top < rootBounds.top), { root: this.scroller });
		this.observer.observe(this.edge);
	}

	#buildPrompt() {
		this.token = h("input", { type: "password", id: "token", autocomplete: "off", "aria-describedby": "token-help token-problem" });
		this.refused = h("p.problem", { id: "token-problem", role: "alert" });
		const signIn = (event) => {
			event.preventDefault();
			if (this.token.value.trim()) this.source.signIn(this.token.value.trim());
			this.token.value = "";
		};
		return (this.prompt = h("form.prompt", { hidden: true, onsubmit: signIn }, icon("mark"), h("h2", "Sign in to this queue"),
			h("p", { id: "token-help" }, "The server asks for its DTQ_TOKEN, or for DTQ_READ_TOKEN to look only. It is kept until this tab is closed."),
			h("label", { for: "token" }, "Token"), this.token, this.refused, h("button.primary", { type: "submit" }, "Sign in")));
	}

	request(operation, params) {
		return this.source.request(operation, params);
	}

	get live() {
		return this.state.state === "live";
	}

	get tab() {
		return this.tabs.querySelector("[aria-current]");
	}

	open(name) {
		this.current = this.views[name];
		for (const tab of this.tabs.children) {
			set(tab, "aria-current", tab.textContent === name ? "page" : null);
		}
		this.view.replaceChildren(this.current.element);
		this.current.update?.();
		if (this.live) this.current.load?.();
	}

	toTop() {
		if (this.scrolled) this.edge.scrollIntoView();
	}

	// -- what comes from the source

	receive(message) {
		if (message.type === "state") return this.#become(message);
		this.known.take(message);
		if (message.type === "snapshot") this.#restart(message.jobs.map(whole));
		else message.jobs?.forEach((event) => this.#hear(event));
		for (const progress of message.progress ?? []) [...this.listings, this.panel].forEach((part) => part?.report?.(progress));
		this.#paintSoon();
	}

	/** Events may have been lost. */
	#restart(jobs) {
		const [listing] = this.listings;
		if (listing.first && !Object.keys(listing.filters).length) jobs.forEach((job) => listing.table.put(job));
		this.listings.forEach((one) => (one.stale = true));
		this.panel?.load?.();
	}

	#hear(event) {
		if (this.known.news(event)) [...this.listings, this.panel].forEach((part) => part?.hear?.(event));
	}

	show(job) {
		this.listings.forEach((listing) => listing.show(job));
	}

	#become(message) {
		const was = this.state.state;
		this.state = message;
		const out = message.state === "unauthorised";
		if (was === "live") this.#lostAt = Date.now();
		if (this.live && was !== "live") {
			this.current.load?.();
			this.#ask();
		}
		this.prompt.hidden = !out;
		this.main.hidden = out;
		this.submit.hidden = out || message.state === "saved";
		if (out) {
			this.closePanel();
			say(this.refused, message.refused ? "The server does not know this token." : "");
			this.token.focus();
		}
		this.#reflect();
		this.#paintSoon();
	}

	#reflect() {
		const { state, retryAt = 0, at } = this.state;
		const { redis, mongodb } = this.known.health ?? {};
		const lone = this.known.workers.length && this.listings[0].unserved;
		const inS = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
		const lost = this.#lostAt ? `Connection lost at ${clock(this.#lostAt)}. This is what was known then.` : "The queue cannot be reached.";
		const [fact, next = ""] =
			state === "reconnecting" ? [lost, inS ? `Next try in ${inS} s.` : "Trying…"]
			: state === "saved" ? [`As it was${at ? ` on ${dayAndTime.format(at)}` : ""}.`, "Run the cell to go live."]
			: state !== "live" ? []
			: mongodb === "down" ? ["MongoDB is away.", "Jobs are refused until it is back."]
			: redis === "down" ? ["Redis is away.", "Jobs are accepted, and run when it is back."]
			: lone ? [`No live worker serves the task ${lone}.`, "Its jobs wait until one starts."] : [];
		set(this.light, "data-state", state);
		say(this.light.lastChild, STATES[state]);
		this.banner.hidden = !fact;
		set(this.banner, "data-state", state);
		say(this.banner.children[0], fact ?? "");
		say(this.banner.children[1], next);
		this.banner.lastChild.hidden = state !== "reconnecting";
	}

	// -- painting

	#paintSoon() {
		this.#painting ||= setTimeout(() => requestAnimationFrame(() => {
			this.#painting = 0;
			this.#painted = Date.now();
			this.overview.update();
			this.current.update?.();
		}), Math.max(0, this.#painted + PAINT_MS - Date.now()));
	}

	#tick() {
		this.known.sample(this.live);
		if (this.live || !this.#seconds) for (const part of [this.overview, this.current, this.panel]) part?.tick?.();
		if (this.live && this.#seconds % STATS_S === 0) this.#ask();
		this.#seconds += 1;
		this.#reflect();
	}

	async #ask() {
		const ask = (operation) => this.source.request(operation).catch(() => this.known[operation]);
		const [stats, health] = await Promise.all([ask("stats"), ask("health"), this.known.tasks.length || this.loadTasks()]);
		Object.assign(this.known, { stats, health, asked: Date.now() });
		this.#reflect();
		this.#paintSoon();
	}

	async loadTasks() {
		this.known.tasks = await this.source.request("tasks").catch(() => this.known.tasks);
		this.listings.forEach((listing) => listing.offer(this.known.tasks));
	}

	// -- what somebody does

	/** Undefined after a failure, which was shown. */
	async act(operation, params, fail = (message) => this.announce(message)) {
		try {
			return await this.source.request(operation, params);
		} catch (error) {
			return void fail(refusal(error));
		}
	}

	announce(text) {
		clearTimeout(this.#notice);
		this.toast.replaceChildren(h("span", text));
		this.#notice = setTimeout(() => this.toast.replaceChildren(), NOTICE_MS);
	}

	openJob(id) {
		this.#open(new JobPanel(this, id));
		this.listings.forEach((listing) => listing.table.mark(id));
	}

	openForm() {
		if (!this.submit.hidden) this.#open(new SubmitPanel(this));
	}

	#open(panel) {
		if (!this.panel) this.#opener = this.root.activeElement;
		this.panel?.close?.();
		this.panel = panel;
		const close = button("plain.icon-only.close", "×", () => this.closePanel(), { "aria-label": "Close", title: "Close (Esc)" });
		this.side.replaceChildren(close, panel.element);
		this.side.hidden = false;
		panel.title.focus({ preventScroll: true });
	}

	closePanel() {
		if (!this.panel) return;
		const { id } = this.panel;
		const { table } = this.current;
		this.panel.close?.();
		this.panel = null;
		this.side.hidden = true;
		this.side.replaceChildren();
		this.listings.forEach((listing) => listing.table.mark(null));
		if (table?.rows.has(id)) table.focus(id);
		else (this.#opener?.isConnected ? this.#opener : this.tab).focus();
	}

	#key(event) {
		event.stopPropagation();
		if (this.main.hidden) return;
		if (event.key === "Escape") return this.closePanel();
		if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
		const tab = this.tabs.children[Number(event.key) - 1];
		const act = { "/": () => this.current.text?.focus(), n: () => this.openForm() }[event.key] ?? (tab && (() => tab.click() ?? tab.focus()));
		if (!act) return;
		event.preventDefault();
		act();
	}
}

// == Where it lives

/** JupyterLab and VS Code say their theme on the body. */
function followTheme(el) {
	const { body } = document;
	const look = () => {
		set(el, "data-theme", { true: "light", false: "dark" }[body.dataset.jpThemeLight] ?? /vscode.*(light|dark)/.exec(body.className)?.[1]);
	};
	look();
	const observer = new MutationObserver(look);
	observer.observe(body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light"] });
	return () => observer.disconnect();
}

/** Returns what takes the board away. */
export function mount(el, source, { css = "" } = {}) {
	const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
	const sheet = new CSSStyleSheet();
	sheet.replaceSync(css);
	root.adoptedStyleSheets = [sheet];
	set(el, "data-lm-suppress-shortcuts", "true");
	const unfollow = followTheme(el);
	const board = new Board(root, source);
	return () => {
		unfollow();
		board.close();
	};
}

/** For anywidget. */
export default {
	render({ model, el }) {
		return mount(el.appendChild(document.createElement("div")), modelSource(model), { css: model.get("css") });
	},
};
