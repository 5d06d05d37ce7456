import { setTimeout as pause } from "node:timers/promises";
import { callWith, type Kite, KiteError, peerOf } from "@kite-mesh/kite";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";

/** What kloud needs from the rest of the mesh to bring a machine into it. */
export interface Mesh {
  /** Where a new machine's klient finds kontrol. */
  readonly kontrolUrl: string;
  /** A one-time token with which a machine obtains its owner's kite.key. Never logged, never stored by kloud. */
  joinToken(request: { username: string; purpose: string; signal: AbortSignal }): Promise<string>;
  /** Resolves once the klient of that machine is in the directory; waits until the signal ends it. */
  klientReady(request: KlientQuery): Promise<{ kiteId: string }>;
}

export interface KlientQuery {
  username: string;
  hostname: string;
  /** The id of a klient that has ended: the directory may still show it for a moment. */
  not: string | null;
  signal: AbortSignal;
}

/** The mesh that a kontrol keeps, as kloud's own kite reaches it. */
export function kontrolMesh(kiteOf: () => Kite, kontrolUrl: string): Mesh {
  return {
    kontrolUrl,
    async joinToken({ username, purpose, signal }) {
      const kontrol = callWith(kiteOf().kontrol<KontrolContract>(), { signal });
      const { joinToken } = await kontrol.joinTokens.create({ username, purpose });
      return joinToken;
    },
    async klientReady(query) {
      const { signal } = query;
      for (;;) {
        signal.throwIfAborted();
        const found = await firstKlient(kiteOf(), kontrolUrl, query).catch(waitThroughRestart(signal));
        if (found !== null) return { kiteId: found };
        await pause(RETRY_MS, undefined, { signal });
      }
    },
  };
}

// kontrol is back within a second or two after a restart, and one kloud asking twice a second is no burden.
const RETRY_MS = 500;

/** A person's klients are private: kontrol shows them to that person only, so kloud looks in the person's name. */
async function firstKlient(kite: Kite, kontrolUrl: string, { username, hostname, not, signal }: KlientQuery): Promise<string | null> {
  const auth = async () => {
    const { token, expiresAt } = await callWith(kite.kontrol<KontrolContract>(), { signal }).people.token({ username });
    return { type: "token", key: token, expiresAt };
  };
  const kontrol = kite.dial<KontrolContract>({ url: kontrolUrl, auth });
  try {
    const events = await callWith(kontrol, { signal }).watch({ query: { username, name: "klient", hostname } });
    for await (const event of events) {
      const there = event.type === "snapshot" ? event.kites : event.type === "registered" ? [event.kite] : [];
      const newest = there.filter(({ kite: { id } }) => id !== not).sort((a, b) => b.registeredAt - a.registeredAt);
      if (newest[0] !== undefined) return newest[0].kite.id;
    }
    return null;
  } finally {
    peerOf(kontrol).close();
  }
}

/** kontrol may restart while a machine boots; what it refuses for good ends the wait. */
function waitThroughRestart(signal: AbortSignal): (thrown: unknown) => null {
  return (thrown) => {
    const { code } = KiteError.from(thrown);
    if (!signal.aborted && PASSING.has(code)) return null;
    throw thrown;
  };
}

const PASSING: ReadonlySet<string> = new Set(["disconnected", "unavailable", "deadline_exceeded", "overloaded"]);
