import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type FoundKite, Kite, KiteError, type KiteOptions, type Logger, method, type Remote } from "@kite-mesh/kite";
import type { KontrolContract } from "./contract.ts";
import { createKontrol, type Kontrol, type KontrolOptions } from "./kontrol.ts";

/** A kontrol for tests, with its administrator `root` and whatever else a test opens through it; all of it is closed at the end. */
export interface TestKontrol extends AsyncDisposable {
  readonly kontrol: Kontrol;
  /** kontrol, called by its administrator. */
  readonly root: Remote<KontrolContract>;
  /** A person with a kite.key. */
  person(username: string): Promise<TestPerson>;
  /** A service with a kite.key, an administrator like those of a real mesh. */
  service(username: string): Promise<TestPerson>;
  /** Closes a kite at the end of the test. */
  closing<T extends AsyncDisposable>(resource: T): T;
}

export interface TestPerson {
  readonly username: string;
  readonly kiteKey: string;
  /** kontrol, called with this account's kite.key. */
  readonly kontrol: Remote<KontrolContract>;
  /** A kite of this account that answers `whoami` with who called; not registered yet. */
  kite(options?: Partial<KiteOptions>): Kite;
}

/** What the kites of tests serve. */
export interface WhoContract {
  who(): Promise<{ username: string; role: string }>;
}

export const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

export async function startTestKontrol(databaseUrl: string, options: Partial<KontrolOptions> = {}): Promise<TestKontrol> {
  const kontrol = await createKontrol({ databaseUrl, log: silent, ...options });
  const opened: AsyncDisposable[] = [kontrol];
  const closing = <T extends AsyncDisposable>(resource: T): T => {
    opened.push(resource);
    return resource;
  };
  const account = async (username: string, kind: "person" | "service", admin: boolean): Promise<TestPerson> => {
    await kontrol.ensureAccount({ username, kind, admin });
    const kiteKey = await kontrol.issueKey(username);
    const caller = closing(new Kite({ name: "test", version: "1.0.0", kiteKey, kontrolUrl: kontrol.url }));
    const make = (more: Partial<KiteOptions> = {}) =>
      closing(new Kite({ name: "who", version: "1.0.0", kiteKey, kontrolUrl: kontrol.url, methods: whoMethods, ...more }));
    return { username, kiteKey, kontrol: caller.kontrol<KontrolContract>(), kite: make };
  };
  const root = await account("root", "person", true);
  return {
    kontrol,
    root: root.kontrol,
    person: (username) => account(username, "person", false),
    service: (username) => account(username, "service", true),
    closing,
    [Symbol.asyncDispose]: async () => {
      for (const resource of opened.splice(0).reverse()) await resource[Symbol.asyncDispose]();
    },
  };
}

/** A wire to kontrol that a test can cut, or stop from carrying anything. */
export interface TestWire extends AsyncDisposable {
  readonly url: string;
  /** Drops all connections, as a machine does that lost its power, and takes no more. */
  cut(): void;
  /**
   * Keeps the connections, also those to come, and carries nothing any more, in either direction, not even their end. Of some
   * alone, by the path that they asked for; without those to come if that is said.
   */
  freeze(which?: { path?: RegExp; toCome?: boolean }): void;
}

export async function openTestWire(url: string): Promise<TestWire> {
  const { hostname, port } = new URL(url);
  const sockets = new Set<Socket>();
  const wires = new Set<{ path: string; frozen: boolean; freeze(): void }>();
  let isFrozen = (_path: string) => false;
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    const stop = () => {
      wire.frozen = true;
      for (const socket of [near, far]) socket.unpipe().pause();
    };
    const wire = { path: "", frozen: false, freeze: stop };
    wires.add(wire);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => void (wire.frozen || other.destroy()));
    }
    near.once("data", (head) => {
      wire.path = head.toString("latin1").split(" ", 2)[1] ?? "";
      if (isFrozen(wire.path)) return wire.freeze();
      far.write(head);
      near.pipe(far).pipe(near);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    server.close();
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const freeze: TestWire["freeze"] = ({ path = /^/, toCome = true } = {}) => {
    if (toCome) isFrozen = (asked) => path.test(asked);
    for (const wire of wires) if (path.test(wire.path)) wire.freeze();
  };
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    freeze,
    [Symbol.asyncDispose]: async () => {
      cut();
      if (server.listening) await once(server, "close");
    },
  };
}

/** The one kite that was found. */
export function only(kites: readonly FoundKite[]): FoundKite {
  const [kite] = kites;
  if (kite === undefined || kites.length > 1) throw new KiteError("internal", `expected one kite, got ${kites.length}`);
  return kite;
}

/** What every kite of a test answers. */
export const whoMethods = {
  who: method({ role: "viewer" }, ({ caller }) => ({ username: caller.username, role: caller.role ?? "none" })),
};
