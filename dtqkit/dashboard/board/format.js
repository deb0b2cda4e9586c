// @ts-check
// Words and numbers as people read them. Nothing here needs a document.

const HALF_DAY_MS = 43_200_000;

/** @param {string} word */
export const capital = (word) => word[0].toUpperCase() + word.slice(1);

/** The end of an id, by which jobs differ. @param {string} id */
export const short = (id) => id.slice(-8);

const grouped = new Intl.NumberFormat("en");

/** @param {number} n */
export const count = (n) => grouped.format(n);

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** A number that fits a tile: 1.23M from a million on. @param {number} n */
export const figure = (n) => (n < 1_000_000 ? count(n) : compact.format(n));

/** @param {number} n @param {string} one */
export const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;

/** @param {number} perS */
export function rate(perS) {
  if (perS === 0) return "0";
  if (perS < 0.1) return perS.toFixed(2);
  return perS < 100 ? perS.toFixed(1) : count(Math.round(perS));
}

/** In at most two units. @param {number | null | undefined} s */
export function duration(s) {
  if (s == null) return "–";
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  if (s < 3570) return twoUnits(s, 60, "m", 1, "s");
  return s < 86_400 ? twoUnits(s, 3600, "h", 60, "m") : twoUnits(s, 86_400, "d", 3600, "h");
}

/** @param {number} s @param {number} large @param {string} name @param {number} small @param {string} smallName */
function twoUnits(s, large, name, small, smallName) {
  // Rounded first: 119.7 s is 2 m, not 1 m 60 s.
  const parts = Math.round(s / small);
  const perLarge = large / small;
  const rest = parts % perLarge;
  return `${Math.floor(parts / perLarge)} ${name}${rest ? ` ${rest} ${smallName}` : ""}`;
}

const timeOfDay = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndTime = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});

/** @param {number} ms */
export const date = (ms) => dayAndTime.format(ms);

/** The time of day; with the day when that is not clear. @param {number} ms */
export const clock = (ms) => (Math.abs(Date.now() - ms) < HALF_DAY_MS ? timeOfDay : dayAndTime).format(ms);

/** @param {string | null | undefined} iso */
export const moment = (iso) => (iso ? clock(Date.parse(iso)) : "–");

/** The next 1, 2 or 5 times a power of ten. @param {number} n */
export function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return ([1, 2, 5].find((step) => step * power >= n) ?? 10) * power;
}
