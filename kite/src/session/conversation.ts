import { KiteError, protocolError } from "../errors.ts";
import { type AgreedLimits, agreedLimits, type Limits } from "../limits.ts";
import type { Caller, CallMeta, CallOptions } from "../method.ts";
import * as MESSAGE from "../wire/message.ts";
import { type Frame, isCount, readFrame } from "../wire/v1.ts";
import { carriedError, checkValue, reviveValue, type ValueSource } from "../wire/values.ts";
import { Arrivals } from "./arrivals.ts";
import { ExportedFunctions, type ImportedFunction, ImportedFunctions } from "./callbacks.ts";
import { type Departure, OutgoingCalls, type SendCall } from "./calls.ts";
import type { SessionCounts } from "./counts.ts";
import type { FailedWork } from "./failure.ts";
import { keptBytes } from "./kept-bytes.ts";
import { badKey, isKey, readMeta } from "./meta.ts";
import type { Outbox } from "./outbox.ts";
import { IncomingParcels, OutgoingParcels, Parcel } from "./parcels.ts";
import { IncomingStreams } from "./remote-stream.ts";
import { Serving, type ServingOptions } from "./serving.ts";
import { OutgoingStreams } from "./streams.ts";
import { MessageWriter, type Prepared, type Written } from "./writer.ts";

export interface ConversationOptions extends ServingOptions {
  readonly outbox: Outbox;
}

/**
 * What two kites say to each other, whatever carries it: turns calls, functions and streams into messages and back. Its
 * session owns it and tells it when all is over.
 */
export class Conversation {
  readonly #limits: Limits;
  readonly #outbox: Outbox;
  readonly #calls: OutgoingCalls;
  readonly #serving: Serving;
  readonly #exported: ExportedFunctions;
  readonly #imported: ImportedFunctions;
  readonly #sending: OutgoingStreams;
  readonly #receiving: IncomingStreams;
  readonly #parcels: OutgoingParcels;
  /** Made when the first one comes: most sessions see none. */
  #arriving: IncomingParcels | undefined;
  readonly #writer: MessageWriter;
  #agreed = false;
  #over: KiteError | undefined;

  constructor(options: ConversationOptions) {
    const { limits, outbox, session } = options;
    const { invoking } = options.through ?? {};
    this.#limits = limits;
    this.#outbox = outbox;
    this.#calls = new OutgoingCalls(limits, (id, departure) => this.#cancel(id, departure));
    this.#exported = new ExportedFunctions(limits);
    this.#imported = new ImportedFunctions({
      limits,
      session,
      invoke:
        invoking === undefined
          ? (fn, args) => this.#invoke(fn, args)
          : (fn, args) => invoking("function", FOREVER, (seen) => this.#invoke(fn, args, seen)),
      release: (id, count) => this.#push(`[${MESSAGE.release},${id},${count}]`),
    });
    this.#parcels = new OutgoingParcels(limits, outbox);
    const wires = {
      chunk: (id: number, chunk: unknown) => this.#writer.chunk(id, chunk),
      drop: (parcel: Parcel) => this.#parcels.drop(parcel),
      end: (id: number, error?: KiteError) => this.#push(`[${MESSAGE.end},${id}${error === undefined ? "" : `,${errorText(error)}`}]`),
      credit: (id: number, weight: number) => this.#push(`[${MESSAGE.credit},${id},${weight}]`),
      stop: (id: number) => this.#push(`[${MESSAGE.stop},${id}]`),
      explain: (id: number, thrown: unknown, of?: FailedWork) =>
        this.#serving.explain(thrown, of ?? { method: `stream ${id}`, caller: this.caller }),
      congested: () => outbox.congestion !== undefined,
    };
    this.#sending = new OutgoingStreams(limits, wires);
    this.#receiving = new IncomingStreams(limits, wires);
    const parts = { limits, outbox, parcels: this.#parcels, exported: this.#exported, imported: this.#imported, sending: this.#sending };
    this.#writer = new MessageWriter(parts);
    this.#serving = new Serving(options, { ...parts, writer: this.#writer, replyError: (id, error) => this.#replyError(id, error) });
  }

  /** Who the peer is, as last verified. */
  get caller(): Caller {
    return this.#serving.caller;
  }

  /** The peer has shown a new credential of the same user. */
  set caller(caller: Caller) {
    this.#serving.caller = caller;
  }

