// @ts-check
/** @import { Source } from "./parts.ts" */
/** @import { LinkName, LinkState, Message } from "./types.ts" */
// The source of a page's board: a queue behind HTTP and a WebSocket. A notebook does not carry this module.
import { exact } from "./exact.js";
import { memory } from "./memory.js";
import { locate } from "./routes.js";
import { SignIn } from "./sign_in.js";
import { refused } from "./source.js";

const BACKOFF_LEAST_MS = 500;
const BACKOFF_MOST_MS = 15_000;
const SETTLED_MS = 10_000;
const REQUEST_MS = 15_000;
/** Two beats of the server (dtqkit/model/messages.py) are missing: the connection is dead, whatever its socket says. */
const SILENT_MS = 12_000;
const LOOK_MS = 1_000;
/** The server's code for a token that it refuses. */
const UNAUTHORISED = 4401;
const ABNORMAL = 1006;

/**
 * Of the messages to a subscriber, all but the states are the server's own. The token is kept for the tab only.
 *
 * @param {{ apiBase?: string, wsUrl?: string, token?: string }} where
 * @returns {Required<Source>}
 */
export function webSource({ apiBase = "", wsUrl = "", token } = {}) {
  const base = new URL(apiBase ? apiBase.replace(/\/*$/, "/") : "./", document.baseURI);
  const socketUrl = new URL(wsUrl || "ws", base);
  socketUrl.protocol = socketUrl.protocol.replace("http", "ws");
  const kept = memory(() => sessionStorage, `dtqkit.token ${base.href}`);
  /** @type {Set<(message: Message) => void>} */
  const listeners = new Set();
  let secret = token ?? kept.recall();
  /** @type {LinkState} */
  let link = { type: "state", state: "connecting" };
  /** @type {WebSocket | null} */
  let socket = null;
  /** @type {number | undefined} */
  let reconnect;
  /** @type {number | undefined} */
  let watch;
  let failures = 0;
  let heardAt = 0;
  /** When this connection's first snapshot came; 0: not yet. */
  let liveAt = 0;

  /** @param {Message} message */
  function emit(message) {
    for (const listener of listeners) listener(message);
  }

  /** @param {LinkName} state @param {Partial<LinkState>} [more] */
  function become(state, more) {
    link = { type: "state", state, ...more };
    emit(link);
  }

  // -- the connection

  function connect() {
    clearTimeout(reconnect);
    if (socket) return;
    const opened = new WebSocket(socketUrl);
    socket = opened;
    liveAt = 0;
    heardAt = Date.now();
    opened.onopen = () => opened.send(JSON.stringify({ type: "hello", token: secret }));
    opened.onmessage = ({ data }) => {
      if (socket === opened) hear(exact.parse(data));
    };
    opened.onclose = ({ code }) => {
      // Another one: this was dropped, since a socket over a dead path may take minutes to close.
      if (socket === opened) closed(code);
    };
  }

  /** @param {Message | { type: "beat" }} message */
  function hear(message) {
    heardAt = Date.now();
    if (message.type === "beat") return;
    if (message.type === "snapshot" && !liveAt) {
      liveAt = Date.now();
      kept.remember(secret);
      become("live");
    }
    emit(message);
  }

  /** @param {number} code */
  function closed(code) {
    socket = null;
    if (code === UNAUTHORISED) {
      signOut();
      return;
    }
    // A server that accepts and then closes connections is not well either: only a lasting connection counts.
    if (liveAt && Date.now() - liveAt > SETTLED_MS) failures = 0;
    const jitter = 0.75 + Math.random() / 4;
    const pause = Math.max(BACKOFF_LEAST_MS, Math.min(BACKOFF_MOST_MS, BACKOFF_LEAST_MS * 2 ** failures) * jitter);
    failures += 1;
    reconnect = setTimeout(connect, pause);
    become("reconnecting", { retryAt: Date.now() + pause });
  }

  /** Of a connection that has failed, though its socket does not know it. */
  function drop() {
    const dead = socket;
    if (!dead) return;
    closed(ABNORMAL);
    dead.close();
  }

  function disconnect() {
    clearTimeout(reconnect);
    const open = socket;
    socket = null;
    open?.close();
  }

  // -- what the browser knows of the network

  /** Also when a sleeping machine wakes up, and when a tab that was frozen is shown again. */
  function look() {
    if (socket && Date.now() - heardAt > SILENT_MS) drop();
  }

  function online() {
    if (socket) look();
    else if (link.state === "reconnecting") connect();
  }

  function visible() {
    if (document.visibilityState === "visible") online();
  }

  function listen() {
    clearInterval(watch);
    watch = setInterval(look, LOOK_MS);
    addEventListener("offline", drop);
    addEventListener("online", online);
    document.addEventListener("visibilitychange", visible);
  }

  function unlisten() {
    clearInterval(watch);
    removeEventListener("offline", drop);
    removeEventListener("online", online);
    document.removeEventListener("visibilitychange", visible);
  }

  // -- access

  function signOut() {
    const given = secret !== "";
    disconnect();
    secret = "";
    kept.remember(secret);
    become("unauthorised", { refused: given });
  }

  /** @param {string} given */
  function signIn(given) {
    secret = given;
    failures = 0;
    disconnect();
    become("connecting");
    connect();
  }

  /** @type {Source["request"]} */
  async function request(operation, params = {}) {
    const { method, url, body } = locate(operation, params, base);
    const sent = secret;
    /** @type {Record<string, string>} */
    const headers = sent ? { Authorization: `Bearer ${sent}` } : {};
    if (body) headers["Content-Type"] = "application/json";
    const answer = await ask(url, { method, headers, body: body && exact.stringify(body) });
    const content = await answer
      .text()
      .then(exact.parse)
      .catch(() => ({}));
    // Only for the token of now: an answer to the one before may come late.
    if (answer.status === 401 && sent === secret) signOut();
    // /health answers 503 with its record when a store is away: that is its answer, not a failure.
    if (!answer.ok && operation !== "health") throw refused({ title: answer.statusText, ...content });
    return content;
  }

  return {
    request,
    subscribe(listener) {
      listeners.add(listener);
      listener(link);
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
    prompt: () => new SignIn(signIn),
  };
}

/** @param {URL} url @param {RequestInit} init */
async function ask(url, init) {
  try {
    return await fetch(url, { ...init, signal: AbortSignal.timeout(REQUEST_MS) });
  } catch (error) {
    const late = /** @type {Error} */ (error).name === "TimeoutError";
    throw refused({ detail: `The server ${late ? "does not answer" : "cannot be reached"}.` });
  }
}
