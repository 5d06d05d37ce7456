import type { Msg, NatsConnection, NatsError, Subscription } from "nats";
import { KiteError } from "../errors.ts";
import type { Identity } from "../identity.ts";
import { LIMITS } from "../limits.ts";
import { type Logger, silent } from "../log.ts";
import type { Methods } from "../method.ts";
import type { Transport } from "../transport/transport.ts";
import { PROTOCOL } from "../wire/v1.ts";
import { CarrierConnection } from "./connection.ts";
import { NatsLink } from "./link.ts";
import { type Announcement, announce } from "./service.ts";
import { acceptSubject, checkAddress, isLinkSubject, linkSubject, toAddress, toUrl } from "./subjects.ts";

/** What listens: a `Kite`, or anything that takes transports. */
export interface ServesTransports {
  readonly identity: Identity;
  /** Counted in `$SRV.STATS`, whatever carries them. */
  readonly sessions?: Iterable<{ readonly counts: { readonly serving: number } }>;
  serve(transport: Transport): void;
}

/** How a kite is called over NATS; every field may be left out. */
export interface ListenNatsOptions {
  /** The word that this kite's subjects begin with. Default: the kite's id. */
  readonly address?: string | undefined;
  /** The largest frame that is taken in; default: twice `LIMITS.frameBytes`, as over WebSocket. */
  readonly maxFrameBytes?: number | undefined;
  /** How many links may be open at once; more are not answered. Default 10,000. */
  readonly maxLinks?: number | undefined;
  /** Whether the kite answers `$SRV.PING`, `INFO` and `STATS`, as `nats micro ls` asks. Default true. */
  readonly announce?: boolean | undefined;
  /** The methods whose names `$SRV.INFO` tells whoever may ask on NATS; default: none. */
  readonly methods?: Methods | undefined;
  /** Where it says that links were refused or lost. Default: nowhere. */
  readonly log?: Logger | undefined;
}

// As many as a kite with a thousand callers has after each of them came back ten times within a minute.
const MAX_LINKS = 10_000;
// A hello has at most 64 KiB; until it was answered, nobody knows who sends here.
const MAX_GREETING_BYTES = 128 * 1024;

/**
 * Lets a kite be called over NATS, at the `url` of the result. Disposing takes no more links; those that are open end with
 * the kite's sessions. The NATS connection stays its owner's, who closes it after the kite.
 *
 * @throws {KiteError} `invalid_argument` when the address is not one word, `unavailable` when NATS does not answer.
 * @example
 * await using listener = await listenNats(kite, await connect({ servers: "nats.example:4222" }));
 * await kite.register({ url: listener.url });
 */
export async function listenNats(
  kite: ServesTransports,
  connection: NatsConnection,
  options: ListenNatsOptions = {},
): Promise<NatsListener> {
  const listener = new NatsListener(kite, connection, options);
  try {
    if (options.announce ?? true) await listener.announce(options.methods);
    // Whoever is told the url finds somebody there.
    await CarrierConnection.of(connection).flushed();
  } catch (cause) {
    await listener[Symbol.asyncDispose]();
    throw new KiteError("unavailable", `NATS does not answer: ${cause instanceof Error ? cause.message : "unknown"}`, { cause });
  }
  return listener;
}

/**
 * Where a kite takes links over NATS; {@link listenNats} makes it. Whoever made it disposes it.
 *
 * @example
 * await using listener = await listenNats(kite, await connect());
 * console.log(`${listener.url} has ${listener.links} links`);
 */
export class NatsListener implements AsyncDisposable {
  /** Such as `nats://5f0c`: what the kite is registered with, and dialled at. */
  readonly url: string;
  readonly #kite: ServesTransports;
  readonly #options: ListenNatsOptions;
  readonly #carrier: CarrierConnection;
  readonly #address: string;
  readonly #subscription: Subscription;
  #announcement: Announcement | undefined;
  #links = 0;
  #full = false;
  #closed = false;

  constructor(kite: ServesTransports, connection: NatsConnection, options: ListenNatsOptions) {
    this.#kite = kite;
    this.#options = options;
    this.#address = checkAddress(options.address ?? toAddress(kite.identity.id));
    this.url = toUrl(this.#address);
    this.#carrier = CarrierConnection.of(connection);
    this.#subscription = connection.subscribe(acceptSubject(this.#address), {
      // Of several that share an address, one answers.
      queue: "kite",
      callback: (error, message) => this.#onQuestion(error, message),
    });
  }

  /** Links that are open. */
  get links(): number {
    return this.#links;
  }

  /** Answers `$SRV.PING`, `INFO` and `STATS` from now on, with the names of these methods. */
  async announce(methods: Methods = {}): Promise<void> {
    this.#announcement = await announce({
      connection: this.#carrier.connection,
      identity: this.#kite.identity,
      url: this.url,
      subject: acceptSubject(this.#address),
      methods,
      counts: () => ({ links: this.#links, ...this.#work() }),
    });
  }

  #work(): { sessions: number; calls: number } {
    const sessions = [...(this.#kite.sessions ?? [])];
    return { sessions: sessions.length, calls: sessions.reduce((sum, { counts }) => sum + counts.serving, 0) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { connection } = this.#carrier;
    if (connection.isClosed()) return;
    this.#subscription.unsubscribe();
    void this.#announcement?.stop();
    if (!this.#carrier.connected) return;
    // Gone for whoever asks from now on. A connection that is lost meanwhile has taken the subscription with it.
    await this.#carrier.flushed().catch(() => {});
  }

  #onQuestion(error: NatsError | null, message: Msg): void {
    const { log = silent, maxLinks = MAX_LINKS } = this.#options;
    if (error !== null) return log.error({ err: error }, "NATS does not let this kite listen");
    const { reply } = message;
    // Nobody could be told what is wrong with such a question without publishing where a stranger wants it.
    if (reply === undefined || !isLinkSubject(reply) || !isProtocol(message.data)) return;
    if (this.#links >= maxLinks) return this.#turnAway();
    try {
      this.#open(reply);
    } catch (thrown) {
      log.error({ err: thrown }, "a link over NATS could not be opened");
    }
  }

  /** Said once: a flood must not fill the log as well. */
  #turnAway(): void {
    if (!this.#full) this.#options.log?.warn({ links: this.#links }, "as many links over NATS as may be; further ones are not answered");
    this.#full = true;
  }

  #open(peer: string): void {
    this.#full = false;
    this.#links += 1;
    const link = new NatsLink({
      carrier: this.#carrier,
      own: linkSubject(this.#address),
      peer,
      maxFrameBytes: this.#options.maxFrameBytes ?? LIMITS.frameBytes * 2,
      maxGreetingBytes: MAX_GREETING_BYTES,
      onOver: () => {
        this.#links -= 1;
      },
    });
    link.open();
    this.#kite.serve(link);
  }
}

function isProtocol(data: Uint8Array): boolean {
  return data.length === PROTOCOL.length && Buffer.from(data).toString() === PROTOCOL;
}
