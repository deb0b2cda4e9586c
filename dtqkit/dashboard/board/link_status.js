// @ts-check
/** @import { Health, LinkState } from "./types.ts" */
// How the queue is reached: the light in the bar, and the banner below it when something is wrong.
import { button, h, set, setText } from "./dom.js";
import { clock, date } from "./format.js";

const STATES = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  unauthorised: "Signed out",
  saved: "Saved snapshot",
};

/**
 * @typedef {object} Facts
 * @property {LinkState} link
 * @property {Health | null} health
 * @property {string | undefined} unserved a task that jobs wait for and that no worker serves
 * @property {number} lostAt when the connection was lost, in ms; 0: never
 */

/** What the banner says, and what happens next. Nothing: all is well. @param {Facts} facts @returns {string[]} */
export function bannerOf({ link, health, unserved, lostAt }) {
  if (link.state === "reconnecting") {
    const lost = lostAt
      ? `Connection lost at ${clock(lostAt)}. This is what was known then.`
      : "The queue cannot be reached.";
    const inS = Math.max(0, Math.ceil(((link.retryAt ?? 0) - Date.now()) / 1000));
    return [lost, inS ? `Next try in ${inS} s.` : "Trying…"];
  }
  if (link.state === "saved") {
    return [`As it was${link.at ? ` on ${date(link.at)}` : ""}.`, "Run the cell to go live."];
  }
  if (link.state === "unauthorised") return [];
  if (health?.mongodb === "down") return ["MongoDB is away.", "Jobs are refused until it is back."];
  if (health?.redis === "down") return ["Redis is away.", "Jobs are accepted, and run when it is back."];
  if (!unserved || link.state !== "live") return [];
  return [`No live worker serves the task ${unserved}.`, "Its jobs wait until one starts."];
}

export class LinkStatus {
  #word = h("span");
  #fact = h("strong");
  #next = h("span", { "aria-live": "off" });
  light = h("p.light", { role: "status" }, h("i"), this.#word);

  /** @param {() => void} retry */
  constructor(retry) {
    this.retry = button("plain", "Try now", retry);
    this.banner = h(".banner", { role: "status", hidden: true }, this.#fact, this.#next, this.retry);
  }

  /** @param {Facts} facts */
  show(facts) {
    const { state } = facts.link;
    const [fact = "", next = ""] = bannerOf(facts);
    set(this.light, "data-state", state);
    setText(this.#word, STATES[state]);
    this.banner.hidden = !fact;
    set(this.banner, "data-state", state);
    setText(this.#fact, fact);
    setText(this.#next, next);
    this.retry.hidden = state !== "reconnecting";
  }
}
