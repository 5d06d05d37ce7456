import { Backoff } from "../../backoff.ts";
import { KiteError, type KiteErrorCode } from "../../errors.ts";
import type { CallOptions } from "../../method.ts";
import type { DirectoryKite } from "../../registry/registry.ts";
import type { Connection } from "../connection.ts";
import type { Choosable } from "./choose.ts";

/** A session to one kite of a pool, as the client opens it. */
export interface MemberConnection {
  readonly connection: Connection;
  /** Whether ending it would end nothing that somebody uses: no calls, streams or functions are open. */
  isIdle(): boolean;
}

/** Opens a connection, which dials with its first call. `kite` is asked before every dial; `refused` says that a new token is needed. */
export type OpenMember = (member: { kite(): DirectoryKite; refused(): boolean }) => MemberConnection;

export interface MemberOptions {
  readonly kite: DirectoryKite;
  readonly open: OpenMember;
  readonly random: () => number;
}

/** One kite of a pool: its session, and how well it did. Its pool closes it. */
export class Member implements Choosable {
  readonly id: string;
  kite: DirectoryKite;
  pending = 0;
  latencyMs: number | undefined;
  readonly #options: MemberOptions;
  readonly #backoff: Backoff;
  #opened: MemberConnection | undefined;
  #restsUntil = 0;
  #refused = false;
  #closed = false;

  constructor(options: MemberOptions) {
    const { kite, random } = options;
    this.#options = options;
    this.id = kite.kite.id;
    this.kite = kite;
    // Never less than half: a rest that is over at once would send the next call to the same closed door.
    this.#backoff = new Backoff({ firstMs: FIRST_REST_MS, random: () => 0.5 + random() / 2 });
  }

  get isOpen(): boolean {
    return this.#opened !== undefined;
  }

  /** When calls may go to it again, by `performance.now()`. */
  get restsUntil(): number {
    return this.#restsUntil;
  }

  get isIdle(): boolean {
    return this.pending === 0 && (this.#opened?.isIdle() ?? true);
  }

  /** What the directory says of it now. When it has registered anew, whatever was wrong may be over; new labels cure nothing. */
  renew(kite: DirectoryKite): void {
    if (kite.registeredAt !== this.kite.registeredAt || kite.url !== this.kite.url) this.#restsUntil = 0;
    this.kite = kite;
  }

  async call(method: string, args: readonly unknown[], options: CallOptions | undefined): Promise<unknown> {
    this.pending++;
    const begin = performance.now();
    try {
      const answer = await this.#connection().call(method, args, options);
      this.#worked(performance.now() - begin);
      return answer;
    } catch (thrown) {
      this.#failed(KiteError.from(thrown));
      throw thrown;
    } finally {
      this.pending--;
    }
  }

  /** Measures a round trip. The first of two may have to dial; any answer will do, also that there is no such method. */
  async measure(): Promise<void> {
    if (!(await this.#ping())) return;
    const begin = performance.now();
    if (await this.#ping()) this.#measured(performance.now() - begin);
  }

  /** The same kite without a session, to be called again later while this one's calls come to their end. */
  successor(): Member {
    const next = new Member(this.#options);
    next.kite = this.kite;
    next.latencyMs = this.latencyMs;
    next.#restsUntil = this.#restsUntil;
    return next;
  }

  async close(): Promise<void> {
    const opened = this.#opened;
    this.#opened = undefined;
    this.#closed = true;
    await opened?.connection[Symbol.asyncDispose]();
  }

  #connection(): Connection {
    // A measurement that is under way must not open again what nobody would close.
    if (this.#closed) throw new KiteError("disconnected", "the session to this kite was let go", { outcome: "not_run" }).passOn();
    this.#opened ??= this.#options.open({ kite: () => this.kite, refused: () => this.#refused });
    return this.#opened.connection;
  }

  async #ping(): Promise<boolean> {
    try {
      await this.#connection().call("kite.ping", [], { timeoutMs: PING_TIMEOUT_MS });
      return true;
    } catch (thrown) {
      const error = KiteError.from(thrown);
      this.#failed(error);
      return !UNREACHED.has(error.code) && error.code !== "deadline_exceeded";
    }
  }

  #worked(tookMs: number): void {
    this.#restsUntil = 0;
    this.#refused = false;
    this.#backoff.reset();
    // A call takes the way and the work. Less than the way is thought to take shows that it is shorter; more shows nothing.
    if (this.latencyMs !== undefined && tookMs < this.latencyMs) this.#measured(tookMs);
  }

  #measured(ms: number): void {
    this.latencyMs = this.latencyMs === undefined ? ms : this.latencyMs + (ms - this.latencyMs) * WEIGHT;
  }

  /** Passed over for a while, if the failure is the kite's and not that of a method which calls on: that one has no outcome. */
  #failed(error: KiteError): void {
    const overloaded = error.code === "overloaded";
    if (!overloaded && (error.outcome === undefined || !UNREACHED.has(error.code))) return;
    this.#refused = error.code === "unauthenticated" || error.code === "token_expired";
    const asked = error.details?.["retryAfterMs"];
    const restMs = Math.max(this.#backoff.next() ?? 0, typeof asked === "number" ? asked : 0);
    this.#restsUntil = performance.now() + restMs;
  }
}

const UNREACHED: ReadonlySet<KiteErrorCode> = new Set<KiteErrorCode>([
  "unavailable",
  "disconnected",
  "failed_precondition",
  "unauthenticated",
  "token_expired",
]);

const FIRST_REST_MS = 500;
const PING_TIMEOUT_MS = 2_000;
// Three measurements make up two thirds: one pause of a garbage collector does not move everybody elsewhere.
const WEIGHT = 0.3;
