import { type KiteError, protocolError } from "../errors.ts";
import { type Limits, limitError } from "../limits.ts";
import type { Transport } from "../transport/transport.ts";
import { type RawFrame, writeControl } from "../wire/v1.ts";
import type { ValueSink } from "../wire/values.ts";
import { drafting, FRAME_BYTES, type FrameDraft, type Lease } from "./frame-buffers.ts";
import { type Flushable, flushLater } from "./schedule.ts";

export interface OutboxOptions {
  readonly limits: Limits;
  /** The peer has acknowledged enough that streams may go on. */
  readonly onRoom: () => void;
  /** The peer has frames up to this one. */
  readonly onAcknowledged: (frame: number) => void;
  /** So much waits for the peer's acknowledgement that the session must end. */
  readonly onOverflow: (why: KiteError) => void;
}

/**
 * What goes out on a session: gathers the messages of a tick into one frame, numbers it, and keeps it until the peer has
 * acknowledged it, so that it can be sent again over the next transport. The session owns it.
 */
export class Outbox implements Flushable {
  readonly #options: OutboxOptions;
  readonly #limits: Limits;
  #largest: number;
  #transport: Transport | undefined;
  readonly #messages: string[] = [];
  #count = 0;
  /** Made when the first bytes are sent: most sessions send none. */
  #draft: FrameDraft | undefined;
  /** Bytes of the message that is being written. */
  #staged: Segment[] = [];
  #stagedLength = 0;
  #pendingBytes = 0;
  #scheduled = false;
  #pinged = false;
  #sequence = 0;
  #sentThrough = 0;
  #unacked: Unacked[] = [];
  #unackedBytes = 0;
  /** The last frame that came in, and the last one that the peer knows of. */
  #received = 0;
  #ackSent = 0;
  #bytesSinceAck = 0;

  constructor(options: OutboxOptions) {
    this.#options = options;
    this.#limits = options.limits;
    this.#largest = Math.min(PARCEL_BYTES, options.limits.messageBytes);
  }

  /** The number of the last frame that was received; the peer replays what follows it. */
  get received(): number {
    return this.#received;
  }

  /** How far both sides have come, in frames; what stands still is a connection over which nothing gets through. */
  get progress(): number {
    return this.#received + this.#sequence - this.#unacked.length;
  }

