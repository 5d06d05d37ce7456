import { randomUUID } from "node:crypto";
import { Kite, type Query, type Registered } from "@kite-mesh/kite";
import { type Measured, measure } from "../../in-flight.ts";
import type { Load } from "../outcome.ts";

/** A kite with its session at kontrol. */
interface Member {
  readonly kite: Kite;
  registered: Registered;
}

const members: Member[] = [];
/** Asks, and serves nothing. */
let asking: Kite[] = [];

/** Opens sessions and registers a kite in each; the names go around. */
export async function enter({ kiteKey, names, count }: { kiteKey: string; names: string[]; count: number }): Promise<void> {
  const waiting = Array.from({ length: count }, (_, index) => names[index % names.length] ?? "bench");
  const lane = async () => {
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      const kite = newKite(kiteKey, name);
      members.push({ kite, registered: await registerRaw(kite) });
    }
  };
  await Promise.all(Array.from({ length: 64 }, lane));
}

// Half of what kontrol asks for: a busy machine must not lose them.
const BEAT_MS = 5_000;
setInterval(() => members.map(({ registered }) => stayIn(registered)), BEAT_MS).unref();

async function stayIn({ beat }: Registered): Promise<void> {
  try {
    await beat();
  } catch {
    // Another registration has taken its place meanwhile.
  }
}

/** Kites whose sessions are open register again, as all do when a kontrol has restarted. */
export function registerAgain(load: Load): Promise<Measured> {
  const free = [...members];
  return under(load, async () => {
    const member = free.pop();
    if (member === undefined) throw new Error(`${load.inFlight} in flight need as many kites; there are ${members.length}`);
    const before = member.registered;
    member.registered = await registerRaw(member.kite);
    release(before);
    free.push(member);
  });
}

const newcomers: Kite[] = [];

/** Each registration is that of a new kite: its socket, its session, its kite.key verified. */
export function registerAnew({ kiteKey, ...load }: Load & { kiteKey: string }): Promise<Measured> {
  return under(load, async () => {
    const kite = newKite(kiteKey, "newcomer");
    newcomers.push(kite);
    await kite.register({ url: "http://127.0.0.1:9" });
  });
}

export async function leaveAll(): Promise<void> {
  await Promise.all(newcomers.splice(0).map((kite) => kite.close()));
}

/** What a registered kite says every ten seconds. */
export function beat(load: Load): Promise<Measured> {
  let turn = 0;
  return under(load, async () => members[turn++ % members.length]?.registered.beat());
}

export async function ask({ kiteKey, sessions }: { kiteKey: string; sessions: number }): Promise<void> {
  asking = Array.from({ length: sessions }, () => new Kite({ name: "asking", version: "1.0.0", kiteKey }));
  await Promise.all(asking.map((kite) => kite.kontrol().getKey()));
}

interface Search extends Load {
  names: string[];
  wanted: number;
}

/** Finds kites by name, through the library; what comes back opens each of them. */
export function find(search: Search): Promise<Measured> {
  return searching(search, (kite, query) => kite.find(query));
}

/** As {@link find}, for somebody who has no answer from before. */
export function findInFull(search: Search): Promise<Measured> {
  return searching(search, async (kite, query) => (await kite.kontrol().getKites({ query })).kites);
}

function searching({ names, wanted, ...load }: Search, ask: (kite: Kite, query: Query) => Promise<unknown[]>): Promise<Measured> {
  let turn = 0;
  return under(load, async () => {
    // Those who ask the same at the same time share one question; there are more names than questions in flight.
    const name = names[turn % names.length] ?? "";
    const kite = asking[turn++ % asking.length];
    const found = kite === undefined ? [] : await ask(kite, { name });
    if (found.length !== wanted) throw new Error(`expected ${wanted} kites called ${name}, found ${found.length}`);
  });
}

function under({ inFlight, forMs }: Load, call: () => Promise<unknown>): Promise<Measured> {
  return measure(call, inFlight, forMs);
}

function newKite(kiteKey: string, name: string): Kite {
  return new Kite({ name, version: "1.0.0", kiteKey, id: randomUUID() });
}

/** Without what keeps a kite registered: beats and registrations are what is measured. */
async function registerRaw(kite: Kite): Promise<Registered> {
  const url = "http://127.0.0.1:9";
  return kite.kontrol().register({ kite: kite.identity, url, visibility: "mesh", labels: { zone: "eu-1", load: "0.2" } });
}

function release({ beat, revocations }: Registered): void {
  (beat as Partial<Disposable>)[Symbol.dispose]?.();
  // It has ended: another registration took its place.
  void revocations[Symbol.asyncIterator]()
    .return?.()
    .catch(() => {});
}
