// @ts-check
/** @import { View } from "./parts.ts" */
// The panels under the tabs, in their order. A new panel is one module, its import and its place in this list.
import { view as capacity } from "./capacity.js";
import { view as deadLetters } from "./dead_letters.js";
import { view as jobs } from "./jobs.js";
import { view as pauses } from "./pauses.js";
import { view as schedules } from "./schedules.js";
import { view as workers } from "./workers.js";

/** @type {View[]} */
export const VIEWS = [jobs, deadLetters, schedules, pauses, workers, capacity];
