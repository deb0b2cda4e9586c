// @ts-check
/** @import { Child } from "./parts.ts" */
/** @import { Lane, Worker } from "./types.ts" */
/** @import { Known } from "./known.js" */
// The first row: figures of the queue now, and charts of its last quarter of an hour.
import { Chart, WaitsChart, means, sparkline } from "./charts.js";
import { fill, h, icon, set, setText } from "./dom.js";
import { capital, count, duration, rate } from "./format.js";
import { LANES } from "./records.js";

/** A heartbeat that is older is late. */
export const LATE_S = 9;
const BEATS_SHOWN = 3;
const SPARK_S = 360;

/** @param {Worker[]} workers @param {"load" | "concurrency"} name */
const sum = (workers, name) => workers.reduce((total, worker) => total + worker[name], 0);

export class Overview {
  /** @type {Record<string, { value: HTMLElement, foot: HTMLElement }>} */
  #figures = {};
  #sparks = LANES.map(sparkline);
  #beats = h("ul.beats");
  #waits = new WaitsChart();
  #lanesChart;
  #endsChart;

  /** @param {Known} known */
  constructor(known) {
    this.known = known;
    this.#lanesChart = new Chart(
      "Waiting by lane",
      LANES,
      (lane) => known.series(lane),
      "each minute, now each second",
    );
    this.#endsChart = new Chart(
      "Finished",
      /** @type {const} */ (["completed", "failed"]).slice(),
      (kind) => means(known.series(kind)),
      "counted each minute, then from events",
      (perS) => `${rate(perS)}/s`,
    );
    const lanes = LANES.map((lane, i) => this.#cell(lane, [icon(lane), capital(lane)], this.#sparks[i].element));
    this.element = h(
      ".overview",
      h(
        "dl.figures",
        { "aria-label": "The queue now" },
        lanes,
        this.#cell("throughput", "Throughput"),
        this.#cell("failures", "Failures"),
        this.#cell("oldest", "Oldest wait"),
        this.#cell("workers", "Workers", this.#beats),
      ),
      h(
        ".charts",
        { tabindex: "0", role: "group", "aria-label": "Charts" },
        this.#lanesChart.element,
        this.#endsChart.element,
        this.#waits.element,
      ),
    );
  }

  /** @param {string} name @param {Child} label @param {Element} [extra] */
  #cell(name, label, extra) {
    const value = h("dd.value");
    const foot = h("dd.foot");
    this.#figures[name] = { value, foot };
    return h(`.cell.${name}`, h("dt", label), value, extra && h("dd.extra", extra), foot);
  }

  /**
   * @param {string} name
   * @param {string} text
   * @param {string} below
   * @param {{ bad?: boolean, title?: string }} [more]
   */
  #show(name, text, below, { bad, title } = {}) {
    const { value, foot } = this.#figures[name];
    setText(value, text);
    set(value, "data-bad", bad);
    setText(foot, below);
    set(foot, "title", title);
  }

  update() {
    const { depths } = this.known;
    if (!depths) {
      for (const name of Object.keys(this.#figures)) this.#show(name, "–", "");
      return;
    }
    for (const lane of LANES) this.#showLane(lane, depths[lane]);
    this.#showEnds();
    const oldest = depths.oldest_wait_s === null ? "none" : duration(depths.oldest_wait_s);
    this.#show("oldest", oldest, `${count(depths.running)} running, ${count(depths.scheduled)} scheduled`);
    const { workers } = this.known;
    const busy = `${sum(workers, "load")} of ${sum(workers, "concurrency")} busy`;
    this.#show("workers", count(workers.length), workers.length ? busy : "nothing will run", { bad: !workers.length });
    this.#showBeats();
  }

  /** @param {Lane} lane @param {number} depth */
  #showLane(lane, depth) {
    const forecast = this.known.stats?.forecast.find((one) => one.lane === lane);
    const range = forecast?.low_s != null ? `${duration(forecast.low_s)} to ${duration(forecast.high_s)}` : "";
    const drain = forecast?.drain_s;
    let foot = `est. clear in ${duration(drain)} (${range})`;
    if (!depth) foot = "empty";
    else if (drain === undefined) foot = "waiting";
    else if (drain === null) foot = "not draining";
    this.#show(lane, count(depth), foot, range ? { title: `90 % in ${range}` } : {});
  }

  #showEnds() {
    const { stats } = this.known;
    if (!stats) {
      this.#show("throughput", "–", "");
      this.#show("failures", "–", "none have ended");
      return;
    }
    const { completed, failed } = stats;
    const ended = completed + failed;
    const share = ended ? `${((100 * failed) / ended).toFixed(1)} % of ${count(ended)} ended` : "none have ended";
    this.#show("throughput", `${rate(stats.throughput_per_s)}/s`, `${count(completed)} in ${duration(stats.window_s)}`);
    this.#show("failures", count(failed), share, { bad: failed > 0 });
  }

  #showBeats() {
    const shown = this.known.workers.slice(0, BEATS_SHOWN);
    fill(
      this.#beats,
      shown,
      () => h("li", h("span"), h("b")),
      (row, worker) => {
        const age = this.known.beatAge(worker);
        setText(row.firstChild, worker.name);
        setText(row.lastChild, duration(age));
        set(row, "data-late", age > LATE_S);
        set(row, "title", `${worker.name}: last beat ${duration(age)} ago`);
      },
    );
  }

  tick() {
    LANES.forEach((lane, i) => this.#sparks[i].draw(this.known.series(lane).slice(-SPARK_S)));
    this.#lanesChart.draw();
    this.#endsChart.draw();
    this.#waits.draw(this.known.stats);
    this.#showBeats();
  }
}
