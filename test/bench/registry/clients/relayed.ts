import { type ContractOf, Kite, method, type Remote } from "@kite-mesh/kite";
import { z } from "zod";
import { type Measured, measure } from "../../in-flight.ts";
import { STREAM_CHUNK, STREAM_CHUNKS } from "../../side.ts";
import type { Load } from "../outcome.ts";

const methods = {
  echo: method({ role: "viewer", input: z.string(), output: z.string() }, (text) => text),
  stream: method({ role: "viewer" }, async function* () {
    for (let index = 0; index < STREAM_CHUNKS; index++) yield STREAM_CHUNK;
  }),
};
type Methods = ContractOf<typeof methods>;

let served: Kite | undefined;
const ways = new Map<Way, Remote<Methods>>();
export type Way = "direct" | "relay";

/** A kite that is reached through the relay, and listens as well; answers with where. */
export async function serveRelayed({ kiteKey }: { kiteKey: string }): Promise<string> {
  served = new Kite({ name: "relayed", version: "1.0.0", kiteKey, methods });
  // Before it listens: a kite without a port registers with the relay as its address.
  await served.register();
  return (await served.listen()).url;
}

/** Opens both ways to the one kite. */
export async function reachRelayed({ kiteKey, direct }: { kiteKey: string; direct: string }): Promise<void> {
  const caller = new Kite({ name: "caller", version: "1.0.0", kiteKey });
  const token = async () => ({ type: "token", key: (await caller.find({ name: "relayed" }))[0]?.token ?? "" });
  ways.set("direct", caller.dial<Methods>({ url: direct, auth: token }));
  ways.set("relay", await caller.connect<Methods>({ name: "relayed" }));
}

/** A keystroke's worth: a few bytes there and back. */
export function echoThrough({ way, inFlight, forMs }: Load & { way: Way }): Promise<Measured> {
  const kite = wayOf(way);
  return measure(() => kite.echo("l"), inFlight, forMs);
}

/** Streams of 32 MiB, one after the other. */
export function streamThrough({ way, forMs }: { way: Way; forMs: number }): Promise<Measured> {
  const kite = wayOf(way);
  const call = async () => {
    let bytes = 0;
    for await (const chunk of await kite.stream()) bytes += chunk.byteLength;
    if (bytes !== STREAM_CHUNKS * STREAM_CHUNK.byteLength) throw new Error(`the stream ended after ${bytes} bytes`);
  };
  return measure(call, 1, forMs);
}

function wayOf(way: Way): Remote<Methods> {
  const kite = ways.get(way);
  if (kite === undefined) throw new Error("reachRelayed comes first");
  return kite;
}