  /** How much is open; for metrics and leak checks. */
  get counts(): SessionCounts {
    return {
      calls: this.#calls.size,
      serving: this.#serving.size,
      exported: this.#exported.size,
      imported: this.#imported.size,
      sending: this.#sending.size,
      receiving: this.#receiving.size,
      parcels: this.#parcels.size + (this.#arriving?.size ?? 0),
    };
  }

  /** What the peer takes in is known: large messages and streams begin. It says so once. */
  agree(peer: AgreedLimits): void {
    if (this.#agreed) return;
    this.#agreed = true;
    const agreed = agreedLimits(this.#limits, peer);
    this.#outbox.agree(agreed.messageBytes);
    this.#receiving.agree(agreed.streamWindow);
    this.#sending.agree(agreed.streamWindow);
    this.#parcels.agree(agreed);
  }

  call(method: string, args: readonly unknown[], options: CallOptions): Promise<unknown> {
    if (options.meta !== undefined && !isKey(options.meta.key)) return Promise.reject(badKey(method));
    return this.#open(method, options, (id, timeoutMs) => {
      const written = this.#writer.write(callMessage(id, method, args, timeoutMs, options.meta));
      return written === undefined ? undefined : this.#follow(id, written);
    });
  }

  /**
   * @throws {KiteError} `limit_exceeded` when the peer takes in nothing, or for what is too large.
   */
  notify(method: string, args: readonly unknown[]): void {
    const { congestion } = this.#outbox;
    if (congestion !== undefined) throw congestion;
    this.#writer.write([MESSAGE.notify, method, args]);
  }

