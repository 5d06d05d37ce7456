import { createHash, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import {
  formatIdentity,
  Kite,
  KiteError,
  method,
  type Register,
  type Registered,
  type Remote,
  type Role,
  webSocketTransport,
} from "@kite-mesh/kite";
import { testCaller } from "@kite-mesh/kite/testing";
import { WebSocketServer } from "ws";
import { z } from "zod";
import type { KlientContract } from "./contract.ts";

/** As much of a kontrol as a klient needs: it joins machines, registers them and relays callers. */
export interface TestKontrol extends AsyncDisposable {
  readonly url: string;
  readonly joinToken: string;
  /** How many keys were handed out. */
  readonly joined: () => number;
  readonly registered: () => readonly Register[];
  /** The klient that registered last, called through the relay; waits until there is one. */
  connect(as?: { username?: string; role?: Role }): Remote<KlientContract>;
}

export async function startTestKontrol(): Promise<TestKontrol> {
  const signer = new Signer();
  const joinToken = randomUUID();
  const registrations: Register[] = [];
  let joined = 0;
  let url = "";

  const registerMachine = method({ role: "anyone", input: z.object({ joinToken: z.string() }) }, (request) => {
    if (request.joinToken !== joinToken || joined > 0)
      throw new KiteError("unauthenticated", "the join token is unknown or was used; ask for a new one");
    joined++;
    const iat = Math.floor(Date.now() / 1000);
    const claims = { iss: "kontrol", sub: "alice", iat, jti: randomUUID(), kontrolURL: url, kontrolKey: signer.publicPem };
    return { kiteKey: signer.jwt(claims) };
  });
  const register = method({ input: z.custom<Register>() }, (registration): Registered => {
    registrations.push(registration);
    return { kite: registration.kite, url: `${url}/relay/x`, generation: "1", heartbeatMs: 10_000, beat: () => {}, revocations: forever() };
  });
  const kite = new Kite({
    name: "kontrol",
    version: "1.0.0",
    username: "kontrol",
    methods: { registerMachine, register },
    authenticate: async (auth) => testCaller(auth === undefined ? { role: undefined } : {}),
  });
  const relay = new WebSocketServer({ noServer: true, handleProtocols: () => "kite.v1" });
  const listening = await kite.listen({
    upgrade: (request, socket, head) => {
      if (request.url?.startsWith("/relay/") !== true) return false;
      relay.handleUpgrade(request, socket, head, (webSocket) => void relayFrames(registrations.at(-1), webSocketTransport(webSocket)));
      return true;
    },
  });
  url = listening.url;

  const callers = new Kite({ name: "caller", version: "1.0.0", kontrolUrl: url });
  const connect = ({ username = "alice", role = "owner" as Role } = {}) =>
    callers.dial<KlientContract>({
      url: `${url}/relay/x`,
      auth: async () => {
        const registration = registrations.at(-1);
        if (registration === undefined) throw new KiteError("unavailable", "no klient has registered yet");
        const now = Math.floor(Date.now() / 1000);
        const times = { iat: now, nbf: now, exp: now + 600 };
        return {
          type: "token",
          key: signer.jwt({ iss: "kontrol", sub: username, aud: formatIdentity(registration.kite), ...times, jti: randomUUID(), role }),
        };
      },
    });
  return {
    url,
    joinToken,
    joined: () => joined,
    registered: () => registrations,
    connect,
    [Symbol.asyncDispose]: async () => {
      await callers.close();
      for (const webSocket of relay.clients) webSocket.terminate();
      await kite.close();
    },
  };
}

class Signer {
  readonly #keys = generateKeyPairSync("ed25519");
  readonly publicPem = this.#keys.publicKey.export({ type: "spki", format: "pem" }) as string;

  jwt(claims: object): string {
    const kid = createHash("sha256").update(this.publicPem).digest("hex").slice(0, 8);
    const text = [{ alg: "EdDSA", kid }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
    return `${text}.${sign(null, Buffer.from(text), this.#keys.privateKey).toString("base64url")}`;
  }
}

/** Moves frames between a caller and the klient, without looking at them. */
async function relayFrames(registration: Register | undefined, caller: ReturnType<typeof webSocketTransport>): Promise<void> {
  const frames: (string | Uint8Array)[] = [];
  let [closed, wake] = [false, () => {}];
  caller.start({
    frame: (frame) => {
      frames.push(frame);
      wake();
    },
    closed: () => {
      closed = true;
      wake();
    },
  });
  async function* incoming() {
    for (;;) {
      const frame = frames.shift();
      if (frame !== undefined) yield frame;
      else if (closed) return;
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  }
  try {
    const outgoing = await registration?.onLink?.({ id: randomUUID(), incoming: incoming() });
    for await (const frame of outgoing ?? []) caller.send(frame);
  } catch {
    // The klient is gone; its caller is told below.
  }
  caller.close(1000, "the klient has closed the link");
}

async function* forever(): AsyncGenerator<never> {
  await new Promise(() => {});
}
