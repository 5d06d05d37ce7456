import type { Remote } from "@kite-mesh/kite";
import type { KloudContract, OperationEvent } from "@kite-mesh/kloud/contract";
import { Failure } from "./failure.ts";
import { dim, green, json, note, print, red } from "./output.ts";
import { interrupted } from "./signals.ts";

export interface FollowOptions {
  /** `apply hello` */
  title: string;
  /** Events as JSON lines on standard output instead of words on standard error. */
  asJson: boolean;
}

/**
 * Shows an operation until it ends. It belongs to kloud: Ctrl-C ends the showing, and says that the work goes on.
 *
 * @throws {Failure} when the operation failed.
 */
export async function followOperation(kloud: Remote<KloudContract>, operationId: string, { title, asJson }: FollowOptions): Promise<void> {
  const events = await kloud.operation.watch({ operationId });
  const signal = interrupted(() => {
    note(`\n${title} goes on in the mesh; kite stack list shows how it is`);
    process.exit();
  });
  const show = asJson ? (event: OperationEvent) => print(json(event)) : progress(title);
  let last: OperationEvent | null = null;
  for await (const event of events) {
    if (signal.aborted) return;
    show(event);
    last = event;
  }
  if (last?.state === "failed") throw new Failure(`${title} failed: ${last.error ?? last.message}`);
  if (last?.state !== "succeeded") throw new Failure(`${title} was not seen to its end; kite stack list shows how it is`);
}

/** A line that changes in place for a person, a line per event for a file. */
function progress(title: string): (event: OperationEvent) => void {
  const startedAt = Date.now();
  const seconds = () => `${((Date.now() - startedAt) / 1000).toFixed(1)} s`;
  if (!process.stderr.isTTY) return (event) => note(`${title}: ${event.percentage}% ${about(event)}`);
  return (event) => {
    const ended = event.state === "succeeded" || event.state === "failed";
    const mark =
      event.state === "succeeded" ? green("✓") : event.state === "failed" ? red("✗") : `${String(event.percentage).padStart(3)}%`;
    const width = (process.stderr.columns || 80) - 1;
    const line = `${mark} ${title}: ${about(event)}`;
    process.stderr.write(`\r\x1b[K${ended ? `${line} ${dim(`(${seconds()})`)}\n` : line.slice(0, width)}`);
  };
}

function about(event: OperationEvent): string {
  return event.machine === null ? event.message : `${event.machine}: ${event.message}`;
}
