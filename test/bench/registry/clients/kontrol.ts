import { Kite, type Logger } from "@kite-mesh/kite";
import { createKontrol, type Kontrol, type KontrolContract } from "@kite-mesh/kontrol";

// What goes wrong is to be seen beside the figures, and only that.
const log: Logger = { debug() {}, info() {}, warn() {}, error: (...said) => console.error(...said) };

let kontrol: Kontrol | undefined;

/** Runs a kontrol, with a service whose kites the whole mesh sees. */
export async function startKontrol({ databaseUrl, heartbeatMs }: { databaseUrl: string; heartbeatMs?: number | undefined }) {
  const startedAt = performance.now();
  kontrol = await createKontrol({ databaseUrl, heartbeatMs, log });
  const startMs = performance.now() - startedAt;
  await kontrol.ensureAccount({ username: "bench", kind: "service", admin: true });
  return { url: kontrol.url, kiteKey: await kontrol.issueKey("bench"), startMs };
}

/** A kite.key that kites in Go and of kite.js can read. */
export async function issueOlderKey({ kiteKey }: { kiteKey: string }): Promise<string> {
  await using root = new Kite({ name: "root", version: "1.0.0", kiteKey });
  return (await root.kontrol<KontrolContract>().keys.issue({ username: "bench", alg: "RS256" })).kiteKey;
}

/** After a full garbage collection, in bytes. */
export async function memory(): Promise<{ heap: number; rss: number }> {
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
