// @ts-check
/** @import { Counted, Depths, Health, Job, JobEvent, Lane, Pause } from "./types.ts" */
/** @import { Stats, TaskInfo, Update, Worker } from "./types.ts" */
// What is known of the queue: depths, workers, counts and their past. All but the listings.
import { LANES, WAITING } from "./records.js";

const WINDOW_S = 900;
/** Of how many jobs the last revision is kept, to count each end once. */
const SEEN = 5_000;

/** @typedef {Lane | Counted} Series */

export class Known {
  /** @type {Depths | null} */
  depths = null;
  /** @type {Worker[]} */
  workers = [];
  /** When the workers were last listed, in ms; 0: never. */
  workersAt = 0;
  /** @type {Stats | null} */
  stats = null;
  /** When the stats were last asked for, in ms. */
  statsAt = 0;
  /** @type {Health | null} */
  health = null;
  /** @type {TaskInfo[]} */
  tasks = [];
  /** @type {Pause[]} */
  pauses = [];
  /** A value a second, oldest first; null where nobody looked. @type {Record<Series, (number | null)[]>} */
  past = { high: blank(), medium: blank(), low: blank(), completed: blank(), failed: blank() };
  /** @type {Map<string, number>} */
  #revisions = new Map();
  #ended = { completed: 0, failed: 0 };

  /** @param {Update} update */
  take({ depths, workers }) {
    this.depths = depths ?? this.depths;
    if (workers) {
      this.workers = workers;
      this.workersAt = Date.now();
    }
  }

  /** Whether no worker has the task; false while it is not known what the workers have. @param {string} task */
  unserved(task) {
    return this.workersAt > 0 && this.workers.every(({ tasks }) => tasks && !tasks.includes(task));
  }

  /** @param {Lane} lane */
  pauseOfLane(lane) {
    return this.pauses.find((pause) => pause.lane === lane);
  }

  /** What holds a waiting job back. @param {Job} job */
  pausesOf(job) {
    if (!WAITING.includes(job.status)) return [];
    return this.pauses.filter((pause) => (pause.lane ? pause.lane === job.priority : holds(pause, job)));
  }

  /** Seconds since a worker's last heartbeat. @param {Worker} worker */
  beatAge(worker) {
    return worker.age_s + (Date.now() - this.workersAt) / 1000;
  }

  /** A value a second: what was seen here and, before that, the minutes of the record. @param {Series} name */
  series(name) {
    const { minutes, at } = this.stats ?? { minutes: [], at: "" };
    const minutesS = (Date.parse(at) - Date.parse(minutes[0]?.at) + Date.now() - this.statsAt) / 1000;
    return this.past[name].map((seen, i) => {
      const minute = minutes[Math.floor((minutesS - WINDOW_S + i) / 60)];
      // A minute counts every end. Of depths it has only one look.
      if (name === "completed" || name === "failed") return minute ? minute[name] / 60 : seen;
      return seen ?? minute?.waiting?.[name] ?? null;
    });
  }

  /** Whether an event says something new. @param {JobEvent} event */
  news({ id, rev, status }) {
    if ((this.#revisions.get(id) ?? 0) >= rev) return false;
    // The map keeps its order: deleted first, so that the oldest look is the first.
    this.#revisions.delete(id);
    this.#revisions.set(id, rev);
    if (this.#revisions.size > SEEN) {
      const [oldest] = this.#revisions.keys();
      this.#revisions.delete(oldest);
    }
    if (status === "completed" || status === "failed") this.#ended[status] += 1;
    return true;
  }

  /** Once a second. @param {boolean} live */
  sample(live) {
    for (const lane of LANES) this.#push(lane, live ? (this.depths?.[lane] ?? null) : null);
    this.#push("completed", live ? this.#ended.completed : null);
    this.#push("failed", live ? this.#ended.failed : null);
    this.#ended = { completed: 0, failed: 0 };
  }

  /** @param {Series} name @param {number | null} value */
  #push(name, value) {
    this.past[name].shift();
    this.past[name].push(value);
  }
}

/**
 * Whether a pause of a task holds a job; no, where the job's payload is not known yet.
 *
 * @param {Pause} pause
 * @param {Job} job
 */
function holds({ task, where, defaults }, { task: own, payload }) {
  /** @type {any} */
  const values = payload && { ...defaults, ...payload };
  return task === own && Object.entries(where ?? {}).every(([name, value]) => values && same(values[name], value));
}

/** As the queue compares: a long number may be a BigInt here. @param {unknown} a @param {unknown} b */
function same(a, b) {
  const numbers = [a, b].every((one) => typeof one === "number" || typeof one === "bigint");
  return numbers ? a == b : a === b;
}

/** @returns {(number | null)[]} */
function blank() {
  return new Array(WINDOW_S).fill(null);
}
