// @ts-check
// The page around the board: takes a token out of the address, and the styles from the page's own sheets.
import { mount } from "./board/index.js";
import { webSource } from "./board/web_source.js";

/** Shadow roots do not see the page's sheets: the board gets their text. */
function pageStyles() {
  /** @type {NodeListOf<HTMLLinkElement>} */
  const links = document.querySelectorAll("link[rel=stylesheet]");
  const rules = Array.from(links).flatMap(({ sheet }) => Array.from(sheet?.cssRules ?? []));
  return rules.map((rule) => rule.cssText).join("\n");
}

/** Of an address that ends in #token=…; it is taken out, so that nobody copies it. */
function tokenOfAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? undefined;
  if (token) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

/** @param {{ apiBase?: string, wsUrl?: string }} where */
export function mountPage({ apiBase, wsUrl }) {
  const el = document.getElementById("board");
  if (!el) throw new Error('the page has no element with id="board"');
  mount(el, webSource({ apiBase, wsUrl, token: tokenOfAddress() }), { css: pageStyles() });
  /** @type {HTMLElement | null} */ (el.shadowRoot?.firstElementChild)?.focus();
}
