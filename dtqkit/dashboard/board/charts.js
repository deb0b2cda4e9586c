// @ts-check
/** @import { Stats } from "./types.ts" */
// Lines over the last quarter of an hour, and the range of waits.
import { fill, h, set, setText, svg } from "./dom.js";
import { ceiling, count, duration } from "./format.js";

/** @typedef {(number | null)[]} Values */

/**
 * An SVG path; a long gap without values interrupts the line.
 *
 * @param {Values} values
 * @param {number} width
 * @param {number} height
 * @param {number} top the value at the upper edge
 */
export function linePath(values, width, height, top) {
  let gap = Infinity;
  const steps = values.map((value, i) => {
    if (value === null) {
      gap += 1;
      return "";
    }
    const pen = gap > values.length / 4 ? "M" : "L";
    gap = 0;
    const x = ((i * width) / (values.length - 1)).toFixed(1);
    const y = (height - (value / top) * height).toFixed(1);
    return `${pen}${x} ${y}`;
  });
  return steps.join("");
}

const MEAN_S = 5;

/** Of each five seconds. @param {Values} values @returns {Values} */
export function means(values) {
  return Array.from({ length: values.length / MEAN_S }, (_, i) => {
    const slice = values.slice(i * MEAN_S, (i + 1) * MEAN_S);
    const known = slice.filter((value) => value !== null);
    return known.length ? known.reduce((a, b) => a + b) / known.length : null;
  });
}

/** The largest value, at least 1. @param {Values} values */
const largest = (values) => Math.max(1, ...values.map((value) => value ?? 0));

/** A line without axes. */
export function sparkline() {
  const line = svg("path.line");
  const shape = { viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" };
  const element = svg("svg.spark", shape, line);
  /** @param {Values} values */
  const draw = (values) => set(line, "d", linePath(values, 100, 26, 1.1 * largest(values)));
  return { element, draw };
}

const WIDTH = 600;
const HEIGHT = 100;
const GRID = "M0 .5H600M0 50H600M0 99.5H600";

/** Lines with a legend that says their last values; `note` says how late the others are. @template {string} Kind */
export class Chart {
  /**
   * @param {string} title
   * @param {Kind[]} kinds
   * @param {(kind: Kind) => Values} values
   * @param {string} note
   * @param {(value: number) => string} [format]
   */
  constructor(title, kinds, values, note, format = count) {
    this.kinds = kinds;
    this.values = values;
    this.format = format;
    this.figures = kinds.map(() => h("b"));
    this.lines = kinds.map((kind) => svg(`path.line.${kind}`));
    this.top = h("span.top");
    const shape = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" };
    this.svg = svg("svg", shape, svg("path.grid", { d: GRID }), this.lines);
    const legend = kinds.map((kind, i) => h(`li.${kind}`, kind, " ", this.figures[i]));
    this.element = h(
      "section.chart",
      { "aria-label": title },
      h("header", h("h2", title), h("ul.legend", legend)),
      h(".plot", this.top, this.svg),
      h("footer", h("span", "15 min ago"), h("span", note), h("span", "now")),
    );
  }

  draw() {
    const series = this.kinds.map(this.values);
    const top = ceiling(largest(series.flat()));
    setText(this.top, this.format(top));
    series.forEach((values, i) => {
      const last = values.at(-1) ?? null;
      set(this.lines[i], "d", linePath(values, WIDTH, HEIGHT, top));
      setText(this.figures[i], last === null ? "–" : this.format(last));
    });
    const said = this.kinds.map((kind, i) => `${kind} ${this.figures[i].textContent}`);
    set(this.svg, "aria-label", said.join(", "));
  }
}

const WAITS_SHOWN = 4;
const SHORTEST_S = 0.001;
const MARGIN = 0.2;

/** @param {number} s */
const log = (s) => Math.log10(Math.max(s, SHORTEST_S));

/** The waits of the tasks with most ends, on one logarithmic scale. */
export class WaitsChart {
  #rows = h("ol.waits");
  #note = h("p.quiet");
  #legend = h("ul.legend", h("li.p50", "p50"), h("li.p95", "p95"));
  element = h(
    "section.chart",
    { "aria-label": "Wait before start" },
    h("header", h("h2", "Wait before start"), this.#legend),
    this.#rows,
    this.#note,
  );

  /** @param {Stats | null} stats */
  draw(stats) {
    const rows = waitsOf(stats);
    setText(this.#note, waitsNote(stats, rows.length));
    const least = Math.min(...rows.map(({ p50 }) => log(p50))) - MARGIN;
    const most = Math.max(...rows.map(({ p95 }) => log(p95))) + MARGIN;
    /** @param {number} s */
    const x = (s) => `${((100 * (log(s) - least)) / (most - least)).toFixed(1)}%`;
    fill(this.#rows, rows, waitRow, (row, { task, p50, p95 }) => {
      const [name, range, figures] = row.children;
      const [line, middle, high] = range.children;
      setText(name, task);
      set(name, "title", task);
      set(line, "x1", x(p50));
      set(line, "x2", x(p95));
      set(middle, "cx", x(p50));
      set(high, "cx", x(p95));
      setText(figures, `${duration(p50)} – ${duration(p95)}`);
    });
  }
}

/** @param {Stats | null} stats */
function waitsOf(stats) {
  const rows = (stats?.tasks ?? []).flatMap(({ task, completed, failed, wait_p50_s, wait_p95_s }) =>
    wait_p95_s === null ? [] : [{ task, ended: completed + failed, p50: wait_p50_s, p95: wait_p95_s }],
  );
  return rows.sort((a, b) => b.ended - a.ended).slice(0, WAITS_SHOWN);
}

/** @param {Stats | null} stats @param {number} rows */
function waitsNote(stats, rows) {
  if (!rows) return "No job has run in the last 5 minutes.";
  return stats?.sampled ? `Of the newest ${count(stats.sampled)} ends.` : "";
}

function waitRow() {
  /** @param {string} kind */
  const dot = (kind) => svg(`circle.${kind}`, { cy: "50%", r: 4 });
  const line = svg("line", { y1: "50%", y2: "50%" });
  const range = svg("svg.range", { "aria-hidden": "true" }, line, dot("p50"), dot("p95"));
  return h("li", h("span.name"), range, h("span.figures"));
}
