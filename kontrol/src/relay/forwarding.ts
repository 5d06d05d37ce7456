import type { IncomingMessage } from "node:http";
import { connect as connectTcp, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { KiteError, type Logger } from "@kite-mesh/kite";
import type { Directory } from "../directory/directory.ts";
import type { Fresh } from "../directory/freshness.ts";
import type { Replicas } from "../presence/replicas.ts";
import { refuseUpgrade, type Upgrade } from "./upgrade.ts";

export interface ForwarderOptions {
  readonly directory: Directory;
  readonly replicas: Pick<Replicas, "find">;
  /** This process, as the `holder` of its leases. */
  readonly holder: string;
  /** Whether the kite's session is here. */
  readonly holds: (id: string) => boolean;
  readonly fresh: Fresh;
  /** Whether what asks may be passed on; all else is refused where it came, and counts there. */
  readonly admits: (request: IncomingMessage) => Promise<boolean>;
  /** Hears of what the other replica took: who showed what opens it there is no stranger here. Default: nobody does. */
  readonly onTaken?: ((request: IncomingMessage) => void) | undefined;
  readonly logger: Logger;
  /** How long another replica may take to answer. Default two seconds. */
  readonly timeoutMs?: number | undefined;
}

/** Marks what a replica passes on: whoever gets it serves it or refuses it, and never passes it on again. */
export const FORWARDED = "kontrol-forwarded";
// What is asked for by a kite's id, and answered where the kite's session is.
const BY_KITE = /^\/(?:relay|beats)\/([^/?]+)(?:\?|$)/;
// Replicas are neighbours; one that needs longer than this is down, and its kites are on their way to another.
const TIMEOUT_MS = 2_000;
// As many sockets again go to other replicas, and a process has some ten thousand.
const MOST_FORWARDED = 4_096;
const MOST_BEATS = 256;
// A peer that lives has taken what was left, and closed its side, by then.
const GOODBYE_MS = 2_000;
const KEEP_ALIVE_MS = 30_000;

/**
 * Passes on what belongs to a kite whose session is at another replica, so that a caller may come to any of them. Bytes go
 * through as they are, with TCP's own back-pressure. A token that is not good is refused where it came; who asks is decided
 * where the session is, and being passed on makes nobody more trusted. Whoever created it closes it.
 */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #open = new Set<Duplex>();
  #beats = 0;
  #closed = false;

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  /**
   * An upgrade handler that passes on what is for kites of other replicas, and leaves all else to `local`: also what could
   * not be passed on, so that it is refused in the same words, and a stranger learns as little.
   */
  around(local: Upgrade): Upgrade {
    return (request, socket, head) => {
      const id = kiteOf(request);
      if (id === undefined || this.#options.holds(id) || FORWARDED in request.headers) return local(request, socket, head);
      if (this.#closed || this.#open.size >= MOST_FORWARDED) {
        refuseUpgrade(socket, "503 Service Unavailable", "this kontrol passes on as many links as it can; try again in a moment");
        return true;
      }
      this.#track(socket);
      void this.#forward(request, socket, head).then((forwarded) => {
        if (forwarded || socket.destroyed) return;
        this.#open.delete(socket);
        if (!local(request, socket, head)) refuseUpgrade(socket, "404 Not Found", "nothing is here");
      });
      return true;
    };
  }

  /** The beat of a kite that came by HTTP to another replica. Undefined: that one cannot be asked. */
  async beat(id: string): Promise<"pong" | "registeragain" | undefined> {
    if (this.#beats >= MOST_BEATS) return undefined;
    this.#beats++;
    try {
      return await this.#reach(id, async (at) => {
        const signal = AbortSignal.timeout(this.#timeoutMs);
        const response = await fetch(`${at}/heartbeat?id=${encodeURIComponent(id)}`, { headers: { [FORWARDED]: "1" }, signal });
        const answer = await response.text();
        return answer === "pong" || answer === "registeragain" ? answer : undefined;
      });
    } finally {
      this.#beats--;
    }
  }

  /** Ends what is passed on. Callers come back over another replica, and their sessions with kites go on. */
  close(): void {
    this.#closed = true;
    for (const socket of this.#open) socket.destroy();
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? TIMEOUT_MS;
  }

  /** False when it belongs here, or there is nobody to take it. Never rejects. */
  async #forward(request: IncomingMessage, near: Duplex, head: Buffer): Promise<boolean> {
    if (!(await this.#options.admits(request))) return false;
    const far = await this.#reach(kiteOf(request) ?? "", (at) => ask(at, requestText(request), head, this.#timeoutMs));
    if (far === undefined) return false;
    if (isWelcome(far)) this.#options.onTaken?.(request);
    join(near, this.#track(far));
    return true;
  }

  /** Tries the replica that has the kite, and once more when the kite has gone to another one meanwhile. Never rejects. */
  async #reach<T>(id: string, attempt: (at: string) => Promise<T | undefined>): Promise<T | undefined> {
    const { directory, fresh, logger } = this.#options;
    for (let tries = 0; tries < 2; tries++) {
      const seen = directory.revision;
      const at = await this.#elsewhere(id);
      if (at === undefined) return undefined;
      try {
        return await attempt(at);
      } catch (thrown) {
        logger.info({ kite: id, err: KiteError.from(thrown, "unavailable") }, "the replica that has a kite could not be reached");
      }
      if (!(await fresh(seen))) return undefined;
    }
    return undefined;
  }

  /** Where the kite's session is, when that is another replica. */
  async #elsewhere(id: string): Promise<string | undefined> {
    const { directory, holder, replicas, fresh, holds } = this.#options;
    const isElsewhere = () => ![undefined, holder].includes(directory.kite(id)?.holder);
    // Registered elsewhere a moment ago, perhaps: the caller was told of it there.
    if (!isElsewhere()) await fresh(directory.revision);
    const at = directory.kite(id)?.holder;
    return at === undefined || at === holder || holds(id) ? undefined : replicas.find(at);
  }

  #track<T extends Duplex>(socket: T): T {
    this.#open.add(socket);
    socket.once("close", () => this.#open.delete(socket));
    return socket;
  }
}

