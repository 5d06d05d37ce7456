import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { KiteError, LIMITS, type Logger, PROTOCOL } from "@kite-mesh/kite";
import { type RawData, WebSocket, WebSocketServer } from "ws";

export interface KiteProxyOptions {
  /** Where the kite is reached, for this person; rejects with `not_found` for one that they may not see. */
  urlOf: (username: string, kiteId: string, signal: AbortSignal) => Promise<string>;
  log: Logger;
  /** How many links may be open, of one person and altogether. Default 64 and 1,024. */
  linksPerPerson?: number;
  links?: number;
  /** How often each side must show that it is alive, in milliseconds. Default 30 s. */
  heartbeatMs?: number;
}

const DEFAULTS = { linksPerPerson: 64, links: 1_024, heartbeatMs: 30_000 } as const;

/**
 * The browser's way to kites: moves frames between a page and a kite, without reading them. The session inside is end
 * to end, with the person's own token; what is decided here is only that somebody is signed in and may see the kite.
 */
export class KiteProxy implements AsyncDisposable {
  readonly #options: Required<KiteProxyOptions>;
  readonly #links = new Set<Link>();
  readonly #chosen = new WeakMap<IncomingMessage, string>();
  readonly #server: WebSocketServer;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #closing = new AbortController();

  constructor(options: KiteProxyOptions) {
    this.#options = { ...DEFAULTS, ...options };
    this.#server = new WebSocketServer({
      ...SOCKET,
      noServer: true,
      handleProtocols: (_offered, request) => this.#chosen.get(request) || false,
    });
    this.#heartbeat = setInterval(() => this.#beat(), this.#options.heartbeatMs);
  }

  /** Takes over an upgrade whose cookie and origin have been checked. */
  open(request: IncomingMessage, socket: Duplex, head: Buffer, to: { username: string; kiteId: string }): void {
    socket.on("error", () => socket.destroy());
    this.#open(request, socket, head, to).catch((thrown: unknown) => {
      const error = KiteError.from(thrown);
      const { cause } = error;
      const why = cause instanceof Error ? cause.message : undefined;
      this.#options.log.warn({ ...to, error: error.message, why }, "a browser was not connected with a kite");
      refuseUpgrade(socket, statusOf(error), error.message);
    });
  }

  /** Ends every link of a person who may no longer be here; returns how many there were. */
  endLinksOf(username: string): number {
    const theirs = [...this.#links].filter((link) => link.username === username);
    for (const link of theirs) link.end(POLICY_VIOLATION, "the session has ended; sign in again");
    return theirs.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#heartbeat);
    this.#closing.abort();
    for (const link of this.#links) link.end(GOING_AWAY, "the gateway is closing");
    this.#server.close();
  }

  async #open(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    { username, kiteId }: { username: string; kiteId: string },
  ): Promise<void> {
    const protocols = offeredProtocols(request);
    // Where a kite is, its owner says: with this, whatever else listens at that address and is no kite refuses the connection.
    if (!protocols.includes(PROTOCOL)) throw new KiteError("protocol_error", `a kite speaks ${PROTOCOL}; offer it as subprotocol`);
    this.#checkRoom(username);
    const link = new Link(username, () => this.#links.delete(link));
    this.#links.add(link);
    try {
      const signal = AbortSignal.any([AbortSignal.timeout(OPEN_MS), this.#closing.signal]);
      const url = await this.#options.urlOf(username, kiteId, signal);
      const kite = await dial(url, protocols, signal);
      link.kite = kite;
      if (socket.destroyed) return link.end(GOING_AWAY, "the browser has gone");
      this.#chosen.set(request, kite.protocol);
      this.#server.handleUpgrade(request, socket, head, (browser) => link.join(browser, kite));
    } catch (cause) {
      link.end(GOING_AWAY, "the kite could not be reached");
      throw cause;
    }
  }

  #checkRoom(username: string): void {
    const { links, linksPerPerson } = this.#options;
    const theirs = [...this.#links].filter((link) => link.username === username).length;
    if (theirs >= linksPerPerson)
      throw new KiteError("limit_exceeded", `${username} has ${theirs} links to kites open, the limit; close some pages`);
    if (this.#links.size >= links)
      throw new KiteError("overloaded", `the gateway has ${links} links to kites open, its limit; try again later`);
  }

  #beat(): void {
    for (const link of this.#links) link.beat();
  }
}

/** Both ends of one way through. Whichever closes first takes the other with it. */
class Link {
  readonly username: string;
  kite: WebSocket | undefined;
  #browser: WebSocket | undefined;
  readonly #onEnd: () => void;
  readonly #silent = new Set<WebSocket>();

  constructor(username: string, onEnd: () => void) {
    this.username = username;
    this.#onEnd = onEnd;
  }

  join(browser: WebSocket, kite: WebSocket): void {
    this.#browser = browser;
    this.#pump(browser, kite);
    this.#pump(kite, browser);
    kite.resume();
  }

  end(code: number, reason: string): void {
    for (const socket of [this.#browser, this.kite]) if (socket !== undefined) closeWith(socket, code, reason);
    this.#onEnd();
  }

  /** Ends a side that has not answered since the last beat: its computer sleeps, or its network is gone. */
  beat(): void {
    for (const socket of [this.#browser, this.kite]) {
      if (socket?.readyState !== WebSocket.OPEN) continue;
      if (this.#silent.has(socket)) socket.terminate();
      else {
        this.#silent.add(socket);
        socket.ping();
      }
    }
  }

  #pump(from: WebSocket, to: WebSocket): void {
    from.on("pong", () => this.#silent.delete(from));
    from.on("message", (data: RawData, isBinary: boolean) => {
      this.#silent.delete(from);
      if (to.readyState !== WebSocket.OPEN) return;
      to.send(data, { binary: isBinary }, () => {
        if (from.isPaused && to.bufferedAmount <= RESUME_BELOW_BYTES) from.resume();
      });
      // What the other side does not take stays with the sender, not here.
      if (to.bufferedAmount > PAUSE_ABOVE_BYTES) from.pause();
    });
    from.on("error", () => from.terminate());
    from.on("close", (code, reason) => {
      closeWith(to, code, reason.toString());
      this.#onEnd();
    });
  }
}

// A kite's frame and its own numbers around it; the ends know the exact limits and enforce them.
const SOCKET = { perMessageDeflate: false, maxPayload: LIMITS.frameBytes * 2 } as const;
const OPEN_MS = 10_000;
// Enough to keep a fast link busy for a moment, little enough that a thousand slow pages fit into memory.
const PAUSE_ABOVE_BYTES = 1024 * 1024;
const RESUME_BELOW_BYTES = 256 * 1024;
const MAX_PROTOCOLS = 4;

const GOING_AWAY = 1001;
const POLICY_VIOLATION = 1008;

function dial(url: string, protocols: string[], signal: AbortSignal): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace(/^http/, "ws"), protocols, { ...SOCKET, handshakeTimeout: OPEN_MS, followRedirects: false });
    const onAbort = () => socket.terminate();
    signal.addEventListener("abort", onAbort, { once: true });
    const ended = (cause: Error) => {
      signal.removeEventListener("abort", onAbort);
      // No word of why: to somebody who registers addresses, it would tell what listens behind the gateway.
      reject(new KiteError("unavailable", "the kite could not be reached", { cause }));
    };
    socket.on("error", ended);
    socket.once("open", () => {
      if (socket.protocol !== PROTOCOL) {
        socket.terminate();
        return ended(new Error(`who answers there speaks "${socket.protocol}"`));
      }
      signal.removeEventListener("abort", onAbort);
      socket.off("error", ended);
      // Until the browser's side stands, an error only ends the socket; what comes early waits in it.
      socket.on("error", () => socket.terminate());
      socket.pause();
      resolve(socket);
    });
    if (signal.aborted) onAbort();
  });
}

function offeredProtocols(request: IncomingMessage): string[] {
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  return offered.filter((name) => name !== "").slice(0, MAX_PROTOCOLS);
}

function closeWith(socket: WebSocket, code: number, reason: string): void {
  // 1005, 1006 and 1015 say that there was no close frame; they must not be put into one.
  if (code === 1005) socket.close();
  else if (code === 1006 || code === 1015) socket.terminate();
  else socket.close(code, reason.slice(0, 40));
}

function statusOf(error: KiteError): number {
  if (error.code === "not_found" || error.code === "permission_denied") return 404;
  if (error.code === "protocol_error") return 426;
  if (error.code === "limit_exceeded" || error.code === "overloaded") return 503;
  return 502;
}

const STATUS_TEXT: Readonly<Record<number, string>> = {
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  426: "Upgrade Required",
  502: "Bad Gateway",
  503: "Service Unavailable",
};

/** Answers an upgrade that is not taken, in a sentence. */
export function refuseUpgrade(socket: Duplex, status: number, sentence: string): void {
  if (socket.destroyed || !socket.writable) return;
  const body = `${sentence}\n`;
  const head = `HTTP/1.1 ${status} ${STATUS_TEXT[status] ?? "Error"}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
  socket.end(head + body);
}
