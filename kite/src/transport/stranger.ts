import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import type { RawFrame } from "../wire/v1.ts";
import type { Transport, TransportReceiver } from "./transport.ts";

/** A socket that was just opened, and what it speaks. */
export interface Newcomer {
  readonly socket: Duplex;
  readonly webSocket: WebSocket;
  readonly transport: Transport;
  /** Where it comes from, if that is known. */
  readonly remoteAddress: string | undefined;
  /**
   * From when on it may send more than a hello at a time: in kite.v1 when it was answered, which is the welcome; in dnode,
   * whose calls each show their own credential, at once.
   */
  readonly until: "answered" | "now";
}

/**
 * What strangers may send. A WebSocket gathers a frame until it is whole, and only then shows it to anybody: without this
 * bound, whoever connects and begins a frame that never ends fills the memory, with no more than an address to connect to.
 */
export class Strangers {
  readonly #room: number;
  #taken = 0;

  /** `room` is how many bytes all of them may have begun together, beyond what each of them has. */
  constructor(room: number) {
    this.#room = room;
  }

  /** The newcomer's transport. A frame that it has begun is counted until `admit` says that it is known; too much closes its socket. */
  admit({ socket, webSocket, transport, remoteAddress, until }: Newcomer): Transport {
    let begun = 0;
    let shared = 0;
    let mayShare = until === "now";
    const share = (bytes: number): void => {
      this.#taken += bytes - shared;
      shared = bytes;
    };
    const known = (): void => {
      socket.off("data", count).off("close", known);
      share(0);
    };
    const count = ({ length }: Buffer): void => {
      begun += Math.max(length, LEAST_BYTES);
      const beyond = Math.max(0, begun - OWN_BYTES);
      if (beyond > 0 && (!mayShare || this.#taken - shared + beyond > this.#room)) {
        known();
        webSocket.close(TOO_BIG, `a stranger may send ${OWN_BYTES} bytes; more came`);
        // Not when the peer has answered: it would go on sending until then.
        socket.end(() => socket.destroy());
        return;
      }
      share(beyond);
    };
    // Before the listener of `ws`, which is there already: a frame that is whole with this chunk leaves nothing begun.
    socket.prependListener("data", count).on("close", known);
    return new StrangersTransport(transport, remoteAddress, {
      // Before the answer there is nothing but one hello: what comes behind it counts together with it.
      whole: () => {
        if (!mayShare) return;
        begun = 0;
        share(0);
      },
      answered: () => {
        if (!mayShare) begun = 0;
        mayShare = true;
      },
      known,
    });
  }
}

/** What a listener wants to hear of a newcomer. */
interface Progress {
  whole(): void;
  answered(): void;
  known(): void;
}

class StrangersTransport implements Transport {
  readonly #transport: Transport;
  readonly remoteAddress: string | undefined;
  #progress: Progress | undefined;

  constructor(transport: Transport, remoteAddress: string | undefined, progress: Progress) {
    this.#transport = transport;
    this.remoteAddress = remoteAddress;
    this.#progress = progress;
  }

  get bufferedBytes(): number {
    return this.#transport.bufferedBytes;
  }

  start(receiver: TransportReceiver): void {
    this.#transport.start({
      frame: (raw) => {
        this.#progress?.whole();
        receiver.frame(raw);
      },
      closed: (why) => receiver.closed(why),
    });
  }

  send(frame: RawFrame, taken?: () => void): void {
    this.#progress?.answered();
    this.#transport.send(frame, taken);
  }

  close(code: number, reason: string): void {
    this.#transport.close(code, reason);
  }

  admit(): void {
    this.#progress?.known();
    this.#progress = undefined;
  }
}

// About what it costs to keep the smallest piece of a frame: one sent byte by byte would fill fifty times its room.
const LEAST_BYTES = 64;

// A hello has at most 64 KiB; the rest is for the frame around it and for a proxy's pings.
const OWN_BYTES = 68 * 1024;

// WebSocket's code for a message that is too big to process (RFC 6455, 7.4.1).
const TOO_BIG = 1009;
