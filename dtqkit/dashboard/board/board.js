// @ts-check
/** @import { BoardApi, Panel, Source, View } from "./parts.ts" */
/** @import { Job, JobEvent, LinkState, Message, Snapshot } from "./types.ts" */
// The board: it takes what the source sends, hands it to the panels, and paints what has changed five times a second.
import { setText } from "./dom.js";
import { Frame } from "./frame.js";
import { JobPanel } from "./job_panel.js";
import { Known } from "./known.js";
import { LinkStatus } from "./link_status.js";
import { Overview } from "./overview.js";
import { whole } from "./records.js";
import { Side } from "./side.js";
import { refusal } from "./source.js";
import { SubmitPanel } from "./submit_panel.js";

const PAINT_MS = 200;
const STATS_S = 5;

/** @implements {BoardApi} */
export class Board {
  known = new Known();
  /** @type {LinkState} */
  link = { type: "state", state: "connecting" };
  /** @type {Map<string, Panel>} */
  #panels = new Map();
  /** The one under the open tab. @type {Panel | undefined} */
  #current;
  #lostAt = 0;
  #seconds = 0;
  #paintedAt = 0;
  /** A timer of the next paint. @type {number | undefined} */
  #painting;

  /** @param {ShadowRoot} root @param {Source} source @param {View[]} views */
  constructor(root, source, views) {
    this.root = root;
    this.source = source;
    this.overview = new Overview(this.known, () => this.open("Pauses"));
    this.status = new LinkStatus(() => source.retry());
    this.prompt = source.prompt?.();
    this.side = new Side(() => this.closePanel());
    this.frame = new Frame({
      names: views.map(({ name }) => name),
      onopen: (name) => this.open(name),
      onsubmit: () => this.openForm(),
      onclose: () => this.closePanel(),
      onfind: () => this.#current?.find?.(),
      light: this.status.light,
      banner: this.status.banner,
      overview: this.overview.element,
      side: this.side.element,
      prompt: this.prompt?.element,
    });
    for (const { name, make } of views) this.#panels.set(name, make(this));
    this.overview.tick();
    this.open(views[0].name);
    root.replaceChildren(this.frame.element);
    this.unsubscribe = source.subscribe((message) => this.receive(message));
    this.clock = setInterval(() => this.#tick(), 1000);
  }

  close() {
    this.unsubscribe();
    this.frame.close();
    clearInterval(this.clock);
    clearTimeout(this.#painting);
    this.side.panel?.close?.();
    this.root.replaceChildren();
  }

  get live() {
    return this.link.state === "live";
  }

  get scrolled() {
    return this.frame.scrolled;
  }

  toTop() {
    this.frame.toTop();
  }

  /** @param {string} text */
  announce(text) {
    this.frame.announce(text);
  }

  /** @param {string} name */
  open(name) {
    const panel = this.#panels.get(name);
    if (!panel) return;
    this.#current = panel;
    this.frame.show(name, panel.element);
    panel.update?.();
    if (this.live) panel.load?.();
  }

  // -- what comes from the source

  /** @param {Message} message */
  receive(message) {
    if (message.type === "state") {
      this.#become(message);
      return;
    }
    this.known.take(message);
    if (message.type === "snapshot") this.#restart(message);
    else for (const event of message.jobs ?? []) this.#hear(event);
    for (const news of message.progress ?? []) {
      for (const part of this.#listeners()) part.report?.(news);
    }
    this.#paintSoon();
  }

  /** The panels, and what is open on the right. */
  #listeners() {
    const panels = [...this.#panels.values()];
    return this.side.panel ? [...panels, this.side.panel] : panels;
  }

  /** Events may have been lost. @param {Snapshot} snapshot */
  #restart(snapshot) {
    const jobs = snapshot.jobs.map(whole);
    for (const panel of this.#panels.values()) panel.restart?.(jobs);
    this.side.panel?.load?.();
  }

  /** @param {JobEvent} event */
  #hear(event) {
    if (!this.known.news(event)) return;
    for (const part of this.#listeners()) part.hear?.(event);
  }

  /** @param {LinkState} link */
  #become(link) {
    const was = this.link.state;
    const signedOut = link.state === "unauthorised";
    this.link = link;
    if (was === "live") this.#lostAt = Date.now();
    if (this.live && was !== "live") {
      this.#current?.load?.();
      this.#ask();
    }
    this.frame.main.hidden = signedOut;
    this.frame.submit.hidden = signedOut || link.state === "saved";
    if (this.prompt) this.prompt.element.hidden = !signedOut;
    if (signedOut) {
      this.closePanel();
      this.prompt?.ask(Boolean(link.refused));
    }
    this.#showStatus();
    this.#paintSoon();
  }

  #showStatus() {
    const { workers, health } = this.known;
    const panels = workers.length ? [...this.#panels.values()] : [];
    const unserved = panels.map((panel) => panel.unserved).find(Boolean);
    this.status.show({ link: this.link, health, unserved, lostAt: this.#lostAt });
  }

  // -- painting

  #paintSoon() {
    const pause = Math.max(0, this.#paintedAt + PAINT_MS - Date.now());
    this.#painting ??= setTimeout(() => requestAnimationFrame(() => this.#paint()), pause);
  }

  #paint() {
    this.#painting = undefined;
    this.#paintedAt = Date.now();
    this.overview.update();
    this.#current?.update?.();
  }

  #tick() {
    this.known.sample(this.live);
    if (this.live || !this.#seconds) {
      for (const part of [this.overview, this.#current, this.side.panel]) part?.tick?.();
    }
    // A server whose stores are away sends no snapshot, but answers what is wrong.
    const asks = this.live || (this.link.state === "connecting" && this.#seconds > 0);
    if (asks && this.#seconds % STATS_S === 0) this.#ask();
    this.#seconds += 1;
    this.#showStatus();
  }

  async #ask() {
    const { known, source } = this;
    const [stats, health, pauses] = await Promise.all([
      source.request("stats").catch(() => known.stats),
      source.request("health").catch(() => known.health),
      source.request("pauses", { counted: false }).catch(() => known.pauses),
      known.tasks.length || this.loadTasks(),
    ]);
    Object.assign(known, { stats, health, pauses, statsAt: Date.now() });
    this.#showStatus();
    this.#paintSoon();
  }

  async loadTasks() {
    this.known.tasks = await this.source.request("tasks").catch(() => this.known.tasks);
    for (const panel of this.#panels.values()) panel.offer?.(this.known.tasks);
  }

  // -- what somebody does

  /** @type {BoardApi["request"]} */
  request(operation, params) {
    return this.source.request(operation, params);
  }

  /** @type {BoardApi["act"]} */
  async act(operation, params, problem) {
    if (problem) setText(problem, "");
    try {
      return await this.source.request(operation, params);
    } catch (error) {
      const message = refusal(/** @type {Error} */ (error));
      if (problem) setText(problem, message);
      else this.announce(message);
      return undefined;
    }
  }

  /** @param {Job} job */
  show(job) {
    for (const panel of this.#panels.values()) panel.show?.(job);
  }

  /** @param {string} id */
  openJob(id) {
    this.side.open(new JobPanel(this, id));
    this.#mark(id);
  }

  openForm() {
    if (!this.frame.submit.hidden) this.side.open(new SubmitPanel(this));
  }

  /** @param {string | null} id */
  #mark(id) {
    for (const panel of this.#panels.values()) panel.mark?.(id);
  }

  closePanel() {
    const { panel } = this.side;
    if (!panel) return;
    const opener = this.side.close();
    this.#mark(null);
    if (this.#current?.focusJob?.(panel.id)) return;
    (opener ?? this.frame.tab)?.focus();
  }
}
