import { KiteError } from "../errors.ts";
import type { Limits } from "../limits.ts";
import * as MESSAGE from "../wire/message.ts";
import { carriedWeight, plainWeight, stringifyValue, type ValueSink, writeMessage } from "../wire/values.ts";
import type { ExportedFunctions, ImportedFunctions } from "./callbacks.ts";
import type { Outbox, Segment } from "./outbox.ts";
import type { OutgoingParcels, Parcel } from "./parcels.ts";
import type { OutgoingStreams } from "./streams.ts";

export interface WriterParts {
  readonly limits: Limits;
  readonly outbox: Outbox;
  readonly parcels: OutgoingParcels;
  readonly exported: ExportedFunctions;
  readonly imported: ImportedFunctions;
  readonly sending: OutgoingStreams;
}

/** A message as it was written, when there is more to it than its text. */
export interface Written {
  /** The streams that its value holds. */
  readonly streams: readonly number[];
  /** What carries it, where it does not go with this tick's frame. */
  readonly parcel: Parcel | undefined;
}

/** A message that was written and has yet to be sent. */
export interface Prepared {
  readonly text: string;
  readonly segments: readonly Segment[];
  readonly held: Held;
}

/** What a message holds of this session, to be taken back if it is never sent. */
interface Held {
  readonly functions: readonly number[];
  readonly streams: readonly number[];
  /** Functions of the peer's on their way back to it. */
  readonly returned: readonly (() => void)[];
}

/** Writes messages around values: small ones into this tick's frame, large ones as parcels. The conversation owns it. */
export class MessageWriter {
  readonly #parts: WriterParts;
  readonly #sink: ValueSink;
  /** Of the message that is being written. */
  #functions: number[] = [];
  #streams: number[] = [];
  #returned: (() => void)[] = [];

  constructor(parts: WriterParts) {
    const { limits, outbox, exported, imported, sending } = parts;
    this.#parts = parts;
    this.#sink = {
      maxDepth: limits.depth,
      addBytes: (bytes) => outbox.addSegment(bytes),
      addBlob: (blob) => outbox.addBlob(blob),
      exportStream: (source) => last(this.#streams, sending.add(source)),
      markFunction: (fn) => {
        const theirs = imported.find(fn);
        if (theirs === undefined) return ["f", last(this.#functions, exported.add(fn))];
        this.#returned.push(theirs.pin());
        return ["r", theirs.id];
      },
    };
  }

  /**
   * Writes one message, whose elements are values, and sends it, or leaves nothing of it behind.
   *
   * @throws {KiteError} `invalid_argument` for what cannot be carried, `limit_exceeded` for what is too large.
   */
  write(message: readonly unknown[]): Written | undefined {
    try {
      const text = this.#parts.outbox.write(message, this.#sink);
      if (text !== undefined) return this.#ship(text, this.#parts.outbox.takeStaged(), this.#takeHeld());
    } catch (thrown) {
      throw this.#takeBack(thrown);
    }
    return this.#sent();
  }

  /** As {@link write}, but keeps the message for a {@link send} to come. */
  prepare(message: readonly unknown[]): Prepared {
    try {
      const text = writeMessage(message, this.#sink);
      const segments = this.#parts.outbox.takeStaged();
      return { text, segments, held: this.#takeHeld() };
    } catch (thrown) {
      throw this.#takeBack(thrown);
    }
  }

  send({ text, segments, held }: Prepared): Written | undefined {
    if (segments.length > 0 || !this.#parts.outbox.fits(text.length)) return this.#ship(text, segments, held);
    this.#parts.outbox.push(text);
    this.#settle(held);
    return undefined;
  }

  /** Writes a stream's chunk; answers with its weight, and with what carries it if it takes more than this tick's frame. */
  chunk(id: number, chunk: unknown): { weight: number; parcel: Parcel | undefined } {
    const plain = plainWeight(chunk);
    if (plain !== undefined) return { weight: plain, parcel: this.write([MESSAGE.chunk, id, chunk])?.parcel };
    const { outbox } = this.#parts;
    try {
      const value = stringifyValue(chunk, this.#sink);
      const weight = carriedWeight(value.length + outbox.stagedBytes);
      const text = `[${MESSAGE.chunk},${id},${value},${weight}]`;
      if (!outbox.fits(text.length)) return { weight, parcel: this.#ship(text, outbox.takeStaged(), this.#takeHeld()).parcel };
      outbox.push(text);
      this.#sent();
      return { weight, parcel: undefined };
    } catch (thrown) {
      throw this.#takeBack(thrown);
    }
  }

  #ship(text: string, segments: readonly Segment[], held: Held): Written {
    try {
      const parcel = this.#parts.parcels.add(text, segments);
      const release = () => this.#release(held);
      parcel.follow({ sent: () => this.#settle(held), failed: release, dropped: release });
      return { streams: held.streams, parcel };
    } catch (thrown) {
      this.#release(held);
      throw thrown;
    }
  }

  /** What was just pushed is on its way: its streams may begin. */
  #sent(): Written | undefined {
    if (this.#functions.length + this.#streams.length + this.#returned.length === 0) return undefined;
    const held = this.#takeHeld();
    this.#settle(held);
    return { streams: held.streams, parcel: undefined };
  }

  #takeHeld(): Held {
    const held = { functions: this.#functions, streams: this.#streams, returned: this.#returned };
    this.#functions = [];
    this.#streams = [];
    this.#returned = [];
    return held;
  }

  #settle({ streams, returned }: Held): void {
    for (const id of streams) this.#parts.sending.start(id);
    for (const unpin of returned) unpin();
  }

  #release({ functions, streams, returned }: Held): void {
    for (const id of functions) this.#parts.exported.release(id, 1);
    for (const id of streams) this.#parts.sending.stop(id);
    for (const unpin of returned) unpin();
  }

  #takeBack(thrown: unknown): KiteError {
    this.#parts.outbox.discard();
    this.#release(this.#takeHeld());
    return KiteError.from(thrown, "invalid_argument");
  }
}

/** Appends to a list; answers with what was appended. */
function last(ids: number[], id: number): number {
  ids.push(id);
  return id;
}
