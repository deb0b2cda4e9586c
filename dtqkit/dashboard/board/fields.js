// @ts-check
/** @import { Attributes } from "./parts.ts" */
/** @import { Schema } from "./types.ts" */
// Fields of a form, from a JSON Schema.
import { h, set, setAll, setText } from "./dom.js";
import { exact } from "./exact.js";

/**
 * The schema that `$ref` and a single way of `anyOf` (besides null) lead to. A boolean that may be null is a choice.
 *
 * @param {Schema} schema
 * @param {Schema} root
 * @returns {Schema}
 */
export function resolve(schema, root) {
  let found = schema;
  while (found.$ref) {
    // What stands beside a reference goes before what it leads to.
    const { $ref, ...beside } = found;
    found = { ...root.$defs?.[$ref.split("/").at(-1) ?? ""], ...beside };
  }
  const ways = found.anyOf?.filter((way) => way.type !== "null") ?? [];
  if (ways.length !== 1) return found;
  const way = resolve(ways[0], root);
  const choice = way.type === "boolean" && { type: undefined, enum: [true, false] };
  return { ...way, ...found, anyOf: undefined, ...choice };
}

/** @param {string} text @param {boolean} whole whether it must be an integer; up to 64 bits */
export function numberOf(text, whole) {
  if (!text) return undefined;
  const value = Number(text);
  if (whole && /^[+-]?\d+$/.test(text) && !Number.isSafeInteger(value)) {
    const long = BigInt(text.replace("+", ""));
    if (BigInt.asIntN(64, long) === long) return long;
    throw new Error("This does not fit in the 64 bits of a whole number.");
  }
  if (!Number.isFinite(value) || (whole && !Number.isSafeInteger(value))) {
    throw new Error(`${text} is not a ${whole ? "whole " : ""}number.`);
  }
  return value;
}

/** @param {string} text */
export function parsed(text) {
  try {
    return text ? exact.parse(text) : undefined;
  } catch (error) {
    throw new Error(`This is not JSON: ${/** @type {Error} */ (error).message}`);
  }
}

/** @type {Record<string, string>} */
const TYPES = {
  array: "JSON list",
  object: "JSON object",
  integer: "whole number",
  number: "number",
  string: "text",
  boolean: "yes or no",
};

/** What is wanted, in a few words. @param {Schema} schema @param {boolean} required */
export function hint({ enum: choices, format, type = "", minimum, maximum }, required) {
  const kind = choices ? "choice" : (format ?? TYPES[type] ?? "JSON");
  const least = minimum === undefined ? "" : `≥ ${minimum}`;
  const most = maximum === undefined ? "" : `≤ ${maximum}`;
  return [kind, least, most, required ? "" : "optional"].filter(Boolean).join(", ");
}

/**
 * @typedef {object} Control
 * @property {HTMLElement} node
 * @property {(value: any) => void} put
 * @property {() => unknown} read undefined: nothing is given; may throw what is wrong
 */

/** @param {Schema} schema @returns {Control} */
function control(schema) {
  if (schema.enum) return choiceControl(schema.enum);
  if (schema.type === "boolean") return checkControl();
  if (schema.type === "integer" || schema.type === "number") return numberControl(schema.type === "integer");
  return schema.type === "string" ? textControl(schema.format) : jsonControl();
}

/** @param {unknown[]} values @returns {Control} */
function choiceControl(values) {
  const options = values.map((value, i) => h("option", { value: i }, String(value)));
  const node = h("select", h("option", { value: "" }, "–"), options);
  return {
    node,
    put: (value) => (node.value = String(values.indexOf(value))),
    read: () => (node.value === "" ? undefined : values[Number(node.value)]),
  };
}

/** @returns {Control} */
function checkControl() {
  const node = h("input", { type: "checkbox" });
  return { node, put: (value) => (node.checked = value), read: () => node.checked };
}

/** @param {boolean} whole @returns {Control} */
function numberControl(whole) {
  // No type=number: it rounds, takes commas by the language, and reads what is wrong as nothing.
  const node = inputOf("text", { inputmode: "decimal", step: "1" });
  return { node, put: (value) => (node.value = value), read: () => numberOf(node.value.trim(), whole) };
}

/** @type {Record<string, string>} */
const DATES = { date: "date", "date-time": "datetime-local", time: "time" };

/** @param {string} [format] @returns {Control} */
function textControl(format = "") {
  const type = DATES[format] ?? "text";
  // Seconds are wanted where there is a time.
  const node = inputOf(type, { step: format === "date" ? null : "1" });
  function read() {
    if (type === "text") return node.value;
    if (!node.value) return undefined;
    return type === "datetime-local" ? new Date(node.value).toISOString() : node.value;
  }
  return { node, put: (value) => (node.value = value), read };
}

/** @returns {Control} */
function jsonControl() {
  const node = h("textarea.json", { rows: 2, spellcheck: "false" });
  return { node, put: (value) => (node.value = exact.stringify(value)), read: () => parsed(node.value.trim()) };
}

/** @param {string} type @param {Attributes} more */
function inputOf(type, more) {
  return h("input", { type, ...more, autocomplete: "off", spellcheck: "false" });
}

/** What is given, by name; undefined once each wrong field has said what is wrong. @param {Field[]} fields */
export function valuesOf(fields) {
  /** @type {Record<string, any> | undefined} */
  let values = {};
  for (const field of fields) {
    try {
      field.complain("");
      const value = field.value();
      if (value !== undefined && values) values[field.name] = value;
    } catch (error) {
      field.complain(/** @type {Error} */ (error).message);
      values = undefined;
    }
  }
  return values;
}

export class Field {
  /**
   * @param {string} name
   * @param {Schema} schema
   * @param {{ required?: boolean, label?: string }} [more]
   */
  constructor(name, schema, { required = false, label = name } = {}) {
    this.name = name;
    this.schema = schema;
    this.required = required;
    this.control = control(schema);
    const { node } = this.control;
    const id = `${label === name ? "field" : "option"}-${name}`;
    setAll(node, {
      id,
      "aria-describedby": `${id}-hint ${id}-help ${id}-problem`,
      "aria-required": required && "true",
      oninput: () => this.complain(""),
    });
    this.problem = h("p.problem", { id: `${id}-problem` });
    this.element = h(
      `.field.${schema.type === "boolean" ? "check" : "plainly"}`,
      h("label", { for: id }, label),
      h("small", { id: `${id}-hint` }, hint(schema, required)),
      node,
      schema.description && h("small.help", { id: `${id}-help` }, schema.description),
      this.problem,
    );
    if (schema.default != null) this.control.put(schema.default);
  }

  /** Undefined: nothing was given, or the default. Throws what is wrong with it. */
  value() {
    const value = this.control.read();
    if (this.required) {
      if (value === undefined) throw new Error("This is needed.");
      return value;
    }
    const usual = exact.stringify(value) === exact.stringify(this.schema.default);
    return usual || (value === "" && this.schema.default == null) ? undefined : value;
  }

  /** @param {string} text */
  complain(text) {
    setText(this.problem, text);
    set(this.control.node, "aria-invalid", text ? "true" : null);
  }
}