  async authenticate(auth: unknown): Promise<void> {
    await this.#open("authenticate", {}, (id) => {
      this.#writer.write([MESSAGE.authenticate, id, auth]);
      return undefined;
    });
  }

  /** Streams go on after the peer has acknowledged enough. */
  resume(): void {
    this.#sending.resume();
  }

  /** The peer has frames up to this one: large messages go on. */
  acknowledged(frame: number): void {
    this.#parcels.acknowledged(frame);
  }

  /**
   * Acts on the messages of a frame, in their order.
   *
   * @throws {KiteError} `protocol_error` or `limit_exceeded` when the peer broke the rules; the session must end.
   */
  read(frame: Frame): void {
    for (const message of frame.messages) {
      if (this.#over !== undefined) return;
      if (message[0] === MESSAGE.piece) this.#onPiece(message, frame);
      else this.#handle(message, frame);
    }
  }

  /** Ends everything that is open: calls fail, functions and streams are let go, methods are told to stop. */
  close(why: KiteError): void {
    this.#over = why;
    this.#calls.failAll(why, (frame) => this.#outbox.wasSent(frame));
    this.#serving.close(why);
    this.#parcels.clear();
    this.#arriving?.clear();
    this.#sending.clear();
    this.#receiving.clear(new KiteError("disconnected", why.message, { cause: why }));
    this.#exported.clear();
    this.#imported.clear();
  }

  #open(name: string, options: CallOptions, send: SendCall): Promise<unknown> {
    // Also for functions that outlive their session: nobody would ever answer.
    if (this.#over !== undefined) return Promise.reject(gone(name, this.#over));
    const { congestion, nextFrame } = this.#outbox;
    return congestion === undefined ? this.#calls.open(name, options, nextFrame, send) : Promise.reject(congestion);
  }

  /** A call that travels in pieces fails if its bytes cannot be read, and is sent when its last piece is. */
  #follow(id: number, { parcel }: Written): Parcel | undefined {
    parcel?.follow({ failed: (error) => this.#calls.reject(id, error) });
    return parcel;
  }

  #cancel(id: number, departure: Departure | undefined): void {
    if (departure instanceof Parcel && !departure.over) this.#parcels.drop(departure);
    else this.#push(`[${MESSAGE.cancel},${id}]`);
  }

  #invoke(fn: ImportedFunction, args: readonly unknown[], { meta } = FOREVER): Promise<unknown> {
    return this.#open(`function ${fn.id}`, FOREVER, (id) => {
      const message = meta === undefined ? [MESSAGE.invoke, id, fn.id, args] : [MESSAGE.invoke, id, fn.id, args, meta];
      if (!fn.free) return this.#invokeLater(fn, id, this.#writer.prepare(message));
      const written = this.#writer.write(message);
      if (written === undefined) return undefined;
      return this.#inOrder(fn, this.#follow(id, written));
    });
  }

  #invokeLater(fn: ImportedFunction, id: number, prepared: Prepared): Departure {
    const departure = { frame: Number.POSITIVE_INFINITY };
    fn.later(() => {
      if (this.#over !== undefined) return;
      try {
        const frame = this.#outbox.nextFrame;
        const written = this.#writer.send(prepared);
        const parcel = this.#inOrder(fn, written === undefined ? undefined : this.#follow(id, written));
        if (parcel === undefined) departure.frame = frame;
        else parcel.follow({ sent: (last) => (departure.frame = last) });
      } catch (thrown) {
        this.#calls.reject(id, KiteError.from(thrown));
      }
    });
    return departure;
  }

  /** What follows an invocation that travels in pieces waits until it is sent. */
  #inOrder(fn: ImportedFunction, parcel: Parcel | undefined): Parcel | undefined {
    if (parcel === undefined || parcel.over) return parcel;
    const unblock = fn.block();
    parcel.follow({ sent: unblock, failed: unblock, dropped: unblock });
    return parcel;
  }

  #push(message: string): void {
    if (this.#over === undefined) this.#outbox.push(message);
  }

  #replyError(id: number, error: KiteError): void {
    this.#push(`[${MESSAGE.error},${id},${errorText(error)}]`);
  }

  #handle(message: readonly unknown[], frame: Frame): void {
    const [type, id] = message;
    if (type === MESSAGE.notify) return this.#onNotify(message, frame);
    if (!isCount(id)) throw protocolError(`a message of type ${String(type)} has a number as its second element`);
    switch (type) {
      case MESSAGE.call:
        return this.#onCall(id, message, frame);
      case MESSAGE.result:
        return this.#onResult(id, message[2], frame);
      case MESSAGE.error:
        return this.#calls.reject(id, KiteError.fromWire(message[2]));
      case MESSAGE.cancel:
        return this.#serving.cancel(id);
      case MESSAGE.invoke:
        return this.#onInvoke(id, message, frame);
      case MESSAGE.release:
        return this.#onRelease(id, message[2]);
      case MESSAGE.chunk:
        return this.#onChunk(id, message, frame);
      case MESSAGE.credit:
        return this.#sending.credit(id, message[2]);
      case MESSAGE.end:
        return this.#receiving.end(id, message[2] === undefined ? undefined : KiteError.fromWire(message[2]));
      case MESSAGE.stop:
        return this.#sending.stop(id);
      case MESSAGE.authenticate:
        return this.#onAuthenticate(id, message[2], frame);
      case MESSAGE.drop:
        return this.#arriving?.drop(id);
      default:
        throw protocolError(`a message type of kite.v1 was expected, got ${String(type).slice(0, 40)}`);
    }
  }

  #onPiece([, id, segment, total]: readonly unknown[], frame: Frame): void {
    const bytes = isCount(segment) ? frame.segments[segment] : undefined;
    if (!isCount(id) || bytes === undefined) throw protocolError("a piece has its message's id and a segment of the frame");
    this.#arriving ??= new IncomingParcels(this.#limits);
    const body = this.#arriving.piece(id, bytes, total);
    this.#outbox.acknowledgeSoon();
    if (body === undefined) return;
    const whole = readFrame(body, this.#limits.depth);
    const [message] = whole.messages;
    if (message === undefined || whole.messages.length > 1) throw protocolError("pieces make up one message");
    this.#handle(message, whole);
  }

  #onCall(id: number, message: readonly unknown[], frame: Frame): void {
    const [, , method, rawArgs, timeoutMs, rawMeta] = message;
    if (typeof method !== "string" || !Array.isArray(rawArgs)) {
      throw protocolError("a call has an id, a method's name and an array of arguments");
    }
    const arrivals = this.#arrivals(frame);
    const args = this.#revive(rawArgs, frame, arrivals) as unknown[];
    const meta = rawMeta === undefined ? undefined : readMeta(rawMeta);
    if (meta !== undefined && !isKey(meta.key)) {
      arrivals?.letGo();
      return this.#replyError(id, badKey(method.slice(0, MAX_NAME)));
    }
    const timeout = typeof timeoutMs === "number" ? timeoutMs : undefined;
    this.#serving.call(id, { method, args, timeoutMs: timeout, meta, arrivals: arrivals?.some });
  }

  #onInvoke(id: number, message: readonly unknown[], frame: Frame): void {
    const [, , fn, rawArgs, rawMeta] = message;
    if (!isCount(fn) || !Array.isArray(rawArgs)) throw protocolError("an invocation has an id, a function and an array");
    const arrivals = this.#arrivals(frame);
    const args = this.#revive(rawArgs, frame, arrivals) as unknown[];
    // Nothing repeats an invocation: what stands there as a key is none.
    const meta = rawMeta === undefined ? undefined : { ...readMeta(rawMeta), key: undefined };
    this.#serving.invoke(id, { method: `function ${fn}`, args, meta, arrivals: arrivals?.some }, () => this.#exported.get(fn));
  }

  #onRelease(id: number, count: unknown): void {
    if (!isCount(count) || count === 0) throw protocolError("a release says how many copies of a function are let go");
    this.#exported.release(id, count);
  }

  #onNotify(message: readonly unknown[], frame: Frame): void {
    const [, method, rawArgs] = message;
    if (typeof method !== "string" || !Array.isArray(rawArgs)) {
      throw protocolError("a notification has a method's name and an array");
    }
    const arrivals = this.#arrivals(frame);
    this.#serving.notify({ method, args: this.#revive(rawArgs, frame, arrivals) as unknown[], arrivals: arrivals?.some });
  }

  #onResult(id: number, result: unknown, frame: Frame): void {
    const arrivals = this.#arrivals(frame);
    // Its caller may have given up.
    if (!this.#calls.resolve(id, this.#revive(result, frame, arrivals))) arrivals?.letGo();
  }

  #onAuthenticate(id: number, credential: unknown, frame: Frame): void {
    const arrivals = this.#arrivals(frame);
    this.#serving.authenticate(id, this.#revive(credential, frame, arrivals));
    // A credential is text: whatever else is in it has nobody to go to.
    arrivals?.letGo();
  }

  #onChunk(id: number, [, , written, weight]: readonly unknown[], frame: Frame): void {
    const arrivals = this.#arrivals(frame);
    const chunk = this.#revive(written, frame, arrivals);
    if (!this.#receiving.chunk(id, { chunk, weight, arrivals: arrivals?.some })) arrivals?.letGo();
  }

  #arrivals(frame: Frame): Arrivals | undefined {
    return frame.marked ? new Arrivals() : undefined;
  }

  /** Notes functions and streams among the `arrivals`. */
  #revive(value: unknown, frame: Frame, arrivals: Arrivals | undefined): unknown {
    if (frame.marked) return reviveValue(value, this.#source(frame, arrivals));
    checkValue(value, this.#limits.depth);
    return value;
  }

  #source(frame: Frame, arrivals: Arrivals | undefined): ValueSource {
    return {
      maxDepth: this.#limits.depth,
      importFunction: (id) => {
        const fn = this.#imported.get(id);
        arrivals?.add(() => fn.release());
        return fn;
      },
      ownFunction: (id) => this.#exported.get(id),
      importStream: (id) => {
        const stream = this.#receiving.add(id);
        arrivals?.add(() => stream.cancel());
        return stream;
      },
      bytes: (segment) => {
        const bytes = frame.segments[segment];
        if (bytes === undefined) throw protocolError(`segment ${segment} is not in the frame`);
        return keptBytes(bytes);
      },
    };
  }
}

function callMessage(id: number, method: string, args: readonly unknown[], timeoutMs: number, meta: CallMeta | undefined): unknown[] {
  const deadline = Number.isFinite(timeoutMs) ? Math.ceil(timeoutMs) : null;
  if (meta !== undefined) return [MESSAGE.call, id, method, args, deadline, meta];
  return deadline === null ? [MESSAGE.call, id, method, args] : [MESSAGE.call, id, method, args, deadline];
}

// Long enough to recognise a method by; a peer may send a name of any length, and gets it back.
const MAX_NAME = 100;

function errorText(error: KiteError): string {
  return JSON.stringify(carriedError(error));
}

/** What a call fails with after its session has ended. */
export function gone(name: string, why: KiteError): KiteError {
  return new KiteError("disconnected", `${name}: the session has ended: ${why.message}; it did not run`, {
    outcome: "not_run",
    cause: why,
  }).passOn();
}

// A function's answer may be "when I have taken this in": a slow reader is no failure. The session's end ends the wait.
const FOREVER: CallOptions = { timeoutMs: Number.POSITIVE_INFINITY };
