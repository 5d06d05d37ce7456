import { KiteError, protocolError } from "../errors.ts";
import { type AgreedLimits, type Limits, limitError } from "../limits.ts";
import * as MESSAGE from "../wire/message.ts";
import { isCount, writeFrameHead } from "../wire/v1.ts";
import { joined, PIECE_BYTES } from "./frame-buffers.ts";
import { type Outbox, type Segment, sizeOf } from "./outbox.ts";

/** What becomes of a message that travels in pieces; one of the three is told, once. */
export interface ParcelEvents {
  /** Its last piece is in this frame. */
  sent?(frame: number): void;
  /** Its bytes could not be read, or the peer takes in less; it will never see it. */
  failed?(error: KiteError): void;
  /** It was given up, or its session has ended; the peer will never see it. */
  dropped?(): void;
}

/**
 * Messages too large for one frame, or with bytes that have yet to be read. Each travels in pieces, in turn with the others,
 * and no more of them is on its way than the peer acknowledges soon: whatever is small finds the way free. The conversation
 * owns it.
 */
export class OutgoingParcels {
  readonly #limits: Limits;
  readonly #outbox: Outbox;
  /** Not begun: what the peer takes in at once is under way. */
  #waiting: Parcel[] = [];
  /** Under way; the first one is next. */
  #turns: Parcel[] = [];
  #open = 0;
  #bytes = 0;
  #begunBytes = 0;
  #begun = 0;
  #pace: Pace | undefined;
  #agreed: AgreedLimits | undefined;
  #next = 1;

  constructor(limits: Limits, outbox: Outbox) {
    this.#limits = limits;
    this.#outbox = outbox;
  }

  get size(): number {
    return this.#open;
  }

