import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import type { RawFrame } from "../wire/v1.ts";
import type { Transport, TransportReceiver } from "./transport.ts";

/** A socket that was just opened, and what it speaks. */
export interface Newcomer {
  readonly socket: Duplex;
  readonly webSocket: WebSocket;
  readonly transport: Transport;
  /**
   * When a peer is no stranger any more: in kite.v1 when it was answered, which is the welcome; in dnode, whose calls each
   * show their own credential, when a whole message has come.
   */
  readonly until: "answered" | "heard";
}

/**
 * What strangers may send. A WebSocket gathers a frame until it is whole, and only then shows it to anybody: without this
 * bound, whoever connects and begins a frame that never ends fills the memory, with no more than an address to connect to.
 */
export class Strangers {
  readonly #room: number;
  #taken = 0;

  /** `room` is how many bytes all those that speak dnode may send together, beyond what each of them has. */
  constructor(room: number) {
    this.#room = room;
  }

  /** The newcomer's transport. What it sends is counted while it is a stranger; too much closes its socket. */
  admit({ socket, webSocket, transport, until }: Newcomer): Transport {
    let came = 0;
    let shared = 0;
    const known = (): void => {
      socket.off("data", count).off("close", known);
      this.#taken -= shared;
      shared = 0;
    };
    const count = ({ length }: Buffer): void => {
      came += length;
      const beyond = Math.max(0, came - OWN_BYTES);
      // A call of dnode is the first message of its session, and may be a large one.
      if (beyond > 0 && (until === "answered" || this.#taken - shared + beyond > this.#room)) {
        known();
        webSocket.close(TOO_BIG, `a stranger may send ${OWN_BYTES} bytes; more came`);
        // Not when the peer has answered: it would go on sending until then.
        socket.end(() => socket.destroy());
        return;
      }
      this.#taken += beyond - shared;
      shared = beyond;
    };
    // Beside the listener of `ws`, which is there already: both get every chunk.
    socket.on("data", count).on("close", known);
    return new StrangersTransport(transport, until, known);
  }
}

class StrangersTransport implements Transport {
  readonly #transport: Transport;
  readonly #until: Newcomer["until"];
  #known: (() => void) | undefined;

  constructor(transport: Transport, until: Newcomer["until"], known: () => void) {
    this.#transport = transport;
    this.#until = until;
    this.#known = known;
  }

  get bufferedBytes(): number {
    return this.#transport.bufferedBytes;
  }

  start(receiver: TransportReceiver): void {
    if (this.#until === "answered") return this.#transport.start(receiver);
    this.#transport.start({
      frame: (raw) => {
        this.#admitted();
        receiver.frame(raw);
      },
      closed: (why) => receiver.closed(why),
    });
  }

  send(frame: RawFrame, taken?: () => void): void {
    this.#admitted();
    this.#transport.send(frame, taken);
  }

  close(code: number, reason: string): void {
    this.#transport.close(code, reason);
  }

  #admitted(): void {
    if (this.#known === undefined) return;
    this.#known();
    this.#known = undefined;
  }
}

// A hello has at most 64 KiB; the rest is for the frame around it and for a proxy's pings.
const OWN_BYTES = 68 * 1024;

// WebSocket's code for a message that is too big to process (RFC 6455, 7.4.1).
const TOO_BIG = 1009;
