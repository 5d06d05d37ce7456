import { waitUntil } from "../abortable.ts";
import { KiteError } from "../errors.ts";
import type { RawFrame } from "../wire/v1.ts";
import { closeArguments, type Transport, type TransportReceiver } from "./transport.ts";
import type { DialSocket } from "./websocket.ts";

/**
 * Opens a browser's own WebSocket to a kite.
 *
 * @throws {KiteError} `unavailable` when it cannot be reached, `cancelled` when the signal says so first.
 */
export const dialBrowserSocket: DialSocket = async ({ url, protocols, signal }) => {
  const socket = new WebSocket(url.replace(/^http/, "ws"), protocols);
  socket.binaryType = "arraybuffer";
  const transport = new BrowserSocketTransport(socket);
  const opened = new Promise<Transport>((resolve, reject) => {
    socket.onopen = () => resolve(transport);
    socket.onerror = () => reject(new KiteError("unavailable", `no kite answers at ${url}`));
  });
  // Also one that failed: that does nothing more to it.
  return waitUntil(opened, signal).catch((thrown: unknown) => {
    socket.close();
    throw thrown;
  });
};

class BrowserSocketTransport implements Transport {
  readonly #socket: WebSocket;
  #receiver: TransportReceiver | undefined;
  #early: RawFrame[] = [];
  #closed: { code: number; reason: string } | undefined;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#take(typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer));
    socket.onclose = ({ code, reason }) => {
      this.#closed = { code, reason };
      this.#receiver?.closed(this.#closed);
    };
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  start(receiver: TransportReceiver): void {
    this.#receiver = receiver;
    for (const frame of this.#early.splice(0)) receiver.frame(frame);
    if (this.#closed !== undefined) receiver.closed(this.#closed);
  }

  send(frame: RawFrame): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(frame as string | Uint8Array<ArrayBuffer>);
  }

  close(code: number, reason: string): void {
    this.#socket.close(...closeArguments(code, reason));
  }

  #take(frame: RawFrame): void {
    if (this.#receiver === undefined) this.#early.push(frame);
    else this.#receiver.frame(frame);
  }
}
