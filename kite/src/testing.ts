import { type Remote, remote } from "./calling/remote.ts";
import { KiteError as Failure, type KiteError } from "./errors.ts";
import type { Identity } from "./identity.ts";
import { LIMITS, type Limits } from "./limits.ts";
import type { Caller, ContractOf, Methods } from "./method.ts";
import { type Middleware, serveMethods } from "./serving/serve.ts";
import { Acceptor, type Authenticate } from "./session/acceptor.ts";
import type { Auth } from "./session/handshake.ts";
import { Peer } from "./session/peer.ts";
import { type MemoryLink, memoryLink } from "./transport/memory.ts";
import type { Transport, TransportReceiver } from "./transport/transport.ts";
import { dialWebSocket } from "./transport/websocket.ts";
import type { RawFrame } from "./wire/v1.ts";

export { type FakeClock, fakeClock } from "./testing/fake-clock.ts";
export { type FakeKontrol, type FakeKontrolOptions, type FakeToken, fakeKontrol } from "./testing/fake-kontrol.ts";

/**
 * An identity for tests; every field can be replaced.
 *
 * @example const math = testIdentity({ name: "math", version: "1.2.0" });
 */
export function testIdentity(fields: Partial<Identity> = {}): Identity {
  return {
    username: "alice",
    environment: "test",
    name: "test",
    version: "1.0.0",
    region: "here",
    hostname: "host",
    id: "id-1",
    ...fields,
  };
}

/**
 * A verified caller for tests; an owner unless said otherwise.
 *
 * @example await using pair = await connectedPair(methods, { authenticate: async () => testCaller({ role: "viewer" }) });
 */
export function testCaller(fields: Partial<Caller> = {}): Caller {
  return { username: "alice", role: "owner", kite: undefined, expiresAt: undefined, methods: undefined, credential: undefined, ...fields };
}

/** How {@link connectedPair} is made; times in milliseconds. */
export interface PairOptions {
  /** Of both sides, where they differ from `LIMITS`. */
  readonly limits?: Partial<Limits>;
  /** The client's, where they differ from the server's. */
  readonly clientLimits?: Partial<Limits>;
  /** Around every call, as the kite's. Default: none. */
  readonly middleware?: readonly Middleware[];
  /** Who the client is. Default: {@link testCaller}, whatever it shows. */
  readonly authenticate?: Authenticate;
  /** What the client shows. Default: nothing. */
  readonly auth?: Auth;
  /** How long the session waits for the client to come back. Default 30,000. */
  readonly graceMs?: number;
  /** Default 10,000. */
  readonly heartbeatMs?: number;
}

/** A client and a server that share a session over memory transports; what a test can do to the link is listed here. */
export interface ConnectedPair<M extends Methods> extends AsyncDisposable {
  readonly client: Remote<ContractOf<M>>;
  /** The client's end: its state, its session and what is open in it. */
  readonly peer: Peer;
  /** The server's end, with its sessions. */
  readonly acceptor: Acceptor;
  /** Cuts the link as a pulled cable would; the client dials again by itself. */
  cut(): void;
  /** Makes dials fail until `mend` is called. */
  block(): void;
  mend(): void;
  /** Sends a frame as the other side never would. */
  inject(to: "client" | "server", raw: RawFrame): void;
  /** Everything that was sent before, in both directions, has arrived when this resolves. */
  fence(): Promise<void>;
  /** The link's frames so far, as they were sent. */
  readonly frames: { from: "client" | "server"; raw: RawFrame }[];
}

/**
 * Serves `methods` to a client in this process.
 *
 * @example
 * await using pair = await connectedPair({ square: method({ input: z.number() }, (n) => n * n) });
 * expect(await pair.client.square(12)).toBe(144);
 */
