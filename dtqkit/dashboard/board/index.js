// @ts-check
/** @import { Source, WidgetModel } from "./parts.ts" */
// Where a board lives: `mount` for a page, and anywidget's `render` for a notebook.
import { Board } from "./board.js";
import { set } from "./dom.js";
import { modelSource } from "./source.js";
import { VIEWS } from "./views.js";

/** JupyterLab and VS Code say their theme on the body: nothing where neither does. */
function notebookTheme() {
  const { dataset, className } = document.body;
  if (dataset.jpThemeLight === "true") return "light";
  if (dataset.jpThemeLight === "false") return "dark";
  return /vscode.*(light|dark)/.exec(className)?.[1];
}

/** Returns what ends it. @param {HTMLElement} el */
function followTheme(el) {
  const apply = () => set(el, "data-theme", notebookTheme());
  apply();
  const observer = new MutationObserver(apply);
  observer.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light"] });
  return () => observer.disconnect();
}

/**
 * Returns what takes the board away.
 *
 * @param {HTMLElement} el
 * @param {Source} source
 * @param {{ css?: string }} [how]
 */
export function mount(el, source, { css = "" } = {}) {
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  root.adoptedStyleSheets = [sheet];
  // JupyterLab: keys in here are ours.
  set(el, "data-lm-suppress-shortcuts", "true");
  const unfollow = followTheme(el);
  const board = new Board(root, source, VIEWS);
  return () => {
    unfollow();
    board.close();
  };
}

/** For anywidget. */
export default {
  /** @param {{ model: WidgetModel, el: HTMLElement }} widget */
  render({ model, el }) {
    const host = el.appendChild(document.createElement("div"));
    return mount(host, modelSource(model), { css: model.get("css") });
  },
};
