import { Buffer, isUtf8 } from "node:buffer";
import type { Msg, NatsError, Subscription } from "nats";
import { CLOSE, closeArguments, type Transport, type TransportReceiver } from "../transport/transport.ts";
import type { RawFrame } from "../wire/v1.ts";
import type { Carried, CarrierConnection } from "./connection.ts";
import { allocatePacket, bytesPacket, countsBetween, HEADER_BYTES, PACKET, readCount, textPacket } from "./packet.ts";
import { isLinkSubject } from "./subjects.ts";

export interface LinkOptions {
  readonly carrier: CarrierConnection;
  /** Where this side listens. */
  readonly own: string;
  /** Where the other side listens. */
  readonly peer?: string | undefined;
  /** In place of `peer`, on the dialling side: where a link is asked for. The first answer tells the peer. */
  readonly asked?: string | undefined;
  readonly maxFrameBytes: number;
  /** The largest frame until this side has sent one. */
  readonly maxGreetingBytes?: number | undefined;
  /** The first answer is there, or the link was over before. */
  readonly onOpen?: ((lost: LinkEnd | undefined) => void) | undefined;
  readonly onOver?: (() => void) | undefined;
}

export interface LinkEnd {
  readonly code: number;
  readonly reason: string;
}

/**
 * One side of a link: frames as messages between two subjects. NATS may lose messages and never says so, hence the counts
 * in every header: a link that lost anything is over, and its session sends it again over the next one.
 */
