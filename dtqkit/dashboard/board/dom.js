// @ts-check
/** @import { Attributes, Child, ElementOf, SvgElementOf } from "./parts.ts" */
// Elements. Text from the queue becomes text nodes only, never markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element `tag.class` (a div without a tag): attributes (`on…`: listeners), then nodes or text.
 *
 * @template {string} S
 * @param {S} selector
 * @param {...(Attributes | Child)} rest
 * @returns {ElementOf<S>}
 */
export function h(selector, ...rest) {
  return /** @type {any} */ (build((tag) => document.createElement(tag || "div"), selector, rest));
}

/**
 * The same in SVG.
 *
 * @template {string} S
 * @param {S} selector
 * @param {...(Attributes | Child)} rest
 * @returns {SvgElementOf<S>}
 */
export function svg(selector, ...rest) {
  return /** @type {any} */ (build((tag) => document.createElementNS(SVG, tag), selector, rest));
}

/** @param {(tag: string) => Element} create @param {string} selector @param {(Attributes | Child)[]} rest */
function build(create, selector, rest) {
  const [tag, ...classes] = selector.split(".");
  const node = create(tag);
  node.classList.add(...classes);
  if (rest[0]?.constructor === Object) setAll(node, /** @type {Attributes} */ (rest.shift()));
  const children = /** @type {(Node | string)[]} */ (rest.flat().filter((child) => child));
  node.append(...children);
  return node;
}

/** @param {Element} node @param {Attributes} attributes */
export function setAll(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else set(node, name, value);
  }
}

/** Sets an attribute; null and false take it away. @param {Element} node @param {string} name @param {unknown} value */
export function set(node, name, value) {
  if (value == null || value === false) {
    node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  // A write is slow even when nothing changes.
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/** The text that a node was given last: to compare it is cheaper than to read it back. @type {WeakMap<Node, string>} */
const texts = new WeakMap();

/** @param {Node | null} node @param {string} text */
export function setText(node, text) {
  if (!node || texts.get(node) === text) return;
  texts.set(node, text);
  node.textContent = text;
}

/**
 * Why a panel shows no rows.
 *
 * @param {HTMLElement} note
 * @param {string} title
 * @param {string} [detail]
 * @param {boolean} [failed]
 */
export function say(note, title, detail = "", failed = false) {
  note.hidden = false;
  note.classList.toggle("failed", failed);
  if (texts.get(note) === title + detail) return;
  texts.set(note, title + detail);
  note.replaceChildren(h("strong", title), detail);
}

/** Why there is no list. @param {HTMLElement} note @param {unknown} error */
export function sayFailed(note, error) {
  say(note, "The list cannot be loaded.", /** @type {Error} */ (error).message, true);
}

/**
 * One child for each item: existing children are painted again, not replaced.
 *
 * @template T
 * @template {Element} E
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => E} make
 * @param {(child: E, item: T) => void} paint
 */
export function fill(parent, items, make, paint) {
  while (parent.children.length > items.length) parent.lastElementChild?.remove();
  items.forEach((item, i) => {
    const child = parent.children[i] ?? parent.appendChild(make(item));
    paint(/** @type {E} */ (child), item);
  });
}

/**
 * A table under these headings; the empty one is over buttons. A row of it: `rowOf`.
 *
 * @param {string} name
 * @param {string[]} heads
 * @param {HTMLElement} body
 */
export function table(name, heads, body) {
  const cells = heads.map((label) => (label ? h("th", { scope: "col" }, label) : h("td")));
  return h(`table.stack.${name.toLowerCase()}`, { "aria-label": name }, h("thead", h("tr", cells)), body);
}

/** A row of it. @param {string[]} heads */
export function rowOf(heads) {
  const cells = heads.map((label) => (label ? h("td", { "data-label": label }) : h("td.deeds")));
  return h("tr", cells);
}

/** What has the focus in the tree of a node. @param {Node} node */
export function focusedIn(node) {
  return /** @type {ShadowRoot} */ (node.getRootNode()).activeElement ?? null;
}

const SHAPES = {
  paused: "M5.5 4v8M10.5 4v8",
  pending: "M8 3a5 5 0 1 1 0 10A5 5 0 0 1 8 3",
  scheduled: "M8 3a5 5 0 1 1 0 10A5 5 0 0 1 8 3M8 5.5V8l1.8 1.2",
  running: "M8 3a5 5 0 1 1-5 5M8 8h.01",
  completed: "M3.5 8.5l3 3 6-7",
  failed: "M4.5 4.5l7 7M11.5 4.5l-7 7",
  cancelled: "M8 3a5 5 0 1 1 0 10A5 5 0 0 1 8 3M4.6 11.4l6.8-6.8",
  high: "M3.5 9.5L8 5l4.5 4.5M3.5 13L8 8.5l4.5 4.5",
  medium: "M3.5 6.5h9M3.5 10h9",
  low: "M3.5 6l4.5 4.5L12.5 6",
  mark: "M2.5 4.5h11M2.5 8h7.5M2.5 11.5h4.5",
};

/** @param {keyof typeof SHAPES} name */
export function icon(name) {
  return svg(`svg.icon.${name}`, { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: SHAPES[name] }));
}

/**
 * @param {string} kind its classes
 * @param {string} label
 * @param {(event: MouseEvent) => unknown} onclick
 * @param {Attributes} [more]
 */
export function button(kind, label, onclick, more) {
  return /** @type {HTMLButtonElement} */ (h(`button.${kind}`, { type: "button", onclick, ...more }, label));
}
