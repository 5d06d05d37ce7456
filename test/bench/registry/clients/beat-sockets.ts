import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Kite } from "@kite-mesh/kite";
import { type RawData, WebSocket } from "ws";
import { type Measured, percentile } from "../../in-flight.ts";

/** A kite that beats over a socket of its own, as the library's thread does. */
interface BeatSocket {
  readonly socket: WebSocket;
  /** When the beat was sent that is not answered yet. */
  sentAt: number;
}

const sockets: BeatSocket[] = [];
let latencies: number[] = [];

// kontrol takes four for each of its beats, and whoever sends more is cut off.
const BEATS_PER_BEAT = 3;

/** Registers kites, and lets each beat over its own socket as often as kontrol takes it, for good. */
export async function openBeatSockets({ kiteKey, url, count }: { kiteKey: string; url: string; count: number }): Promise<void> {
  let opened = 0;
  const lane = async () => {
    while (opened++ < count) await openOne(kiteKey, url);
  };
  await Promise.all(Array.from({ length: 32 }, lane));
}

async function openOne(kiteKey: string, url: string): Promise<void> {
  const kite = new Kite({ name: "beating", version: "1.0.0", kiteKey, id: randomUUID() });
  const { ticket, heartbeatMs } = await kite.kontrol().register({ kite: kite.identity, url: "http://127.0.0.1:9" });
  const address = `${url.replace(/^http/, "ws")}/beats/${encodeURIComponent(kite.identity.id)}`;
  const socket = new WebSocket(address, ["kite.beats", `kite.ticket.${ticket}`], { perMessageDeflate: false });
  await once(socket, "open");
  const beating: BeatSocket = { socket, sentAt: 0 };
  sockets.push(beating);
  socket.on("message", (_: RawData) => latencies.push(performance.now() - beating.sentAt));
  const beat = () => {
    beating.sentAt = performance.now();
    socket.send("[0,0]");
  };
  beat();
  setInterval(beat, heartbeatMs / BEATS_PER_BEAT).unref();
}

/** How many beats were answered meanwhile, and how fast. */
export async function countBeats({ forMs }: { forMs: number }): Promise<Measured> {
  latencies = [];
  const startedAt = performance.now();
  await new Promise((resolve) => setTimeout(resolve, forMs));
  const elapsedMs = performance.now() - startedAt;
  const lost = sockets.filter(({ socket }) => socket.readyState !== WebSocket.OPEN).length;
  if (lost > 0) throw new Error(`${lost} of ${sockets.length} sockets for beats were closed`);
  const took = latencies.sort((a, b) => a - b);
  const calls = took.length;
  return { calls, callsPerSecond: (calls / elapsedMs) * 1000, p50Us: percentile(took, 0.5) * 1000, p99Us: percentile(took, 0.99) * 1000 };
}
