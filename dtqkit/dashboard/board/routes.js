// @ts-check
// Where the operations that a board asks for are found over HTTP: rows of the table in dtqkit/control/, as it has them.
// tests/board/test_routes.py compares each, and prints the line to write.

/** @type {Record<string, [method: "GET" | "POST" | "PATCH", path: string]>} */
export const ROUTES = {
  submit: ["POST", "/jobs"],
  jobs: ["GET", "/jobs"],
  dead_letters: ["GET", "/jobs/dead-letter/list"],
  get: ["GET", "/jobs/{id}"],
  log: ["GET", "/jobs/{id}/logs"],
  requeue: ["POST", "/jobs/{id}/requeue"],
  cancel: ["POST", "/jobs/{id}/cancel"],
  update: ["PATCH", "/jobs/{id}"],
  cancel_many: ["POST", "/jobs/cancel"],
  requeue_many: ["POST", "/jobs/requeue"],
  update_many: ["POST", "/jobs/update"],
  delete_many: ["POST", "/jobs/delete"],
  pauses: ["GET", "/pauses"],
  pause: ["POST", "/pauses"],
  resume: ["POST", "/pauses/resume"],
  tasks: ["GET", "/tasks"],
  stats: ["GET", "/stats"],
  health: ["GET", "/health"],
  schedules: ["GET", "/schedules"],
  schedule_runs: ["GET", "/schedules/{name}/runs"],
  pause_schedule: ["POST", "/schedules/{name}/pause"],
  resume_schedule: ["POST", "/schedules/{name}/resume"],
  run_schedule: ["POST", "/schedules/{name}/run"],
};

/**
 * The address of an operation; the parameters of a GET stand in it.
 *
 * @param {string} operation
 * @param {Record<string, any>} params
 * @param {string | URL} base ends in a slash
 */
export function locate(operation, params, base) {
  const [method, path] = ROUTES[operation];
  const rest = { ...params };
  const address = path.slice(1).replace(/{(\w+)}/g, (_, name) => {
    delete rest[name];
    return encodeURIComponent(params[name] ?? "");
  });
  const url = new URL(address, base);
  if (method !== "GET") return { method, url, body: rest };
  for (const [name, value] of Object.entries(rest)) url.searchParams.set(name, value);
  return { method, url };
}
