import { KiteError } from "@kite-mesh/kite";
import { WebSocket } from "ws";
import { Feed } from "../directory/feed.ts";

export type Frame = string | Uint8Array;

export interface LinkLimits {
  readonly frameBytes: number;
  /** Frames that wait for the kite. Above it the caller's socket is not read. */
  readonly bufferedBytes: number;
  /** Without a frame in either direction for this long, the link is closed; a session that needs it opens another. */
  readonly idleMs: number;
  /** How often the caller's socket is asked whether it lives. */
  readonly pingMs: number;
}

export const LINK_LIMITS: LinkLimits = {
  // As the listener of a kite: room for a message of the largest size and the batch around it.
  frameBytes: 32 * 1024 * 1024,
  // What a link of 100 Mbit/s carries in 80 ms: more would only wait here instead of at the sender.
  bufferedBytes: 1024 * 1024,
  idleMs: 10 * 60_000,
  pingMs: 30_000,
};

/** Why a relay closes a caller's socket, in WebSocket's range for applications; below are kite's own. */
export const LINK_CLOSE = {
  /** The kite ended the link. */
  ended: 4000,
  /** The token did not open this link, or was revoked since. */
  refused: 4002,
  /** Nothing was said for too long. */
  idle: 4003,
  /** The kite is not there, or went away. */
  gone: 4404,
} as const;

/** What links moved, in bytes; one for all links of a relay. */
export interface Traffic {
  toKites: number;
  toCallers: number;
}

/** Moves the frames of one caller to and from a kite, and looks into none of them. Ends when either side does. */
export class RelayedLink {
  readonly #socket: WebSocket;
  readonly #limits: LinkLimits;
  readonly #traffic: Traffic;
  readonly #incoming: Feed<Frame>;
  readonly #alive: NodeJS.Timeout;
  #waitingBytes = 0;
  #answered = true;
  #lastFrameMs = performance.now();
  #outgoing: AsyncIterator<Frame> | undefined;

  constructor(socket: WebSocket, limits: LinkLimits, traffic: Traffic, onClosed: () => void) {
    this.#socket = socket;
    this.#limits = limits;
    this.#traffic = traffic;
    this.#incoming = new Feed<Frame>({ onTake: (frame) => this.#taken(frame) });
    this.#alive = setInterval(() => this.#checkAlive(), limits.pingMs);
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      traffic.toKites += data.length;
      this.#received(isBinary ? bytesOf(data) : data.toString("utf8"));
    });
    socket.on("pong", () => (this.#answered = true));
    // An error is followed by close, which says all there is to do.
    socket.on("error", () => {});
    socket.once("close", () => {
      clearInterval(this.#alive);
      this.#incoming.end();
      // The kite's side may wait for its next frame for ever; this is how it learns that nobody listens.
      void Promise.resolve(this.#outgoing?.return?.()).catch(() => {});
      onClosed();
    });
  }

  /** Frames from the caller. */
  get incoming(): AsyncIterable<Frame> {
    return this.#incoming;
  }

  /** Sends the kite's frames to the caller until there are no more; never rejects. */
  async pump(frames: AsyncIterable<Frame>): Promise<void> {
    try {
      const outgoing = frames[Symbol.asyncIterator]();
      this.#outgoing = outgoing;
      for (;;) {
        const { done, value } = await outgoing.next();
        if (done || this.#socket.readyState !== WebSocket.OPEN) break;
        await this.#send(value);
      }
      this.close(LINK_CLOSE.ended, "the kite ended the link");
    } catch (thrown) {
      this.close(LINK_CLOSE.gone, `the kite went away: ${KiteError.from(thrown).message}`);
    }
  }

  close(code: number, reason: string): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    this.#socket.close(code, closeReason(reason));
    // Whoever does not answer the close frame does not keep the socket.
    const late = setTimeout(() => this.#socket.terminate(), CLOSE_WAIT_MS);
    this.#socket.once("close", () => clearTimeout(late));
  }

  async #send(frame: Frame): Promise<void> {
    if (typeof frame !== "string" && !(frame instanceof Uint8Array)) throw new KiteError("protocol_error", "frames are strings or bytes");
    this.#lastFrameMs = performance.now();
    this.#traffic.toCallers += Buffer.byteLength(frame);
    if (this.#socket.bufferedAmount < this.#limits.bufferedBytes) return void this.#socket.send(frame);
    // Only here is the caller slow; the stream from the kite is not pulled until this frame has left.
    await new Promise<void>((sent) => this.#socket.send(frame, () => sent()));
  }

  #received(frame: Frame): void {
    this.#lastFrameMs = performance.now();
    this.#waitingBytes += frame.length;
    this.#incoming.push(frame);
    if (this.#waitingBytes >= this.#limits.bufferedBytes) this.#socket.pause();
  }

  #taken(frame: Frame): void {
    this.#waitingBytes -= frame.length;
    if (this.#socket.isPaused && this.#waitingBytes < this.#limits.bufferedBytes / 2) this.#socket.resume();
  }

  #checkAlive(): void {
    if (performance.now() - this.#lastFrameMs > this.#limits.idleMs) return this.close(LINK_CLOSE.idle, "nothing was said for too long");
    // A socket that is not read cannot be heard either.
    if (this.#socket.isPaused) return;
    if (!this.#answered) return this.#socket.terminate();
    this.#answered = false;
    this.#socket.ping();
  }
}

const CLOSE_WAIT_MS = 2_000;

function bytesOf(data: Buffer): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** As much of a reason as a close frame holds, which is 123 bytes (RFC 6455, 5.5); `ws` throws when there are more. */
export function closeReason(reason: string): string {
  return Buffer.from(reason)
    .subarray(0, 123)
    .toString("utf8")
    .replace(/\uFFFD+$/, "");
}
