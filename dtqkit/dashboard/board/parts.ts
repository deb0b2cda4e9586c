// The interfaces between the parts of the board, for the type checker alone: no browser loads this file.
import type { Known } from "./known.js";
import type { Job, JobEvent, Message, ProgressReport, TaskInfo } from "./types.ts";

/** Asks for a token, in place of the board. */
export interface Prompt {
  readonly element: HTMLElement;
  ask(refused: boolean): void;
}

/** What a board is fed by. `prompt` is there where a token may be needed. */
export interface Source {
  request(operation: string, params?: Record<string, any>): Promise<any>;
  subscribe(listener: (message: Message) => void): () => void;
  retry(): void;
  prompt?(): Prompt;
}

/** anywidget's model, as far as the board uses it. */
export interface WidgetModel {
  get(name: string): any;
  send(message: unknown): void;
  on(name: "msg:custom", listener: (message: any) => void): void;
  off(name: "msg:custom", listener: (message: any) => void): void;
}

/** What a panel may ask of the board around it. */
export interface BoardApi {
  readonly known: Known;
  readonly live: boolean;
  /** Whether the first row has left the view. */
  readonly scrolled: boolean;
  request: Source["request"];
  /** A request whose failure is shown, in `problem` or as a notice, and answered with undefined. */
  act(operation: string, params: Record<string, unknown>, problem?: HTMLElement): Promise<any>;
  announce(text: string): void;
  openJob(id: string): void;
  /** Shows a job whose answer came before its event. */
  show(job: Job): void;
  loadTasks(): Promise<void>;
  toTop(): void;
}

/** A panel under a tab. Only `element` must be there; the board calls the other members if they are. */
export interface Panel {
  readonly element: HTMLElement;
  /** A task that no worker serves, of a job in view. */
  readonly unserved?: string;
  /** The panel is shown while the queue is live, or the queue is live again. */
  load?(): unknown;
  /** Paint what has changed: at most five times a second, and only while the panel is shown. */
  update?(): void;
  /** Each second while the panel is shown. */
  tick?(): void;
  /** Load everything again: events may have been missed. */
  restart?(jobs: Job[]): void;
  hear?(event: JobEvent): void;
  report?(news: ProgressReport): void;
  show?(job: Job): void;
  offer?(tasks: TaskInfo[]): void;
  /** Which job is open on the right. */
  mark?(id: string | null): void;
  /** Focuses the row of a job; false when it has none. */
  focusJob?(id: string | undefined): boolean;
  /** Focuses the search. */
  find?(): void;
}

/** What a panel's module exports as `view`; `name` is on its tab. */
export interface View {
  name: string;
  make(board: BoardApi): Panel;
}

/** What may stand on the right. */
export interface SidePanel {
  readonly element: HTMLElement;
  readonly title: HTMLElement;
  readonly id?: string;
  load?(): unknown;
  tick?(): void;
  hear?(event: JobEvent): void;
  report?(news: ProgressReport): void;
  close?(): void;
}

type TagOf<S extends string> = S extends `${infer Tag}.${string}` ? Tag : S;

/** The element that `h(selector)` makes. */
export type ElementOf<S extends string> =
  TagOf<S> extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[TagOf<S>] : HTMLElement;

export type SvgElementOf<S extends string> =
  TagOf<S> extends keyof SVGElementTagNameMap ? SVGElementTagNameMap[TagOf<S>] : SVGElement;

export type Child = Node | string | false | null | undefined | Child[];
export type Attributes = Record<string, string | number | boolean | null | undefined | ((event: any) => unknown)>;
