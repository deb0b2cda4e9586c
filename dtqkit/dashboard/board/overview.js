// @ts-check
/** @import { Child } from "./parts.ts" */
/** @import { Lane, Worker } from "./types.ts" */
/** @import { Known } from "./known.js" */
// The first row: figures of the queue now, and charts of its last quarter of an hour.
import { Chart, WaitsChart, means, sparkline } from "./charts.js";
import { h, icon, set, setText } from "./dom.js";
import { capital, count, duration, figure, moment, rate } from "./format.js";
import { PausedMark } from "./paused_mark.js";
import { LANES } from "./records.js";

/** A heartbeat that is older is late. */
export const LATE_S = 9;
const SPARK_S = 360;

/** @param {Worker[]} workers @param {"load" | "concurrency"} name */
const sum = (workers, name) => workers.reduce((total, worker) => total + worker[name], 0);

export class Overview {
  /** @type {Record<string, { value: HTMLElement, foot: HTMLElement }>} */
  #figures = {};
  #sparks = LANES.map(sparkline);
  #beats = h("span");
  /** @type {Record<string, PausedMark>} */
  #marks = {};
  #waits = new WaitsChart();
  #lanesChart;
  #endsChart;

  /** @param {Known} known @param {() => void} openPauses */
  constructor(known, openPauses) {
    this.known = known;
    this.openPauses = openPauses;
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
    this.#marks[name] = new PausedMark(name, this.openPauses);
    const head = h("dt", h("span", label), this.#marks[name].element);
    return h(`.cell.${name}`, head, value, extra && h("dd.extra", extra), foot);
  }

  /**
   * @param {string} name
   * @param {string | number} shown
   * @param {string} below
   * @param {{ bad?: boolean, title?: string }} [more]
   */
  #show(name, shown, below, { bad, title } = {}) {
    const { value, foot } = this.#figures[name];
    const [text, exact] = typeof shown === "string" ? [shown] : [figure(shown), count(shown)];
    setText(value, text);
    set(value, "title", exact !== text && exact);
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
    const busy = `${count(sum(workers, "load"))} of ${count(sum(workers, "concurrency"))} busy`;
    this.#show("workers", workers.length, workers.length ? busy : "nothing will run", { bad: !workers.length });
    this.#showBeats();
    this.#showPauses();
  }

  /** At the lanes; those of tasks at the oldest wait, which they prolong; where no lane is left, at the throughput. */
  #showPauses() {
    const { pauses } = this.known;
    const lanes = LANES.flatMap((lane) => this.known.pauseOfLane(lane) ?? []);
    for (const lane of LANES) this.#marks[lane].show(`Lane ${lane}`, lanes.filter((pause) => pause.lane === lane));
    this.#marks.oldest.show("Tasks", pauses.filter(({ task }) => task));
    this.#marks.throughput.show("Everything", lanes.length === LANES.length ? lanes : []);
  }

  /** @param {Lane} lane @param {number} depth */
  #showLane(lane, depth) {
    const forecast = this.known.stats?.forecast.find((one) => one.lane === lane);
    const range = forecast?.low_s != null ? `${duration(forecast.low_s)} to ${duration(forecast.high_s)}` : "";
    const drain = forecast?.drain_s;
    const pause = this.known.pauseOfLane(lane);
    let foot = `est. clear in ${duration(drain)} (${range})`;
    if (!depth) foot = "empty";
    else if (pause) foot = pause.until ? `until ${moment(pause.until)}` : "until resumed";
    else if (drain === undefined) foot = "waiting";
    else if (drain === null) foot = "not draining";
    this.#show(lane, depth, foot, range && !pause ? { title: `90 % in ${range}` } : {});
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
    this.#show("failures", failed, share, { bad: failed > 0 });
  }

  /** The oldest beat; of workers that are late, which, or how many. */
  #showBeats() {
    const ages = this.known.workers.map((worker) => ({ name: worker.name, age: this.known.beatAge(worker) }));
    ages.sort((a, b) => b.age - a.age);
    const late = ages.filter(({ age }) => age > LATE_S);
    const who = late.length > 1 ? `${count(late.length)} late` : `${ages[0]?.name} late`;
    const ago = `beat ${duration(ages[0]?.age)} ago`;
    setText(this.#beats, ages.length ? `${late.length ? `${who}, last` : "oldest"} ${ago}` : "");
    set(this.#beats, "data-bad", late.length > 0);
  }

  tick() {
    LANES.forEach((lane, i) => this.#sparks[i].draw(this.known.series(lane).slice(-SPARK_S)));
    this.#lanesChart.draw();
    this.#endsChart.draw();
    this.#waits.draw(this.known.stats);
    this.#showBeats();
  }
}
