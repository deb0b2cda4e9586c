// The page around the board: a queue behind HTTP and a WebSocket, and the token that it wants.
import { exact, mount, refused } from "./board.js";

/** Those operations of dtqkit/control.py that a board asks for. */
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

const BACKOFF_MS = [500, 15_000];
const SETTLED_MS = 10_000;
const REQUEST_MS = 15_000;
/** Two beats of the server that did not come (dtqkit/messages.py): the path to it is dead, whatever the socket says. */
const SILENT_MS = 12_000;

/**
 * A queue behind HTTP and a WebSocket. Messages to a subscriber: those of the server, and {type: "state", state:
 * "connecting" | "live" | "reconnecting" | "unauthorised", retryAt, refused}. The token is kept for the tab only.
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
	let heardAt = 0;
	let watch = 0;

	const tell = (message) => listeners.forEach((listener) => listener(message));
	const become = (name, more) => tell((state = { type: "state", state: name, ...more }));

	function connect() {
		clearTimeout(timer);
		if (socket) return;
		const opened = (socket = new WebSocket(socketUrl));
		let liveAt = 0;
		heardAt = Date.now();
		opened.onopen = () => opened.send(JSON.stringify({ type: "hello", token: secret }));
		opened.onmessage = ({ data }) => {
			if (socket !== opened) return;
			heardAt = Date.now();
			const message = exact.parse(data);
			if (message.type === "beat") return;
			if (message.type === "snapshot" && !liveAt) {
				liveAt = Date.now();
				remember(memory, secret);
				become("live");
			}
			tell(message);
		};
		opened.onclose = ({ code }) => {
			if (socket !== opened) return; // dropped: a socket over a dead path may take minutes to close
			socket = null;
			if (code === 4401) return unauthorised();
			// A server that lets us in and throws us out again is not well either: only a lasting success counts.
			if (liveAt && Date.now() - liveAt > SETTLED_MS) failures = 0;
			const [least, most] = BACKOFF_MS;
			const pause = Math.max(least, Math.min(most, least * 2 ** failures++) * (0.75 + Math.random() / 4));
			timer = setTimeout(connect, pause);
			become("reconnecting", { retryAt: Date.now() + pause });
		};
	}

	/** What has failed without a word of the socket's own. */
	function drop() {
		const dead = socket;
		if (!dead) return;
		dead.onclose({ code: 1006 });
		dead.close();
	}

	const onOffline = () => drop();
	const onOnline = () => (socket ? look() : state.state === "reconnecting" && connect());
	const onVisible = () => document.visibilityState === "visible" && onOnline();
	/** Also when a sleeping machine wakes up, and when a tab that was frozen is shown again. */
	function look() {
		if (socket && Date.now() - heardAt > SILENT_MS) drop();
	}

	function listen() {
		clearInterval(watch);
		watch = setInterval(look, 1000);
		addEventListener("offline", onOffline);
		addEventListener("online", onOnline);
		document.addEventListener("visibilitychange", onVisible);
	}

	function unlisten() {
		clearInterval(watch);
		removeEventListener("offline", onOffline);
		removeEventListener("online", onOnline);
		document.removeEventListener("visibilitychange", onVisible);
	}

	function disconnect() {
		clearTimeout(timer);
		const open = socket;
		socket = null;
		open?.close();
	}

	function unauthorised() {
		const refused = secret !== "";
		disconnect();
		remember(memory, (secret = ""));
		become("unauthorised", { refused });
	}

	async function request(operation, { id = "", ...rest } = {}) {
		const [method, path] = ROUTES[operation];
		const url = new URL(path.slice(1).replace("{id}", encodeURIComponent(id)), base);
		const sent = secret;
		const init = { method, headers: secret ? { Authorization: `Bearer ${secret}` } : {}, signal: AbortSignal.timeout(REQUEST_MS) };
		if (method === "POST") {
			init.headers["Content-Type"] = "application/json";
			init.body = exact.stringify(rest);
		} else for (const [name, value] of Object.entries(rest)) url.searchParams.set(name, value);
		let answer;
		try {
			answer = await fetch(url, init);
		} catch (error) {
			throw refused({ detail: `The server ${error.name === "TimeoutError" ? "does not answer" : "cannot be reached"}.` });
		}
		const body = await answer.text().then(exact.parse).catch(() => ({}));
		if (answer.status === 401 && sent === secret) unauthorised(); // and not again for what was sent before
		// /health answers 503 with its record when a store is away: that is its answer, not a failure.
		if (!answer.ok && operation !== "health") throw refused({ title: answer.statusText, ...body });
		return body;
	}

	return {
		request,
		subscribe(listener) {
			listeners.add(listener);
			listener(state);
			listen();
			connect();
			return () => {
				listeners.delete(listener);
				if (listeners.size) return;
				unlisten();
				disconnect();
			};
		},
		retry: connect,
		signIn(given) {
			secret = given;
			failures = 0;
			disconnect();
			become("connecting");
			connect();
		},
	};
}

// A tab may be forbidden to remember anything; then the token is asked for again.
function recall(key) {
	try { return sessionStorage.getItem(key); } catch { return null; }
}
function remember(key, value) {
	try { sessionStorage.setItem(key, value); } catch { /* as above */ }
}

/** The page: takes a token from the address (#token=…) and out of it, and the styles from the page's own sheet. */
export function mountPage({ apiBase, wsUrl }) {
	const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? undefined;
	if (token) history.replaceState(null, "", location.pathname + location.search);
	const { cssRules } = document.querySelector("link[rel=stylesheet]").sheet;
	const el = document.getElementById("board");
	mount(el, webSource({ apiBase, wsUrl, token }), { css: Array.from(cssRules, (rule) => rule.cssText).join("\n") });
	el.shadowRoot.firstElementChild.focus();
}
