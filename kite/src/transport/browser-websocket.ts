import { KiteError } from "../errors.ts";
import type { RawFrame } from "../wire/v1.ts";
import { closeArguments, type Transport, type TransportReceiver } from "./transport.ts";
import type { DialSocket } from "./websocket.ts";

/**
 * Opens a browser's own WebSocket to a kite.
 *
 * @throws {KiteError} `unavailable` when it cannot be reached, `cancelled` when the signal says so first.
 */
export const dialBrowserSocket: DialSocket = ({ url, protocols, signal }) =>
  new Promise((resolve, reject) => {
    if (signal.aborted) return reject(KiteError.from(signal.reason, "cancelled"));
    const socket = new WebSocket(url.replace(/^http/, "ws"), protocols);
    socket.binaryType = "arraybuffer";
    const transport = new BrowserSocketTransport(socket);
    const abort = () => {
      socket.close();
      reject(KiteError.from(signal.reason, "cancelled"));
    };
    signal.addEventListener("abort", abort, { once: true });
    socket.onopen = () => {
      signal.removeEventListener("abort", abort);
      resolve(transport);
    };
    socket.onerror = () => {
      signal.removeEventListener("abort", abort);
      reject(new KiteError("unavailable", `no kite answers at ${url}`));
    };
  });

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
