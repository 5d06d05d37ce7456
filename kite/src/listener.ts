import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type ServerOpts, type Socket, type Server as TcpServer } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import { KiteError } from "./errors.ts";
import type { Limits } from "./limits.ts";
import { acceptSockjs } from "./transport/sockjs.ts";
import { answerSockjs, isSockjsSocket } from "./transport/sockjs-http.ts";
import { type Newcomer, Strangers } from "./transport/stranger.ts";
import type { Transport } from "./transport/transport.ts";
import { webSocketTransport } from "./transport/websocket.ts";
import { PROTOCOL } from "./wire/v1.ts";

/** Where a kite listens, and what else its port answers; every field may be left out. */
export interface ListenOptions {
  /** 0, the default, picks a free one. */
  port?: number | undefined;
  /** Default `127.0.0.1`: nothing is open to the network by omission. */
  host?: string | undefined;
  /** Answers plain HTTP requests on the same port. Default: 404. */
  http?: ((request: IncomingMessage, response: ServerResponse) => void) | undefined;
  /** May take an upgrade for itself by returning true; others become sessions of this kite. */
  upgrade?: ((request: IncomingMessage, socket: Duplex, head: Buffer) => boolean) | undefined;
  /** Where a request comes from, for a kite behind proxies that say so. Default: the other end of its socket. */
  sourceOf?: ((request: IncomingMessage) => string | undefined) | undefined;
  /**
   * Sees each connection before it is read, and calls `pass` once HTTP is next on it: for balancers that say first who connects.
   * Whatever it does not pass it destroys, in its own time limit.
   */
  prelude?: ((socket: Socket, pass: () => void) => void) | undefined;
}

/** Who takes the transports of a port, by the dialect that they carry. */
export interface Takers {
  /** Those that speak kite.v1. */
  readonly onTransport: (transport: Transport) => void;
  /** Those that name no subprotocol, and so speak dnode; left out, they are refused. */
  readonly onDnode?: ((transport: Transport) => void) | undefined;
}

/** An open port whose WebSockets become transports. Whoever opened it closes it. */
export class Listener {
  readonly url: string;
  readonly port: number;
  readonly #server: Server;
  /** Takes the connections; the server itself, unless something is read from them before. */
  readonly #door: TcpServer;
  readonly #sockets: WebSocketServer;
  /** Connections that HTTP has not, or no more. */
  readonly #upgraded: Set<Duplex>;

  private constructor(server: Server, door: TcpServer, sockets: WebSocketServer, upgraded: Set<Duplex>, host: string) {
    this.#server = server;
    this.#door = door;
    this.#sockets = sockets;
    this.#upgraded = upgraded;
    this.port = (door.address() as AddressInfo).port;
    this.url = `http://${host.includes(":") ? `[${host}]` : host}:${this.port}`;
  }

  /**
   * Opens the port.
   *
   * @throws {KiteError} `unavailable` naming the port when it is taken or not allowed.
   */
  static async open(options: ListenOptions, limits: Limits, takers: Takers): Promise<Listener> {
    const { port = 0, host = "127.0.0.1", http = notFound, upgrade, sourceOf = otherEnd } = options;
    const strangers = new Strangers(limits.frameBytes * 4);
    const sockets = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      // Room for the frame's own numbers around a message of the largest size, and for the batch before it.
      maxPayload: limits.frameBytes * 2,
      // Each is kept apart until the last has come, in a hundred bytes for one that has a single byte. A browser sends 64 KiB at a time.
      maxFragments: 1_024,
      handleProtocols: (offered) => (offered.has(PROTOCOL) ? PROTOCOL : false),
    });
    const answer: typeof http =
      takers.onDnode === undefined ? http : (request, response) => void (answerSockjs(request, response) || http(request, response));
    const server = createServer(serverOptions(limits), answer);
    const upgraded = new Set<Duplex>();
    server.on("upgrade", (request, socket, head) => {
      upgraded.add(socket);
      socket.once("close", () => upgraded.delete(socket));
      socket.on("error", () => socket.destroy());
      if (upgrade?.(request, socket, head)) return;
      const spoken = dialectOf(request, takers);
      if (spoken === undefined) return refuseUpgrade(socket);
      const { until, framed, take } = spoken;
      const remoteAddress = sourceOf(request);
      sockets.handleUpgrade(request, socket, head, (webSocket) => {
        const transport = framed(webSocketTransport(webSocket, socket));
        take(strangers.admit({ socket, webSocket, transport, remoteAddress, until }));
      });
    });
    const door = options.prelude === undefined ? server : doorBefore(server, { prelude: options.prelude, limits, open: upgraded });
    await listening(door, port, host);
    return new Listener(server, door, sockets, upgraded, host);
  }

  /** Takes no more connections; those that are there get a moment to say goodbye. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#door.close(() => resolve()));
    if (this.#door !== this.#server) this.#server.close();
    this.#sockets.close();
    this.#server.closeIdleConnections();
    const late = setTimeout(() => {
      this.#server.closeAllConnections();
      for (const socket of this.#upgraded) socket.destroy();
    }, GOODBYE_MS);
    await closed;
    clearTimeout(late);
  }
}

/** A port whose connections are HTTP's from when `prelude` passes them. */
function doorBefore(
  server: Server,
  { prelude, limits, open }: { prelude: NonNullable<ListenOptions["prelude"]>; limits: Limits; open: Set<Duplex> },
): TcpServer {
  const { keepAlive, keepAliveInitialDelay } = serverOptions(limits);
  // As a server of HTTP takes its connections itself.
  const options = { allowHalfOpen: true, noDelay: true, keepAlive, keepAliveInitialDelay } as ServerOpts;
  const door = createTcpServer(options, (socket) => {
    // Until HTTP has it, and its ways to end it.
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    prelude(socket, () => {
      open.delete(socket);
      server.emit("connection", socket);
    });
  });
  // Begins to look for those who are slow; without a port of its own it would not.
  server.emit("listening");
  return door;
}