export class NatsLink implements Transport, Carried {
  readonly own: string;
  readonly #options: LinkOptions;
  readonly #subscription: Subscription;
  #peer: string | undefined;
  #opened: boolean;
  #receiver: TransportReceiver | undefined;
  #early: RawFrame[] = [];
  #closing: LinkEnd | undefined;
  #over: LinkEnd | undefined;
  // Bytes so far, modulo 2^32: sent, of these taken by the peer; come in, of these taken by the receiver and told the peer.
  #sent = 0;
  #acknowledged = 0;
  #arrived = 0;
  #taken = 0;
  #told = 0;
  #queue: Outgoing[] = [];
  #queuedBytes = 0;
  #parts: Uint8Array[] = [];
  #partBytes = 0;
  #greeting: boolean;
  #heard = false;
  #silentTicks = 0;
  #closingTicks = 0;
  #acknowledgedAtTick = 0;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.own = options.own;
    this.#peer = options.peer;
    this.#opened = options.peer !== undefined;
    this.#greeting = options.maxGreetingBytes !== undefined;
    this.#subscription = options.carrier.connection.subscribe(options.own, {
      callback: (error, message) => this.#onMessage(error, message),
    });
    options.carrier.add(this);
  }

  /** What was sent and not yet taken in by the other side. */
  get bufferedBytes(): number {
    return this.#queuedBytes + this.#inFlight;
  }

  /** Asks for the other side; it answers where this one listens. */
  ask(protocol: string): void {
    const { asked, carrier } = this.#options;
    if (asked !== undefined) this.#attempt(() => carrier.connection.publish(asked, Buffer.from(protocol), { reply: this.own }));
  }

  /** Tells the dialling side where this one listens. */
  open(): void {
    this.#publish(textPacket(PACKET.open, this.#sent, this.#told, this.own, this.own.length), true);
  }

  start(receiver: TransportReceiver): void {
    this.#receiver = receiver;
    for (const frame of this.#early.splice(0)) if (this.#closing === undefined) receiver.frame(frame);
    this.#took();
    this.#tellOver();
  }

  send(frame: RawFrame): void {
    if (this.#closing !== undefined || this.#over !== undefined) return;
    this.#greeting = false;
    const text = typeof frame === "string";
    const length = text ? Buffer.byteLength(frame) : frame.length;
    const size = HEADER_BYTES + length;
    if (this.#queue.length > 0 || size > this.#options.carrier.pieceBytes || this.#inFlight + size > WINDOW_BYTES) {
      this.#queue.push({ bytes: text ? Buffer.from(frame) : frame, text, at: 0 });
      this.#queuedBytes += length;
      return this.#pump();
    }
    const packet = text
      ? textPacket(PACKET.text, this.#sent, this.#taken, frame, length)
      : bytesPacket(PACKET.bytes, this.#sent, this.#taken, frame);
    this.#sendCounted(packet);
  }

  close(code: number, reason: string): void {
    if (this.#closing !== undefined || this.#over !== undefined) return;
    const [sendable, short] = closeArguments(code, reason);
    this.#closing = { code: sendable, reason: short };
    if (this.#queue.length === 0) this.#finish(this.#closing);
  }

  tick(): void {
    if (this.#closing !== undefined) {
      // A peer that takes nothing in does not keep a closed link here.
      if (++this.#closingTicks >= CLOSING_TICKS) this.#finish(this.#closing);
      return;
    }
    this.#silentTicks = this.#heard ? 0 : this.#silentTicks + 1;
    this.#heard = false;
    if (this.#silentTicks >= IDLE_TICKS) return this.#end({ code: 1006, reason: "nothing was heard over the link for too long" });
    const stalled = this.#inFlight > 0 && this.#acknowledged === this.#acknowledgedAtTick;
    this.#acknowledgedAtTick = this.#acknowledged;
    if (stalled || this.#silentTicks >= PROBE_TICKS) this.#publish(allocatePacket(PACKET.probe, this.#sent, this.#taken, 0), true);
  }

  lost(why: string): void {
    this.#end({ code: 1006, reason: why });
  }

  forbidden(subject: string): void {
    if (subject === (this.#peer ?? this.#options.asked)) this.#end({ code: 1006, reason: `NATS does not allow to publish to ${subject}` });
  }

  /** Ends it without a word to the other side. */
  #end(why: LinkEnd): void {
    if (this.#over !== undefined) return;
    this.#over = this.#closing ?? why;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#parts = [];
    this.#acknowledged = this.#sent;
    this.#options.carrier.delete(this);
    if (!this.#options.carrier.connection.isClosed()) this.#subscription.unsubscribe();
    if (!this.#opened) {
      this.#opened = true;
      this.#options.onOpen?.(this.#over);
    }
    this.#options.onOver?.();
    this.#tellOver();
  }

  #tellOver(): void {
    const [receiver, over] = [this.#receiver, this.#over];
    if (receiver === undefined || over === undefined) return;
    this.#receiver = undefined;
    queueMicrotask(() => receiver.closed(over));
  }

  /** Ends it, and tells the other side. */
  #finish(why: LinkEnd): void {
    const length = 2 + Buffer.byteLength(why.reason);
    const packet = textPacket(PACKET.close, this.#sent, this.#taken, `\0\0${why.reason}`, length);
    packet.writeUInt16BE(why.code, HEADER_BYTES);
    this.#publish(packet, false);
    this.#end(why);
  }

  #onMessage(error: NatsError | null, message: Msg): void {
    if (this.#over !== undefined) return;
    // NATS ends a subscription that it does not allow.
    if (error !== null) return this.#end({ code: 1006, reason: error.message });
    try {
      this.#read(message);
    } catch (thrown) {
      // What is thrown here would end the reading of the whole connection.
      this.#finish({ code: CLOSE.protocolError, reason: thrown instanceof Error ? thrown.name : "unknown" });
    }
  }

  #read(message: Msg): void {
    const { data } = message;
    if (data.length === 0 && message.headers?.code === NO_RESPONDERS) return this.#end({ code: 1006, reason: NOBODY });
    if (data.length < HEADER_BYTES) return this.#broken("a message of a link has a header");
    this.#heard = true;
    // Never to be undone: what comes behind a gap would be taken for something else.
    if (readCount(data, 1) !== this.#arrived) return this.#finish({ code: LOST, reason: "messages were lost on the way" });
    if (!this.#acknowledge(readCount(data, 5))) return this.#broken("a side of a link has taken more than it was sent");
    const kind = data[0];
    if (kind === PACKET.text || kind === PACKET.bytes || kind === PACKET.part) return this.#onPart(kind, data);
    if (kind === PACKET.probe) return this.#tell();
    if (kind === PACKET.open) return this.#onOpen(data);
    if (kind === PACKET.close) return this.#onClose(data);
    if (kind !== PACKET.counts) this.#broken("a message of a link has one of the known kinds");
  }

  #onOpen(data: Uint8Array): void {
    const peer = bodyText(data, 0);
    if (this.#opened || !isLinkSubject(peer)) return this.#broken("a link is opened once, with its subject");
    this.#peer = peer;
    this.#opened = true;
    this.#options.onOpen?.(undefined);
  }

  #onClose(data: Uint8Array): void {
    const code = ((data[HEADER_BYTES] ?? 0) << 8) | (data[HEADER_BYTES + 1] ?? 0);
    const [, reason] = closeArguments(code, bodyText(data, 2));
    this.#end({ code, reason });
  }

  #onPart(kind: number, data: Uint8Array): void {
    this.#arrived = (this.#arrived + data.length) >>> 0;
    if (countsBetween(this.#told, this.#arrived) > WINDOW_BYTES) return this.#broken(`a side of a link sends ${WINDOW_BYTES} bytes ahead`);
    if (this.#closing !== undefined) return;
    const limit = this.#greeting ? (this.#options.maxGreetingBytes ?? 0) : this.#options.maxFrameBytes;
    if (kind === PACKET.part && data.length < MIN_PART_BYTES) return this.#broken(`a part of a frame has ${MIN_PART_BYTES} bytes`);
    this.#partBytes += data.length - HEADER_BYTES;
    if (this.#partBytes > limit) return this.#finish({ code: 1009, reason: `a frame has at most ${limit} bytes` });
    if (kind === PACKET.part || this.#parts.length > 0) this.#parts.push(kept(data));
    if (kind !== PACKET.part) {
      const whole = this.#parts.length === 0 ? data.subarray(HEADER_BYTES) : Buffer.concat(this.#parts, this.#partBytes);
      this.#parts = [];
      this.#partBytes = 0;
      if (kind === PACKET.text) this.#deliverText(whole);
      else this.#deliver(body(whole, 0));
    }
    if (this.#receiver !== undefined) this.#took();
  }

  #deliverText(bytes: Uint8Array): void {
    // Replacement characters would turn one message into another without anyone noticing.
    if (!isUtf8(bytes)) return this.#finish({ code: 1007, reason: "a frame of text is UTF-8" });
    this.#deliver(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString());
  }

  #deliver(frame: RawFrame): void {
    if (this.#receiver === undefined) this.#early.push(frame);
    else this.#receiver.frame(frame);
  }

  /** The receiver has what came in; the peer is told when enough has gathered, if no frame tells it before. */
  #took(): void {
    this.#taken = this.#arrived;
    if (countsBetween(this.#told, this.#taken) >= TELL_BYTES) this.#tell();
  }

  #tell(): void {
    if (this.#over !== undefined) return;
    this.#publish(allocatePacket(PACKET.counts, this.#sent, this.#taken, 0), false);
  }

  #acknowledge(count: number): boolean {
    const newly = countsBetween(this.#acknowledged, count);
    if (newly > this.#inFlight) return false;
    this.#acknowledged = count;
    if (newly > 0 && this.#queue.length > 0) this.#pump();
    return true;
  }

  get #inFlight(): number {
    return countsBetween(this.#acknowledged, this.#sent);
  }

  /** Sends of what waits as much as the peer gives room for. */
  #pump(): void {
    const piece = this.#options.carrier.pieceBytes - HEADER_BYTES;
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      const end = Math.min(next.at + piece, next.bytes.length);
      if (this.#inFlight + HEADER_BYTES + end - next.at > WINDOW_BYTES) return;
      const last = end === next.bytes.length;
      const kind = last ? (next.text ? PACKET.text : PACKET.bytes) : PACKET.part;
      const packet = bytesPacket(kind, this.#sent, this.#taken, next.bytes.subarray(next.at, end));
      this.#queuedBytes -= end - next.at;
      next.at = end;
      if (last) this.#queue.shift();
      this.#sendCounted(packet);
    }
    if (this.#closing !== undefined && this.#over === undefined) this.#finish(this.#closing);
  }

  #sendCounted(packet: Buffer): void {
    this.#sent = (this.#sent + packet.length) >>> 0;
    this.#publish(packet, false);
  }

  /** With `answered`, NATS says so if nobody listens there any more. */
  #publish(packet: Buffer, answered: boolean): void {
    const peer = this.#peer;
    if (peer === undefined) return;
    this.#told = this.#taken;
    const { connection } = this.#options.carrier;
    this.#attempt(() => connection.publish(peer, packet, answered ? { reply: this.own } : undefined));
  }

  #attempt(publish: () => void): void {
    try {
      publish();
    } catch (thrown) {
      this.#end({ code: 1006, reason: `NATS did not take a message: ${thrown instanceof Error ? thrown.message : "unknown"}` });
    }
  }

  #broken(expected: string): void {
    this.#finish({ code: CLOSE.protocolError, reason: expected });
  }
}

interface Outgoing {
  readonly bytes: Uint8Array;
  readonly text: boolean;
  /** What was sent of it. */
  at: number;
}

/** A plain Uint8Array: handlers must not see that a Buffer carried it. */
function body(data: Uint8Array, header = HEADER_BYTES): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset + header, data.length - header);
}

/** A part that waits for the others. A small one is copied: it would keep the whole read of the socket that it came in. */
function kept(data: Uint8Array): Uint8Array {
  return data.length < COPIED_BYTES ? Uint8Array.from(body(data)) : body(data);
}

function bodyText(data: Uint8Array, at: number): string {
  return Buffer.from(body(data)).toString("utf8", at);
}

// Fills 300 Mbit/s at 100 ms. NATS drops whoever has 64 MiB unread, which are sixteen such links on one connection.
const WINDOW_BYTES = 4 * 1024 * 1024;
// An answer for every 32nd of the window costs nothing, and keeps the sender from ever waiting for one.
const TELL_BYTES = 128 * 1024;
// NATS servers take at least this much in one message; a frame in crumbs would cost many times its size.
const MIN_PART_BYTES = 512;
const COPIED_BYTES = 64 * 1024;
const CLOSING_TICKS = 2;
// Sessions ping every ten or twenty seconds; who is silent for longer is asked, and has gone if there is no answer.
const PROBE_TICKS = 30;
const IDLE_TICKS = 45;
const NO_RESPONDERS = 503;
const NOBODY = "nobody listens at the other end";
// Like the loss of a connection, but told: 1006 is never sent, and the session above goes on over the next link.
const LOST = 4100;
