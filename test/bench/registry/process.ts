import { TASKS, type TaskName } from "./tasks.ts";

/** What the driver asks of a process, one at a time. */
export interface Request {
  task: TaskName;
  given: unknown;
}
export type Response = { answer: unknown } | { error: string };

process.on("message", ({ task, given }: Request) => {
  const run = TASKS[task] as (given: unknown) => Promise<unknown>;
  run(given).then(
    (answer) => process.send?.({ answer } satisfies Response),
    (cause) => process.send?.({ error: cause instanceof Error ? (cause.stack ?? cause.message) : String(cause) } satisfies Response),
  );
});
// The driver has gone, or has had enough; a profile is written on the way out.
process.once("disconnect", () => process.exit());
