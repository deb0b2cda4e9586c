// @ts-check
// Whole numbers beyond 2^53: a BigInt here and exact in JSON; in a notebook's messages a text after a NUL.

const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const LONG_NUMBER = /^-?\d{16,}$/;
const PACKED = /^\0-?\d+$/;
const PACKED_IN_JSON = /"\\u0000(-?\d+)"/g;

/** @param {string} text */
function packLong(text) {
  return LONG_NUMBER.test(text) && !Number.isSafeInteger(Number(text)) ? `"\\u0000${text}"` : text;
}

/** For JSON.parse: a packed text becomes a BigInt. @param {string} _ @param {unknown} value */
export function revive(_, value) {
  return typeof value === "string" && PACKED.test(value) ? BigInt(value.slice(1)) : value;
}

/** For JSON.stringify: a BigInt becomes a packed text. @param {string} _ @param {unknown} value */
function pack(_, value) {
  return typeof value === "bigint" ? `\0${value}` : value;
}

/**
 * A deep copy whose BigInts are packed, or with `reviver` back again.
 *
 * @param {any} value
 * @param {typeof revive} [reviver]
 */
export function copied(value, reviver) {
  return value && JSON.parse(JSON.stringify(value, pack), reviver);
}

export const exact = {
  /** @param {string} text @returns {any} */
  parse(text) {
    return JSON.parse(/\d{16}/.test(text) ? text.replace(STRING_OR_NUMBER, packLong) : text, revive);
  },
  /** Text that is no JSON stays as it is. @param {string} text @returns {any} */
  read(text) {
    try {
      return exact.parse(text);
    } catch {
      return text;
    }
  },
  /** @param {unknown} value @param {number} [space] @returns {string} */
  stringify(value, space) {
    return JSON.stringify(value, pack, space)?.replace(PACKED_IN_JSON, "$1");
  },
};