  /** Why nothing new should be sent now, if so: the peer has yet to acknowledge what was sent. */
  get congestion(): KiteError | undefined {
    if (!this.#congested) return undefined;
    return limitError(
      "unackedBytes",
      this.#limits,
      `${this.#unackedBytes + this.#pendingBytes} bytes wait for a peer that acknowledges none of them`,
    );
  }

  /** The peer takes in messages of this many bytes at most, and none in one piece that is larger. */
  agree(messageBytes: number): void {
    this.#largest = Math.min(this.#largest, messageBytes);
  }

  /** Whether a message, with the bytes that were added for it, may travel in a frame; a larger one goes in pieces. */
  readonly fits = (length: number): boolean => length + this.#stagedLength <= this.#largest;

  /** The bytes that were added for the message that is being written; with a Blob's size, though its bytes are not read yet. */
  get stagedBytes(): number {
    return Number.isFinite(this.#stagedLength) ? this.#stagedLength : this.#staged.reduce((sum, segment) => sum + sizeOf(segment), 0);
  }

  /** Adds one message, already JSON text, and the bytes added since the last one, to the frame of this tick. */
  push(message: string): void {
    drafting.composer.push(this.#messages, message);
    this.#added(message.length);
  }

  /** As {@link push}, for a message that is written now; answers with its text if it is too large for a frame. */
  write(message: readonly unknown[], sink: ValueSink): string | undefined {
    const written = drafting.composer.write(this.#messages, message, sink, this.fits);
    if (typeof written === "string") return written;
    this.#added(written);
    return undefined;
  }

  #added(size: number): void {
    this.#count++;
    const length = size + this.#stagedLength;
    this.#pendingBytes += length;
    if (this.#staged.length > 0) this.#draw();
    // One more like this would make the frame too long.
    if (this.#count >= EAGER_FLUSH_MESSAGES || this.#pendingBytes + length > FRAME_BYTES) this.flush();
    else this.#schedule();
  }

  /** Adds bytes for the message that is being written; answers with their segment's number. */
  addSegment(bytes: Uint8Array): number {
    this.#stagedLength += bytes.byteLength;
    return this.#drawn + this.#staged.push(bytes) - 1;
  }

  /** Adds what has yet to be read; its message fits in no frame of this tick. */
  addBlob(blob: Blob): number {
    this.#stagedLength = Number.POSITIVE_INFINITY;
    return this.#drawn + this.#staged.push(blob) - 1;
  }

  /**
   * Takes back the bytes of a message that does not go into this tick's frame. Empty segments stand for those before its
   * own, so that the numbers in its text stay right.
   */
  takeStaged(): readonly Segment[] {
    if (this.#staged.length === 0) return NO_SEGMENTS;
    const staged = [...Array.from({ length: this.#drawn }, () => EMPTY), ...this.#staged];
    this.discard();
    return staged;
  }

  /** Takes back the bytes of a message that could not be written. */
  discard(): void {
    if (this.#staged.length > 0) this.#staged = [];
    this.#stagedLength = 0;
  }

  /** What was passed is what arrives, also if its owner fills the same bytes again before the tick ends. */
  #draw(): void {
    this.#draft ??= drafting.draft();
    for (const segment of this.#staged) if (segment instanceof Uint8Array) this.#draft.add(segment);
    this.discard();
  }

  /** How many segments the frame of this tick has already. */
  get #drawn(): number {
    return this.#draft === undefined ? 0 : this.#draft.count;
  }

  /** Sends a message that is neither numbered nor replayed, at once. */
  control(message?: string): void {
    this.#pinged = false;
    this.#ackSent = this.#received;
    this.#bytesSinceAck = 0;
    this.#transport?.send(writeControl(this.#received, message));
  }

  /** Answers a ping at the end of the tick: many pings of one tick get one answer. */
  pong(): void {
    this.#pinged = true;
    this.#schedule();
  }

  flush(): void {
    this.#scheduled = false;
    if (this.#count === 0) {
      if (this.#pinged || this.#ackSent < this.#received) this.#acknowledgeIfRead();
      return;
    }
    const raw = this.#write(++this.#sequence);
    const size = raw.length;
    this.#count = 0;
    this.#pendingBytes = 0;
    const entry = { sequence: this.#sequence, raw, size, lease: drafting.lease(raw) };
    this.#unacked.push(entry);
    this.#unackedBytes += size;
    this.#pinged = false;
    this.#ackSent = this.#received;
    this.#bytesSinceAck = 0;
    if (this.#unackedBytes > this.#limits.unackedBytes * OVERFLOW) this.#overflow();
    if (this.#transport === undefined) return;
    this.#sentThrough = this.#sequence;
    give(this.#transport, entry);
  }

  /**
   * Takes note of a frame that came in; false means it was seen before and must be ignored.
   *
   * @throws {KiteError} `protocol_error` when frames are missing or acknowledge what was never sent.
   */
  accept(sequence: number, ack: number, size: number): boolean {
    if (ack > this.#sequence) throw protocolError(`an acknowledgement up to ${this.#sequence} was expected, got ${ack}`);
    this.#acknowledged(ack);
    if (sequence === 0) return true;
    if (sequence <= this.#received) return false;
    if (sequence !== this.#received + 1) throw protocolError(`frame ${this.#received + 1} was expected, got ${sequence}`);
    this.#received = sequence;
    this.#bytesSinceAck += size;
    if (sequence - this.#ackSent >= ACK_FRAMES || this.#bytesSinceAck >= ACK_BYTES) this.#schedule();
    return true;
  }

  /** Tells the peer what was received, if it does not know yet. */
  acknowledge(): void {
    if (this.#ackSent < this.#received) this.control();
  }

  /** Tells the peer at the end of this tick: it waits for that before it sends more. */
  acknowledgeSoon(): void {
    this.#schedule();
  }

  /** Goes on over this transport; the peer has frames up to `peerReceived`, the others are sent again. */
  attach(transport: Transport, peerReceived: number): void {
    this.#ackSent = this.#received;
    // Without a transport yet: what this lets go on must not leave before what is sent again.
    this.#transport = undefined;
    this.#acknowledged(peerReceived);
    this.#transport = transport;
    for (const entry of this.#unacked) give(transport, entry);
    this.#sentThrough = this.#sequence;
    this.flush();
  }

  detach(): void {
    this.#transport = undefined;
  }

  /** The number of the frame that the next message will be in. */
  get nextFrame(): number {
    return this.#sequence + 1;
  }

  /** Whether a frame was ever given to a transport; if not, the peer cannot have seen it. */
  wasSent(frame: number): boolean {
    return frame <= this.#sentThrough;
  }

  #acknowledged(ack: number): void {
    let count = 0;
    const congested = this.#congested;
    for (const entry of this.#unacked) {
      if (entry.sequence > ack) break;
      this.#unackedBytes -= entry.size;
      entry.lease?.end();
      count++;
    }
    if (count === 0) return;
    if (count === this.#unacked.length) this.#unacked = [];
    else this.#unacked.splice(0, count);
    this.#options.onAcknowledged(ack);
    if (congested && !this.#congested) this.#options.onRoom();
  }

  get #congested(): boolean {
    return this.#unackedBytes + this.#pendingBytes > this.#limits.unackedBytes;
  }

  /** An acknowledgement more is of no use to a peer that reads none, and would only fill our memory. */
  #acknowledgeIfRead(): void {
    if (this.#transport !== undefined && this.#transport.bufferedBytes < UNREAD_BYTES) this.control();
  }

  /** Later, since whoever is sending now is in the middle of something. */
  #overflow(): void {
    const why = this.congestion;
    if (why !== undefined) queueMicrotask(() => this.#options.onOverflow(why));
  }

  #write(sequence: number): RawFrame {
    if (this.#draft === undefined || this.#draft.count === 0) return drafting.composer.finish(this.#messages, sequence, this.#received);
    return this.#draft.finish(sequence, this.#received, this.#messages);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    flushLater(this);
  }
}

interface Unacked {
  readonly sequence: number;
  readonly raw: RawFrame;
  readonly size: number;
  readonly lease: Lease | undefined;
}

function give(transport: Transport, { raw, lease }: Unacked): void {
  if (lease === undefined) transport.send(raw);
  else transport.send(raw, lease.begin());
}

/** Bytes of a message: there, or to be read when their turn comes. */
export type Segment = Uint8Array | Blob;

export function sizeOf(segment: Segment): number {
  return segment instanceof Uint8Array ? segment.byteLength : segment.size;
}

const EMPTY = new Uint8Array(0);
const NO_SEGMENTS: readonly Uint8Array[] = [];
// What a small call may have to wait behind. A link of 100 Mbit/s carries it in 21 ms. A full frame of a session inside this one fits
// in: in pieces, a relay and both ends would put each together again.
const PARCEL_BYTES = 264 * 1024;
// The peer works on the first part of a burst while the rest is written; in one frame, both sides would take turns.
const EAGER_FLUSH_MESSAGES = 16;
// When nothing flows back that could carry it, an acknowledgement goes out after this much.
const ACK_FRAMES = 64;
const ACK_BYTES = 512 * 1024;
// A peer that has left this much unread in its socket does not wait for an acknowledgement.
const UNREAD_BYTES = 1024 * 1024;
// Calls and streams stop at the limit; answers to the peer's own calls may go this many times as far.
const OVERFLOW = 2;
