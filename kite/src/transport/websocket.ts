import type { createConnection } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocket } from "ws";
import { KiteError } from "../errors.ts";
import type { RawFrame } from "../wire/v1.ts";
import { unmaskEarly } from "./early-unmask.ts";
import { connectRoomy } from "./roomy-socket.ts";
import { maskedFrame, textFrame } from "./socket-frame.ts";
import { closeArguments, ORIGINAL, REFUSED, type Transport, type TransportReceiver } from "./transport.ts";

/** How a client opens a socket, or whatever else carries frames. Rejects with `unavailable` when nobody answers, and gives up with its signal. */
export type DialSocket = (request: DialRequest) => Promise<Transport>;

/** What is dialled, and what may come back. */
export interface DialRequest {
  /** `ws:`, `wss:`, `http:` or `https:` for a WebSocket; a dialer for another scheme gets urls of that one. */
  url: string;
  /** The subprotocols of WebSocket to offer, the first one preferred; none for the dnode dialect. */
  protocols: string[];
  /** A larger frame from the peer closes the transport with 1009. */
  maxFrameBytes: number;
  /** Gives the dial up; a transport that stands is not touched by it. */
  signal: AbortSignal;
}

/**
 * Opens a WebSocket to a kite.
 *
 * @throws {KiteError} `unavailable` when it cannot be reached, `cancelled` when the signal says so first.
 */
export const dialWebSocket: DialSocket = ({ url, protocols, maxFrameBytes, signal }) =>
  new Promise((resolve, reject) => {
    if (signal.aborted) return reject(KiteError.from(signal.reason, "cancelled"));
    const socket = open(url, protocols, maxFrameBytes);
    let connection: Duplex | undefined;
    socket.once("upgrade", (response) => (connection = response.socket));
    const abort = () => {
      socket.terminate();
      reject(KiteError.from(signal.reason, "cancelled"));
    };
    signal.addEventListener("abort", abort, { once: true });
    socket.on("error", (cause) => {
      signal.removeEventListener("abort", abort);
      const { code, message } = cause as NodeJS.ErrnoException;
      const isOriginal = ORIGINAL_WELCOME.test(message);
      const reason = isOriginal ? ORIGINAL : code === "ECONNREFUSED" ? REFUSED : undefined;
      const why = isOriginal ? `${message}; ${IN_DNODE}` : message || code;
      reject(new KiteError("unavailable", `no kite answers at ${url}: ${why}`, { cause, ...(reason && { reason }) }));
    });
    socket.once("open", () => {
      signal.removeEventListener("abort", abort);
      resolve(new WebSocketTransport(socket, connection, { masks: true }));
    });
  });

function open(url: string, protocols: string[], maxPayload: number): WebSocket {
  try {
    const address = toSocketUrl(url);
    return new WebSocket(address, protocols, { perMessageDeflate: false, maxPayload, ...(address.startsWith("ws:") && ROOMY) });
  } catch (cause) {
    throw new KiteError("invalid_argument", `an address of a kite was expected, such as http://127.0.0.1:3636; got ${url}`, { cause });
  }
}

/**
 * Carries frames over a socket of `ws`, on either side. The socket belongs to it from now on, and is closed with it. A server may
 * pass the connection that it upgraded, too, before anything was read from it: its frames are then read and written faster.
 *
 * @example
 * const server = new WebSocketServer({ port: 3636, handleProtocols: () => PROTOCOL });
 * server.on("connection", (socket, { socket: connection }) => kite.serve(webSocketTransport(socket, connection)));
 */
export function webSocketTransport(socket: WebSocket, accepted?: Duplex): Transport {
  if (accepted !== undefined) unmaskEarly(accepted);
  // What `ws` compresses leaves later: what is written past it would overtake that.
  const connection = socket.extensions === "" ? accepted : undefined;
  return new WebSocketTransport(socket, connection, { masks: false });
}

// Of all the ways to call `createConnection` only the one with options is used. TLS hands out 16 KiB at a time, whatever room there is.
const ROOMY = { createConnection: connectRoomy as typeof createConnection };

// How a kite of the original's meets a dial of kite.v1: one in Go welcomes it to SockJS, one of kite.js opens a plain WebSocket.
const ORIGINAL_WELCOME = /^(Unexpected server response: 200|Server sent no subprotocol)$/;
const IN_DNODE = 'a kite in Go or of kite.js is called with kite.dial({ url, dialect: "dnode" })';

/** `http://host:1/kite` → `ws://host:1/kite`. */
function toSocketUrl(url: string): string {
  return url.replace(/^http/, "ws");
}

class WebSocketTransport implements Transport {
  readonly #socket: WebSocket;
  /** What the socket writes to, where it is known: most frames are written faster here. */
  readonly #connection: Duplex | undefined;
  /** Whether it is the client's end. */
  readonly #masks: boolean;
  #closing = false;
  #refused: { code: number; reason: string } | undefined;

  constructor(socket: WebSocket, connection: Duplex | undefined, { masks }: { masks: boolean }) {
    this.#socket = socket;
    this.#connection = connection;
    this.#masks = masks;
    // Without a listener an error would end the process. The close event that follows says 1006 for all of them.
    socket.on("error", (error: NodeJS.ErrnoException) => {
      const code = UNREADABLE[error.code ?? ""];
      if (code !== undefined) this.#refused = { code, reason: error.message };
    });
    socket.pause();
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  start(receiver: TransportReceiver): void {
    this.#socket.on("message", (data: Buffer, isBinary: boolean) => receiver.frame(isBinary ? plainBytes(data) : data.toString("utf8")));
    if (this.#socket.readyState === WebSocket.CLOSED) receiver.closed({ code: 1006, reason: "the socket had closed" });
    else this.#socket.once("close", (code, reason) => receiver.closed(this.#refused ?? { code, reason: reason.toString("utf8") }));
    this.#socket.resume();
  }

  send(frame: RawFrame, taken?: () => void): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const connection = this.#connection;
    const masked = this.#masks;
    // In order with what `ws` sends: without compression that is written at once, to the same connection.
    if (connection !== undefined && typeof frame === "string") connection.write(textFrame(frame, { masked }), taken);
    else if (connection !== undefined && masked) connection.write(maskedFrame(frame as Uint8Array), taken);
    // Bytes that need no mask are written from where they are.
    else this.#socket.send(frame, taken);
  }

  close(code: number, reason: string): void {
    this.#socket.close(...closeArguments(code, reason));
    if (this.#socket.readyState === WebSocket.CLOSED || this.#closing) return;
    this.#closing = true;
    // A peer that is gone never answers the close frame; do not wait for it longer than it takes a healthy one.
    const timer = setTimeout(() => this.#socket.terminate(), CLOSE_WAIT_MS);
    timer.unref();
    this.#socket.once("close", () => clearTimeout(timer));
  }
}

const CLOSE_WAIT_MS = 2_000;

/** Handlers must not see that a Buffer carried their bytes: what is in Node's pool has other bytes beside it, and goes to no worker. */
function plainBytes({ buffer, byteOffset, byteLength }: Buffer): Uint8Array {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  return buffer.byteLength === Buffer.poolSize ? bytes.slice() : bytes;
}

/** What this side could not take in, by the names of `ws`, as the close code that the peer is told. */
const UNREADABLE: Record<string, number | undefined> = {
  WS_ERR_UNSUPPORTED_MESSAGE_LENGTH: 1009,
  WS_ERR_TOO_MANY_BUFFERED_PARTS: 1009,
  WS_ERR_INVALID_UTF8: 1007,
};