/** Whoever is slow on purpose is shown out: a request has as long as a hello has to say what it is. */
function serverOptions({ helloMs }: Limits): ServerOptions {
  return {
    headersTimeout: Math.min(helloMs, HEADERS_MS),
    // By itself Node looks every half a minute, and gives the slow so much longer.
    connectionsCheckingInterval: Math.min(helloMs, CHECK_MS),
    // dnode has no word by which a client that was cut off would be missed; the operating system asks in its place.
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
  };
}

const HEADERS_MS = 60_000;
const CHECK_MS = 5_000;
const KEEP_ALIVE_MS = 30_000;

// A peer on the same continent has answered a close frame by then; one that has not will find out by itself.
const GOODBYE_MS = 500;

function listening(server: TcpServer, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const why =
        cause.code === "EADDRINUSE"
          ? "is taken by another program; choose another, or 0 for a free one"
          : `cannot be opened: ${cause.message}`;
      reject(new KiteError("unavailable", `port ${port} on ${host} ${why}`, { cause, reason: cause.code ?? "listen" }));
    });
    // Later errors, such as too many open files, concern one connection that was not taken; the server goes on.
    server.listen(port, host, () => resolve(void server.removeAllListeners("error").on("error", () => {})));
  });
}

function offers(request: IncomingMessage, protocol: string): boolean {
  const offered = request.headers["sec-websocket-protocol"] ?? "";
  return offered.split(",").some((name) => name.trim() === protocol);
}

interface Dialect {
  readonly until: Newcomer["until"];
  readonly framed: (socket: Transport) => Transport;
  readonly take: (transport: Transport) => void;
}

/**
 * What a socket will speak; undefined when nobody here does. Pages of any origin may connect, as they could to the original:
 * a socket has no rights of its own. Every call of dnode shows its credential in its message, and nothing that a browser adds
 * by itself, such as a cookie, is looked at.
 */
function dialectOf(request: IncomingMessage, { onTransport, onDnode }: Takers): Dialect | undefined {
  const bare = (socket: Transport): Transport => socket;
  if (offers(request, PROTOCOL)) return { until: "answered", framed: bare, take: onTransport };
  if (onDnode === undefined || request.headers["sec-websocket-protocol"] !== undefined) return undefined;
  return { until: "now", framed: isSockjsSocket(request) ? (socket) => acceptSockjs(socket) : bare, take: onDnode };
}

function refuseUpgrade(socket: Duplex): void {
  // Also when the peer keeps its half of the connection open, which would hold the socket for ever.
  socket.once("finish", () => socket.destroy());
  const body = `a WebSocket here speaks ${PROTOCOL}; offer it as subprotocol\n`;
  socket.end(
    `HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
}

function otherEnd({ socket }: IncomingMessage): string | undefined {
  return socket.remoteAddress;
}

function notFound(_: IncomingMessage, response: ServerResponse): void {
  response.writeHead(404, { "content-type": "text/plain" }).end("this is a kite; call it over kite.v1\n");
}
