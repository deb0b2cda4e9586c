// @ts-check
// What a browser keeps for the board. It may be forbidden to keep anything: then nothing is found, which is no error.

/**
 * One text that is kept.
 *
 * @param {() => Storage} storage a function, since to name a storage may throw, too
 * @param {string} key
 */
export function memory(storage, key) {
  return {
    /** Empty: nothing is kept. */
    recall() {
      try {
        return storage().getItem(key) ?? "";
      } catch {
        return "";
      }
    },
    /** @param {string} value */
    remember(value) {
      try {
        storage().setItem(key, value);
      } catch {
        // as above
      }
    },
  };
}