  /** What the peer takes in is known; what waited for that begins. */
  agree(agreed: AgreedLimits): void {
    this.#agreed = agreed;
    const tooLarge = this.#waiting.filter(({ size }) => size > this.#largest);
    for (const parcel of tooLarge) {
      this.#finish(parcel);
      parcel.tell((events) => events.failed?.(this.#tooLarge(parcel)));
    }
    this.#pump();
  }

  /**
   * Sends a message with its segments. They are read when their turn comes, not copied before.
   *
   * @throws {KiteError} `limit_exceeded` when it is too large, or too much waits already.
   */
  add(message: string, segments: readonly Segment[]): Parcel {
    const parcel = new Parcel(this.#next, message, segments);
    const { reassemblyBytes } = this.#limits;
    if (parcel.size > this.#largest) throw this.#tooLarge(parcel);
    if (this.#bytes + parcel.size > reassemblyBytes) {
      throw limitError("reassemblyBytes", this.#limits, `${this.#bytes} bytes of large messages wait to be sent already`);
    }
    this.#next++;
    this.#open++;
    this.#bytes += parcel.size;
    this.#waiting.push(parcel);
    this.#pump();
    return parcel;
  }

  /** The peer has frames up to this one: there is room for further pieces. */
  acknowledged(frame: number): void {
    if (this.#pace?.acknowledged(frame)) this.#pump();
  }

  /** Gives a message up, if it is not sent yet. */
  drop(parcel: Parcel): void {
    if (parcel.over) return;
    this.#giveUp(parcel);
    parcel.tell((events) => events.dropped?.());
    this.#pump();
  }

  /** The session has ended. */
  clear(): void {
    for (const parcel of [...this.#waiting, ...this.#turns]) {
      this.#finish(parcel);
      parcel.tell((events) => events.dropped?.());
    }
  }

  /** What would not fit beside nothing else would wait for its turn for ever, and all others behind it. */
  get #largest(): number {
    const { messageBytes } = this.#limits;
    return this.#agreed === undefined ? messageBytes : Math.min(messageBytes, this.#agreed.messageBytes, this.#agreed.reassemblyBytes);
  }

  #tooLarge({ size }: Parcel): KiteError {
    return limitError("messageBytes", { ...this.#limits, messageBytes: this.#largest }, `the message has ${size} bytes; send a stream`);
  }

  #giveUp(parcel: Parcel): void {
    if (parcel.sentBytes > 0) this.#outbox.push(`[${MESSAGE.drop},${parcel.id}]`);
    this.#finish(parcel);
  }

  #finish(parcel: Parcel): void {
    parcel.over = true;
    this.#open--;
    this.#bytes -= parcel.size;
    this.#waiting = this.#waiting.filter((each) => each !== parcel);
    if (!parcel.begun) return;
    this.#begun--;
    this.#begunBytes -= parcel.size;
    this.#turns = this.#turns.filter((each) => each !== parcel);
  }

  #pump(): void {
    this.#begin();
    // Whoever reads a Blob sits out its turn.
    for (let idle = 0; idle < this.#turns.length && (this.#pace?.open ?? true); ) {
      const parcel = this.#turns.shift() as Parcel;
      this.#turns.push(parcel);
      const piece = parcel.take();
      if (piece === undefined) {
        idle++;
        this.#read(parcel);
      } else {
        idle = 0;
        this.#send(parcel, piece);
      }
    }
  }

  #begin(): void {
    if (this.#agreed === undefined) return;
    const { reassemblyBytes, parcels } = this.#agreed;
    for (let parcel = this.#waiting[0]; parcel !== undefined; parcel = this.#waiting[0]) {
      if (this.#begun >= parcels || this.#begunBytes + parcel.size > reassemblyBytes) return;
      this.#waiting.shift();
      parcel.begun = true;
      this.#begun++;
      this.#begunBytes += parcel.size;
      this.#turns.push(parcel);
    }
  }

  #send(parcel: Parcel, piece: Uint8Array): void {
    const total = parcel.sentBytes === 0 ? `,${parcel.size}` : "";
    // First what is small and waits for the end of the tick.
    this.#outbox.flush();
    const segment = this.#outbox.addSegment(piece);
    const frame = this.#outbox.nextFrame;
    this.#outbox.push(`[${MESSAGE.piece},${parcel.id},${segment}${total}]`);
    this.#outbox.flush();
    this.#pace ??= new Pace();
    this.#pace.sent(frame, piece.byteLength);
    parcel.sentBytes += piece.byteLength;
    if (parcel.sentBytes < parcel.size) return;
    parcel.frame = frame;
    this.#finish(parcel);
    parcel.tell((events) => events.sent?.(frame));
    this.#begin();
  }

  #read(parcel: Parcel): void {
    if (parcel.reading) return;
    parcel.read().then(
      () => parcel.over || this.#pump(),
      (thrown: unknown) => {
        if (parcel.over) return;
        this.#giveUp(parcel);
        const error = new KiteError("invalid_argument", `a value could not be read: ${KiteError.from(thrown).message}`, { cause: thrown });
        parcel.tell((events) => events.failed?.(error));
        this.#pump();
      },
    );
  }
}

/**
 * How many pieces may be on their way: as many as the link takes without a queue. When they come back later than it needs,
 * they wait in somebody's buffer, and everything small waits behind them; then there are fewer, down to one.
 */
class Pace {
  #pieces: { readonly frame: number; readonly bytes: number; readonly at: number; readonly alone: boolean }[] = [];
  #bytes = 0;
  #window = FIRST_WINDOW_BYTES;
  #roundTripMs = Number.POSITIVE_INFINITY;

  get open(): boolean {
    return this.#bytes < this.#window;
  }

  sent(frame: number, bytes: number): void {
    this.#pieces.push({ frame, bytes, at: performance.now(), alone: this.#bytes === 0 });
    this.#bytes += bytes;
  }

  /** False when none of the pieces was meant. */
  acknowledged(frame: number): boolean {
    let count = 0;
    for (const piece of this.#pieces) {
      if (piece.frame > frame) break;
      this.#bytes -= piece.bytes;
      count++;
    }
    if (count === 0) return false;
    const newest = this.#pieces.splice(0, count).at(-1);
    if (newest !== undefined) this.#adjust(performance.now() - newest.at, newest.alone);
    return true;
  }

  #adjust(tookMs: number, alone: boolean): void {
    // One that was alone met no queue of ours: also how a link is seen that has become slower.
    this.#roundTripMs = alone ? tookMs : Math.min(this.#roundTripMs, tookMs);
    const queued = tookMs > this.#roundTripMs + QUEUE_MS;
    this.#window = queued ? Math.max(this.#window / 2, PIECE_BYTES) : Math.min(this.#window + PIECE_BYTES, MAX_WINDOW_BYTES);
  }
}

/** One message on its way, as the bytes that its pieces are cut from. */
export class Parcel {
  readonly id: number;
  readonly size: number;
  /** The frame with its last piece; until that is sent, no frame has it. */
  frame = Number.POSITIVE_INFINITY;
  begun = false;
  over = false;
  reading = false;
  sentBytes = 0;
  #parts: Segment[];
  #offset = 0;
  #followers: ParcelEvents[] = [];

  constructor(id: number, message: string, segments: readonly Segment[]) {
    const lengths = segments.map(sizeOf);
    const head = writeFrameHead(0, 0, [message], lengths);
    this.id = id;
    this.size = lengths.reduce((sum, length) => sum + length, head.byteLength);
    this.#parts = [head, ...segments.filter((segment) => sizeOf(segment) > 0)];
  }

  /** Tells `events` what becomes of it, at once if it is sent already. */
  follow(events: ParcelEvents): void {
    if (this.over) events.sent?.(this.frame);
    else this.#followers.push(events);
  }

  tell(what: (events: ParcelEvents) => void): void {
    for (const events of this.#followers.splice(0)) what(events);
  }

  /** The next piece; undefined while it has yet to be read. */
  take(): Uint8Array | undefined {
    const gathered: Uint8Array[] = [];
    // No more than was announced, also of bytes that have become more meanwhile: it would end the session.
    const most = Math.min(PIECE_BYTES, this.size - this.sentBytes);
    let room = most;
    // Bytes whose buffer was moved away meanwhile have no length any more.
    for (let part = this.#parts[0]; part instanceof Uint8Array && part.byteLength > 0 && room > 0; part = this.#parts[0]) {
      const bytes = part.subarray(this.#offset, this.#offset + room);
      gathered.push(bytes);
      room -= bytes.byteLength;
      this.#offset += bytes.byteLength;
      if (this.#offset < part.byteLength) break;
      this.#parts.shift();
      this.#offset = 0;
    }
    return room === most ? undefined : joined(gathered);
  }

  /** Reads on in the Blob that comes next. */
  async read(): Promise<void> {
    const [blob] = this.#parts;
    if (!(blob instanceof Blob)) throw new KiteError("invalid_argument", "bytes were moved to another owner while they were sent");
    this.reading = true;
    try {
      const bytes = new Uint8Array(await blob.slice(0, READ_BYTES).arrayBuffer());
      const rest = blob.slice(READ_BYTES);
      this.#parts.splice(0, 1, bytes, ...(rest.size > 0 ? [rest] : []));
    } finally {
      this.reading = false;
    }
  }
}

/** Messages that arrive in pieces. The conversation owns it. */
export class IncomingParcels {
  readonly #limits: Limits;
  readonly #open = new Map<number, { body: Uint8Array; received: number }>();
  #bytes = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#open.size;
  }

  /**
   * Takes in a piece; answers with the whole message after the last one.
   *
   * @throws {KiteError} `protocol_error` for pieces that make no whole, `limit_exceeded` for more than may be begun.
   */
  piece(id: number, bytes: Uint8Array, total: unknown): Uint8Array | undefined {
    const parcel = this.#open.get(id) ?? this.#announced(id, total);
    const { body, received } = parcel;
    if (bytes.byteLength === 0 || received + bytes.byteLength > body.byteLength) {
      throw protocolError(`message ${id} was announced with ${body.byteLength} bytes; its pieces have more, or none`);
    }
    body.set(bytes, received);
    parcel.received += bytes.byteLength;
    if (parcel.received < body.byteLength) return undefined;
    this.drop(id);
    return body;
  }

  /** The sender has given it up. */
  drop(id: number): void {
    this.#bytes -= this.#open.get(id)?.body.byteLength ?? 0;
    this.#open.delete(id);
  }

  clear(): void {
    this.#open.clear();
    this.#bytes = 0;
  }

  #announced(id: number, total: unknown): { body: Uint8Array; received: number } {
    const { messageBytes, reassemblyBytes, parcels } = this.#limits;
    if (!isCount(total)) throw protocolError(`the first piece of message ${id} says how large it is`);
    if (total > messageBytes) throw limitError("messageBytes", this.#limits, `a message of ${total} bytes was announced`);
    if (this.#bytes + total > reassemblyBytes) {
      throw limitError("reassemblyBytes", this.#limits, `${this.#bytes} bytes had begun to arrive, and ${total} more were announced`);
    }
    if (this.#open.size >= parcels) throw limitError("parcels", this.#limits, "one more message began to arrive in pieces");
    // Pages that nothing was written to cost nothing yet; growing would copy what has arrived again and again.
    const parcel = { body: new Uint8Array(total), received: 0 };
    this.#open.set(id, parcel);
    this.#bytes += total;
    return parcel;
  }
}

// What a small call may wait for behind pieces, in each direction.
const QUEUE_MS = 2;
const FIRST_WINDOW_BYTES = 128 * 1024;
// Four MiB fill a link of 400 Mbit/s at 80 ms; a 16th of what may be unacknowledged, so that the rest of the session goes on.
const MAX_WINDOW_BYTES = 4 * 1024 * 1024;
const READ_BYTES = 256 * 1024;
