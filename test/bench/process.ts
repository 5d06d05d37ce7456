import { type Measured, measure, percentile } from "./in-flight.ts";
import { type Client, MESSAGE, STREAM_CHUNK, STREAM_CHUNKS, WORKLOADS, type Workload } from "./side.ts";
import { SIDES, type SideName } from "./sides.ts";

/** What the driver asks a process of a side, one at a time. */
export type Request =
  | { do: "serve"; side: SideName }
  | { do: "connect"; side: SideName; address: string }
  | { do: "measure"; workload: Workload; inFlight: number; forMs: number }
  | { do: "cpu" }
  /** Opens that many connections more and leaves them idle; answers when each has made a call. */
  | { do: "open"; side: SideName; address: string; count: number }
  /** Makes that many calls with a new function each. */
  | { do: "churn"; count: number }
  | { do: "memory" }
  /** Sends so many bytes in one value and makes small calls meanwhile. */
  | { do: "large"; bytes: number };
export type Response =
  | Memory
  | Large
  | { done: number }
  | { address: string }
  | { workloads: Workload[] }
  | Measured
  | { cpuUs: number }
  | { error: string };

/** After a full garbage collection, in bytes. */
export interface Memory {
  /** What JavaScript holds, buffers included. */
  heap: number;
  rss: number;
}

/** What small calls take beside a large one, and before it. */
export interface Large {
  transferMs: number;
  besideP99Ms: number;
  idleP99Ms: number;
}

let client: Client | undefined;
/** Connections that are kept open. */
const idle: Client[] = [];

process.on("message", (request: Request) => {
  answer(request).then(
    (response) => process.send?.(response),
    (cause) => process.send?.({ error: cause instanceof Error ? (cause.stack ?? cause.message) : String(cause) }),
  );
});
// The driver has gone, or has had enough; a profile is written on the way out.
process.once("disconnect", () => process.exit());

async function answer(request: Request): Promise<Response> {
  switch (request.do) {
    case "serve": {
      const side = await SIDES[request.side]();
      return { address: await side.serve() };
    }
    case "connect": {
      const side = await SIDES[request.side]();
      const connected = await side.connect(request.address);
      client = connected;
      return { workloads: WORKLOADS.filter((workload) => connected[workload] !== undefined) };
    }
    case "measure":
      return measure(caller(request.workload), request.inFlight, request.forMs);
    case "open": {
      const side = await SIDES[request.side]();
      for (let opened = 0; opened < request.count; opened++) {
        const connected = await side.connect(request.address);
        await connected.unary(MESSAGE);
        idle.push(connected);
      }
      return { done: request.count };
    }
    case "churn":
      return { done: await churn(request.count) };
    case "large":
      return large(request.bytes);
    case "memory":
      return memory();
    case "cpu": {
      const { user, system } = process.cpuUsage();
      return { cpuUs: user + system };
    }
  }
}

function caller(workload: Workload): () => Promise<unknown> {
  const { unary, callback, stream } = client ?? {};
  if (workload === "unary" && unary) return () => unary(MESSAGE);
  if (workload === "callback" && callback) return () => calledBack(callback);
  if (workload === "stream" && stream) return () => streamed(stream);
  throw new Error(`this side has no ${workload}`);
}

async function calledBack(callback: NonNullable<Client["callback"]>): Promise<void> {
  let called = false;
  await callback(() => {
    called = true;
  });
  if (!called) throw new Error("the call was answered, but the function was not called back");
}

async function streamed(stream: NonNullable<Client["stream"]>): Promise<void> {
  const bytes = await stream();
  if (bytes !== STREAM_CHUNKS * STREAM_CHUNK.byteLength) throw new Error(`the stream ended after ${bytes} bytes`);
}

/** A window of calls, so that what is kept per call shows as growth and not as queue. */
async function churn(count: number): Promise<number> {
  const { callback } = client ?? {};
  if (callback === undefined) throw new Error("this side has no callback");
  let made = 0;
  const lane = async () => {
    while (made++ < count) await callback(() => {});
  };
  await Promise.all(Array.from({ length: 64 }, lane));
  return count;
}

async function large(size: number): Promise<Large> {
  const { unary, large: send } = client ?? {};
  if (unary === undefined || send === undefined) throw new Error("this side has no large values");
  const ping = async (until: () => boolean) => {
    const latencies: number[] = [];
    while (!until()) {
      const calledAt = performance.now();
      await unary(MESSAGE);
      latencies.push(performance.now() - calledAt);
      // As somebody's keystrokes would come: beside the transfer, not instead of it.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return percentile(
      latencies.sort((a, b) => a - b),
      0.99,
    );
  };
  const idleUntil = performance.now() + 1_000;
  const idleP99Ms = await ping(() => performance.now() > idleUntil);
  const bytes = new Uint8Array(size).fill(7);
  const startedAt = performance.now();
  let transferMs = 0;
  const sending = send(bytes).then((arrived) => {
    if (arrived !== size) throw new Error(`${arrived} bytes arrived of ${size}`);
    transferMs = performance.now() - startedAt;
  });
  const besideP99Ms = await ping(() => transferMs > 0);
  await sending;
  return { transferMs, besideP99Ms, idleP99Ms };
}

async function memory(): Promise<Memory> {
  const { gc } = globalThis;
  if (gc === undefined) throw new Error("run with --expose-gc");
  for (let round = 0; round < 3; round++) {
    gc();
    // Finalizers run between turns, and what they let go of is for the next round.
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  return { heap: heapUsed + external, rss };
}