/** Undefined for a request that is not for a kite's session. */
function kiteOf({ url = "/" }: IncomingMessage): string | undefined {
  try {
    const encoded = BY_KITE.exec(url)?.[1];
    return encoded === undefined ? undefined : decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}

/** The request as it came, and that it was passed on. */
function requestText({ url, rawHeaders }: IncomingMessage): string {
  const lines = [`GET ${url} HTTP/1.1`];
  for (let index = 0; index < rawHeaders.length; index += 2) lines.push(`${rawHeaders[index]}: ${rawHeaders[index + 1]}`);
  return `${[...lines, `${FORWARDED}: 1`].join("\r\n")}\r\n\r\n`;
}

/** Sends the request to a replica, and waits until it begins to answer: until then nothing is lost by giving it up. */
function ask(at: string, request: string, head: Buffer, timeoutMs: number): Promise<Socket> {
  const { protocol, hostname, port } = new URL(at);
  const host = hostname.replace(/^\[|\]$/g, "");
  const secure = protocol === "https:";
  const far = secure ? connectTls({ host, port: Number(port || 443), servername: host }) : connectTcp({ host, port: Number(port || 80) });
  return new Promise((resolve, reject) => {
    const fail = (cause?: Error) => {
      clearTimeout(late);
      far.destroy();
      reject(new KiteError("unavailable", `the replica at ${at} does not answer`, { cause }));
    };
    const late = setTimeout(fail, timeoutMs);
    // Its headers come from a parser that refuses line breaks in them.
    far.once(secure ? "secureConnect" : "connect", () => far.write(Buffer.concat([Buffer.from(request, "latin1"), head])));
    far.once("error", fail);
    far.once("close", fail);
    far.once("readable", () => {
      clearTimeout(late);
      far.off("error", fail).off("close", fail);
      resolve(far);
    });
  });
}

/** Whether what it began to answer with is the upgrade: for beats their ticket is looked at before that, for links the token was here. */
function isWelcome(far: Socket): boolean {
  const begun = far.read() as Buffer | null;
  if (begun === null) return false;
  far.unshift(begun);
  return begun.toString("latin1", 0, WELCOME.length) === WELCOME;
}

const WELCOME = "HTTP/1.1 101";

/** Everything that comes in on one side goes out on the other, at the pace of the slower; they end together. */
function join(near: Duplex, far: Socket): void {
  far.setNoDelay(true);
  // A replica that lost its power says nothing; the caller's own socket is asked the same way by the listener.
  far.setKeepAlive(true, KEEP_ALIVE_MS);
  for (const [one, other] of [
    [near, far],
    [far, near],
  ] as const) {
    one.on("error", () => one.destroy());
    one.once("close", () => {
      // The second to close: nobody would end the wait, and a kontrol that stops would go on for as long.
      if (other.destroyed) return;
      other.end();
      const late = setTimeout(() => other.destroy(), GOODBYE_MS);
      other.once("close", () => clearTimeout(late));
    });
    one.pipe(other);
  }
  if (near.destroyed) far.destroy();
}