export async function connectedPair<const M extends Methods>(methods: M, options: PairOptions = {}): Promise<ConnectedPair<M>> {
  const limits = { ...LIMITS, ...options.limits };
  const { authenticate = async () => testCaller(), auth, graceMs, heartbeatMs, middleware } = options;
  const acceptor = new Acceptor({ limits, authenticate, graceMs, heartbeatMs, serve: serveMethods({ methods, middleware }) });
  const link = new TestLink(acceptor);
  const peer = new Peer({
    target: async () => ({ url: "memory:", auth }),
    dial: async () => link.dial(),
    limits: { ...limits, ...options.clientLimits },
    heartbeatMs,
    random: () => 0,
  });
  await peer.connect();
  return {
    client: remote<ContractOf<M>>(peer),
    peer,
    acceptor,
    frames: link.frames,
    cut: () => link.cut(),
    block: () => link.block(),
    mend: () => link.mend(),
    inject: (to, raw) => link.inject(to, raw),
    fence: () => fence(peer),
    [Symbol.asyncDispose]: async () => {
      await peer[Symbol.asyncDispose]();
      acceptor.close(new Failure("disconnected", "the test is over"));
    },
  };
}

/** Who a test's caller is, whom it calls, and what it serves to whom it calls. */
export interface CallingBackOptions {
  readonly url: string;
  readonly auth?: Auth;
  readonly identity?: Identity;
  readonly methods: Methods;
}

/**
 * A caller that serves methods itself, so that the kite it calls can call back. The test closes it.
 *
 * @example
 * const ask = method({ input: z.string() }, () => "yes");
 * await using kontrol = dialWithMethods<KontrolContract>({ url, auth: { type: "kiteKey", key }, methods: { ask } });
 */
export function dialWithMethods<C>({ url, auth, identity, methods }: CallingBackOptions): Remote<C> {
  const target = async () => ({ url, auth });
  return remote<C>(new Peer({ target, dial: dialWebSocket, limits: LIMITS, identity, serve: serveMethods({ methods }) }));
}

/**
 * Waits until `condition` holds, looking again after every turn of the event loop. A turn counts as 100 ms at most: what came while the
 * machine stood still is looked at before the time is up.
 *
 * @throws {KiteError} `deadline_exceeded` after `timeoutMs` milliseconds, with the condition.
 * @example await until(() => peerOf(math).state === "open");
 */
export async function until(condition: () => boolean, timeoutMs = 5_000): Promise<void> {
  let leftMs = timeoutMs;
  while (!condition()) {
    if (leftMs <= 0) throw new Failure("deadline_exceeded", `this did not come true within ${timeoutMs} ms: ${condition}`);
    const begin = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 1));
    leftMs -= Math.min(Math.max(Date.now() - begin, 1), MOST_OF_A_TURN_MS);
  }
}

const MOST_OF_A_TURN_MS = 100;

/** A round trip behind everything that was sent before it. An unknown method is answered in order, whatever the kite serves. */
async function fence(peer: Peer): Promise<void> {
  await peer.call("kite.fence", []).catch((error: KiteError) => {
    if (error.code !== "method_not_found") throw error;
  });
}

class TestLink {
  readonly frames: { from: "client" | "server"; raw: RawFrame }[] = [];
  readonly #acceptor: Acceptor;
  #current: MemoryLink | undefined;
  #blocked = false;

  constructor(acceptor: Acceptor) {
    this.#acceptor = acceptor;
  }

  dial(): Transport {
    if (this.#blocked) throw new Failure("unavailable", "the test blocks the link");
    this.#current = memoryLink();
    const [here, there] = this.#current.ends;
    this.#acceptor.accept(recorded(there, (raw) => this.frames.push({ from: "server", raw })));
    return recorded(here, (raw) => this.frames.push({ from: "client", raw }));
  }

  cut(): void {
    this.#current?.sever();
  }

  inject(to: "client" | "server", raw: RawFrame): void {
    this.#current?.ends[to === "server" ? 0 : 1].send(raw);
  }

  block(): void {
    this.#blocked = true;
  }

  mend(): void {
    this.#blocked = false;
  }
}

function recorded(transport: Transport, record: (raw: RawFrame) => void): Transport {
  return {
    start: (receiver: TransportReceiver) => transport.start(receiver),
    send: (raw) => {
      record(raw);
      transport.send(raw);
    },
    close: (code, reason) => transport.close(code, reason),
    get bufferedBytes() {
      return transport.bufferedBytes;
    },
  };
}
