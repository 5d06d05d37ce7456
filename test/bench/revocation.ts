import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { callWith, Kite, method, type Remote } from "@kite-mesh/kite";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";
import { z } from "zod";
import { startPostgres } from "../../deploy/local/src/postgres.ts";
import { type Replicas, startReplicas } from "../replicas.ts";
import { until } from "../until.ts";

export interface RevocationFigures {
  samples: number;
  p50Ms: number;
  p99Ms: number;
}

export interface RevocationOptions {
  /** Each is one grant that is taken back, and a session for every way to a kite. Default 100, or 20 with restarts, which take seconds. */
  readonly rounds?: number;
  /** Whether in each round a replica is being stopped and started again while the grant is taken back. Default no. */
  readonly restarting?: boolean;
}

interface HeldContract {
  /** Answers when its session ends; who asked is told by `held`. */
  held(key: string): Promise<void>;
}

/** Kites and callers are in this process, so one clock is read on both sides. */
const held = new Map<string, { began(): void; ended(at: number): void }>();

const REPLICAS = 3;
const LIMIT_MS = 60_000;
// A restart takes two to three seconds where there are two cores.
const SPREAD_MS = 2_500;
const SPREAD_STEP_MS = 977;

/**
 * From the moment at which somebody asks for a grant to be taken back until the kite has ended a session that it opened:
 * over three kontrols as processes, for sessions that are direct, relayed, and relayed by way of another replica.
 */
export async function measureRevocation({
  restarting = false,
  rounds = restarting ? 20 : 100,
}: RevocationOptions = {}): Promise<RevocationFigures> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "kite-bench-revocation-"));
  const postgres = await startPostgres({ dataDir: path.join(folder, "postgres") });
  try {
    await using replicas = await startReplicas(postgres.url, { count: REPLICAS });
    const samples = await sampled(replicas, rounds, restarting);
    samples.sort((one, other) => one - other);
    return { samples: samples.length, p50Ms: quantile(samples, 0.5), p99Ms: quantile(samples, 0.99) };
  } finally {
    await postgres.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function sampled(replicas: Replicas, rounds: number, restarting: boolean): Promise<number[]> {
  const owner = await replicas.person("alice");
  const bob = await replicas.person("bob");
  const kites = await Promise.all([false, false, false, true].map((listens) => served(replicas, owner, listens)));
  const open = kites.flatMap((kite) => Array.from({ length: REPLICAS }, (_, door) => opener(replicas, bob, kite, door)));
  const alice = replicas.closing(new Kite({ name: "alice", version: "1.0.0", kiteKey: owner })).kontrol<KontrolContract>();
  const samples: number[] = [];
  for (let round = 0; round < rounds; round++) {
    let restarted: Promise<void> | undefined;
    const meanwhile = async () => {
      restarted = restart(replicas, round % REPLICAS);
      // Another moment of it in every round, from the first signal to the start.
      await pause((round * SPREAD_STEP_MS) % SPREAD_MS);
    };
    samples.push(...(await revoke(alice, open, restarting ? meanwhile : undefined)));
    await restarted;
  }
  return samples;
}

type Open = () => Promise<{ ended: Promise<number>; close(): Promise<void> }>;

/** One grant, from its beginning to the end of every session that it opened; answers with what each took. */
async function revoke(alice: Remote<KontrolContract>, callers: readonly Open[], before = async () => {}): Promise<number[]> {
  const grant = await untilDone("a grant", () => alice.grants.add({ username: "bob", role: "viewer", query: { name: "held" } }));
  const sessions = await Promise.all(callers.map((open) => untilDone("a session", open)));
  await before();
  const askedAt = performance.now();
  await untilDone("the end of the grant", async () => {
    await alice.grants.remove({ id: grant.id });
    return true;
  });
  const ended = await Promise.all(sessions.map((session) => session.ended));
  await Promise.all(sessions.map((session) => session.close()));
  // A session that a restart took with it was not ended by the revocation.
  return ended.map((at) => at - askedAt).filter((ms) => ms > 0);
}

async function served(replicas: Replicas, kiteKey: string, listens: boolean): Promise<Kite> {
  const hold = method({ role: "viewer", input: z.string() }, async (key, { signal }) => {
    held.get(key)?.began();
    await once(signal, "abort");
    held.get(key)?.ended(performance.now());
    held.delete(key);
  });
  const kite = replicas.closing(new Kite({ name: "held", version: "1.0.0", kiteKey, kontrolUrl: replicas.url, methods: { held: hold } }));
  if (listens) await kite.listen();
  await kite.register();
  return kite;
}

/** A way to the kite through one replica; the kite itself has its session with any of them. */
function opener(replicas: Replicas, kiteKey: string, { identity: { id } }: Kite, door: number): Open {
  return async () => {
    const route = ({ url }: { url: string }) => (url.includes("/relay/") ? `${replicas.at(door)}/relay/${id}` : url);
    const caller = new Kite({ name: "bob", version: "1.0.0", kiteKey, kontrolUrl: replicas.url, route });
    try {
      const remote = await caller.connect<HeldContract>({ id });
      const key = randomUUID();
      let began = () => {};
      const running = new Promise<void>((resolve) => (began = resolve));
      const ended = new Promise<number>((resolve) => held.set(key, { began, ended: resolve }));
      // It ends with the session, and never by itself.
      const call = callWith(remote, { timeoutMs: Number.POSITIVE_INFINITY }).held(key);
      await Promise.race([running, call]);
      call.catch(() => {});
      return { ended, close: () => caller.close() };
    } catch (thrown) {
      await caller.close();
      throw thrown;
    }
  };
}

async function restart(replicas: Replicas, index: number): Promise<void> {
  await replicas.stop(index);
  await replicas.start(index);
}

/** While replicas come and go some tries fail, which is not what is measured. */
function untilDone<T extends object | true>(what: string, work: () => Promise<T>): Promise<T> {
  return until(what, LIMIT_MS, work) as Promise<T>;
}

function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log("at rest", await measureRevocation());
  console.log("while replicas restart", await measureRevocation({ restarting: true }));
}
