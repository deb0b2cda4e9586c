// What the queue sends, for the type checker alone: no browser loads this file. Whole numbers beyond 2^53 are BigInts.

export type Status = "pending" | "scheduled" | "running" | "completed" | "failed" | "cancelled";
export type Lane = "high" | "medium" | "low";
export type Counted = "completed" | "failed";

export interface Fault {
  type: string;
  message: string;
  traceback?: string;
  final?: string;
}

/** One attempt that is over. */
export interface Attempt {
  worker?: string | null;
  ending?: string;
  error?: Fault | null;
  queued_at?: string | null;
  claimed_at?: string | null;
  started_at?: string | null;
  wait_ms?: number | null;
  run_ms?: number | null;
}

/** A job as the server sends it: what has its usual value may be absent. */
export interface PartialJob extends Partial<Job> {
  id: string;
}

export interface Job extends Omit<Attempt, "ending"> {
  id: string;
  task: string;
  payload?: unknown;
  result?: unknown;
  priority: Lane;
  status: Status;
  rev: number;
  token: number;
  failures: number;
  snoozes?: number;
  on_failure?: string | null;
  on_success?: string | null;
  follows?: string | null;
  followed_by?: string[];
  max_attempts: number;
  timeout_s: number;
  expires_s?: number | null;
  declined?: number;
  declined_before?: number;
  tags: string[];
  earlier: Attempt[];
  idempotency_key?: string | null;
  schedule?: string | null;
  scheduled_for?: string | null;
  unique?: "waiting" | "active" | "window";
  unique_key?: string;
  unique_until?: string | null;
  duplicates?: number;
  was_duplicate?: boolean;
  cancel_requested: boolean;
  progress: number | null;
  progress_message: string;
  created_at?: string;
  due_at?: string | null;
  ended_at?: string | null;
}

/** The change of one job. Its error is one line. */
export interface JobEvent extends Omit<PartialJob, "error"> {
  rev: number;
  status: Status;
  error?: string | Fault | null;
}

export interface ProgressReport {
  id: string;
  token: number;
  progress?: number | null;
  message?: string;
  started_at?: string | null;
}

/** What has its usual value is absent. */
export interface Schedule {
  name: string;
  task: string;
  cron?: string;
  tz?: string;
  every_s?: number;
  next_at?: string | null;
  last_at?: string | null;
  last_job?: string | null;
  live?: string[];
  held_at?: string | null;
  missed?: number;
  skipped?: number;
  trouble?: string;
  paused?: { at: string; reason?: string };
}

export interface Depths extends Record<Lane, number> {
  scheduled: number;
  running: number;
  oldest_wait_s: number | null;
}

export interface Worker {
  name: string;
  status: string;
  age_s: number;
  load: number;
  concurrency: number;
  lanes: Lane[];
  completed: number;
  failed: number;
  started_at: string;
  host: string;
  pid: number;
  version: string;
  tasks?: string[] | null;
}

export interface Minute extends Record<Counted, number> {
  at: string;
  waiting?: Record<Lane, number> | null;
}

export interface Forecast {
  lane: Lane;
  drain_s: number | null;
  low_s: number | null;
  high_s: number | null;
}

export interface TaskStats extends Record<Counted, number> {
  task: string;
  wait_p50_s: number;
  wait_p95_s: number | null;
}

export interface Stats extends Record<Counted, number> {
  at: string;
  window_s: number;
  throughput_per_s: number;
  sampled: number | null;
  forecast: Forecast[];
  minutes: Minute[];
  tasks: TaskStats[];
}

export interface Pause {
  id: string;
  lane?: Lane;
  task?: string;
  where?: Record<string, unknown>;
  defaults?: Record<string, unknown>;
  until?: string;
  reason?: string;
  paused_at: string;
  waiting?: number | null;
}

export interface Health {
  pauses?: number | null;
  redis?: string;
  mongodb?: string;
}

/** A JSON Schema, as far as the form reads it. */
export interface Schema {
  type?: string;
  enum?: unknown[];
  format?: string;
  minimum?: number;
  maximum?: number;
  description?: string;
  default?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
  anyOf?: Schema[];
  $ref?: string;
  $defs?: Record<string, Schema>;
}

export interface TaskInfo {
  name: string;
  description: string;
  schema: Schema;
  defaults: Record<string, unknown>;
}

export type LinkName = "connecting" | "live" | "reconnecting" | "unauthorised" | "saved";

/** How the source reaches the queue: `at` is the time of a saved snapshot, `retryAt` that of the next try. */
export interface LinkState {
  type: "state";
  state: LinkName;
  at?: number;
  retryAt?: number;
  refused?: boolean;
}

export interface Update {
  depths?: Depths | null;
  workers?: Worker[];
  progress?: ProgressReport[];
}

export type Snapshot = Update & { type: "snapshot"; at?: string; jobs: PartialJob[] };
export type Events = Update & { type: "events"; jobs?: JobEvent[] };
export type Message = LinkState | Snapshot | Events;

/** An answer that is an error (RFC 9457); `errors` says where in a payload. */
export interface Problem {
  code?: string;
  title?: string;
  detail?: string;
  errors?: { path?: string; detail?: string }[];
}
