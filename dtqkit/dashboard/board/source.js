// @ts-check
/** @import { Source, WidgetModel } from "./parts.ts" */
/** @import { Message, LinkState, LinkName, Problem } from "./types.ts" */
// The source of a notebook's board: anywidget's model, with the kernel at its other end.
import { copied, revive } from "./exact.js";

const ANSWER_MS = 5_000;
const WATCH_MS = 2 * ANSWER_MS;

/** An answer that is an error, as one that can be thrown. @param {Problem} problem */
export function refused({ code, detail, title, errors }) {
  return Object.assign(new Error(detail || title || code), { code, errors });
}

/** What is said of an error of the queue. @param {Problem & Error} error @param {string} [detail] */
export function refusal(error, detail = error.message) {
  return error.code === "forbidden" ? "This token may look, but not change anything." : detail;
}

/**
 * {id, op, params} go to the kernel; {id, result | error}, {snapshot} and {events} come back. The snapshot of a saved
 * notebook is shown when no kernel answers.
 *
 * @param {WidgetModel} model
 * @returns {Source}
 */
export function modelSource(model) {
  /** @type {Map<string, { resolve: (result: any) => void, reject: (error: Error) => void, timer: number }>} */
  const asked = new Map();
  /** @type {(message: Message) => void} */
  let listener = () => {};
  /** @type {LinkName} */
  let state = "connecting";
  // Each view of a widget gets the answers to all views: ids must differ between them.
  let lastId = Math.random();
  let heardAt = 0;

  /** @param {LinkName} next @param {Partial<LinkState>} [more] */
  function become(next, more) {
    if (state === next) return;
    state = next;
    listener({ type: "state", state, ...more });
  }

  function lost() {
    const saved = state === "connecting" && copied(model.get("snapshot"), revive);
    if (saved?.jobs) {
      listener({ type: "snapshot", ...saved });
      become("saved", { at: Date.parse(saved.at) });
    } else if (state !== "saved") {
      become("reconnecting");
    }
  }

  /** @param {any} message */
  function hear(message) {
    const { id, result, error, snapshot, events } = copied(message, revive);
    heardAt = Date.now();
    become("live");
    if (snapshot) listener({ type: "snapshot", ...snapshot });
    if (events) listener({ type: "events", ...events });
    const question = asked.get(id);
    if (!question) return;
    asked.delete(id);
    clearInterval(question.timer);
    if (error) question.reject(refused(error));
    else question.resolve(result);
  }

  /** @type {Source["request"]} */
  function request(op, params = {}) {
    lastId += 1;
    const id = `${lastId}`;
    return new Promise((resolve, reject) => {
      function check() {
        // While a cell blocks the answer, the widget's own thread still sends events: the kernel is running.
        if (Date.now() - heardAt < ANSWER_MS) return;
        clearInterval(timer);
        asked.delete(id);
        lost();
        reject(refused({ detail: "The kernel does not answer." }));
      }
      const timer = setInterval(check, ANSWER_MS);
      asked.set(id, { resolve, reject, timer });
      model.send({ id, op, params: copied(params) });
    });
  }

  async function begin() {
    try {
      const snapshot = await request("snapshot");
      if (snapshot) listener({ type: "snapshot", ...snapshot });
    } catch {
      // `lost` has said so already.
    }
  }

  return {
    request,
    subscribe(given) {
      listener = given;
      model.on("msg:custom", hear);
      const watch = setInterval(() => {
        if (state !== "live") begin();
      }, WATCH_MS);
      begin();
      return () => {
        clearInterval(watch);
        model.off("msg:custom", hear);
      };
    },
    retry: begin,
  };
}
