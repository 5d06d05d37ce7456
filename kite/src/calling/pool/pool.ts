import { KiteError } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import type { CallOptions } from "../../method.ts";
import type { DirectoryKite, WatchEvent } from "../../registry/registry.ts";
import type { PooledBalance } from "../balance.ts";
import type { Connection } from "../connection.ts";
import { type Choose, chooserOf } from "./choose.ts";
import { Member, type OpenMember } from "./member.ts";
import { inOrder } from "./rendezvous.ts";

export interface PoolOptions {
  /** For people: what the kites were found by. */
  readonly query: string;
  readonly balance: PooledBalance;
  /** How many kites are called at most. Default 16. */
  readonly size?: number | undefined;
  /** The id of the kite that calls: where more match than are called, callers spread over all of them. */
  readonly caller: string;
  readonly found: readonly DirectoryKite[];
  /** The directory's changes; through restarts of kontrol, and without an end. */
  readonly watch: (signal: AbortSignal) => AsyncIterable<WatchEvent>;
  readonly open: OpenMember;
  readonly onClosed?: (() => void) | undefined;
  readonly log: Logger;
  readonly random?: (() => number) | undefined;
}

/**
 * Several kites as one: each call goes to one of those that match. The set follows the directory; a kite that cannot be
 * reached is passed over for a while, and while kontrol is away everything stays as it was. Whoever made it closes it.
 */
export class Pool implements Connection {
  readonly #options: PoolOptions;
  readonly #choose: Choose;
  readonly #random: () => number;
  readonly #size: number;
  readonly #seed: string;
  readonly #members = new Map<string, Member>();
  /** Not called any more, but not yet idle either. */
  readonly #leaving = new Set<Member>();
  readonly #closing = new AbortController();
  readonly #following: Promise<void>;
  #measureAt = 0;
  #sweep: ReturnType<typeof setInterval> | undefined;

  constructor(options: PoolOptions) {
    const { balance, size = SIZE, caller, query, found, random = Math.random } = options;
    if (!Number.isInteger(size) || size < 1) throw new KiteError("invalid_argument", `poolSize is a whole number from 1, got ${size}`);
    this.#options = options;
    this.#random = random;
    this.#choose = chooserOf(balance, random);
    this.#size = size;
    // Keys must lead all callers to the same kite, so all of them choose the same few.
    this.#seed = typeof balance === "object" ? query : caller;
    for (const kite of found) this.#enter(kite);
    this.#following = this.#follow();
  }

  get state(): "open" | "closed" {
    return this.#closing.signal.aborted ? "closed" : "open";
  }

  get hasAnother(): boolean {
    const now = performance.now();
    return [...this.#members.values()].some(({ restsUntil }) => restsUntil <= now);
  }

  /** The kites that calls go to at the moment. */
  get kites(): readonly DirectoryKite[] {
    return this.#candidates().map(({ kite }) => kite);
  }

  // Async, since `stickyBy` is the caller's own, and what it throws is the call's.
  async call(method: string, args: readonly unknown[], options?: CallOptions): Promise<unknown> {
    if (this.#closing.signal.aborted) throw closedHere(method);
    const candidates = this.#candidates();
    const member = this.#choose(candidates, method, args);
    if (member === undefined) throw this.#nobody(method);
    if (this.#options.balance === "nearest") this.#measure(candidates);
    if (!member.isOpen) this.#makeRoom(candidates);
    return member.call(method, args, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#options.onClosed?.();
    clearInterval(this.#sweep);
    await Promise.all([this.#following, ...[...this.#members.values(), ...this.#leaving].map((member) => member.close())]);
    this.#members.clear();
    this.#leaving.clear();
  }

  async #follow(): Promise<void> {
    const { watch, log, query } = this.#options;
    try {
      for await (const event of watch(this.#closing.signal)) this.#apply(event);
    } catch (thrown) {
      const error = KiteError.from(thrown);
      if (!this.#closing.signal.aborted)
        log.warn({ query, code: error.code, error: error.message }, "the kites that match are not followed");
    }
  }

  #apply(event: WatchEvent): void {
    if (event.type === "registered") return this.#enter(event.kite);
    if (event.type === "gone") return this.#leave(event.kite.id);
    const present = new Set(event.kites.map(({ kite }) => kite.id));
    for (const id of this.#members.keys()) if (!present.has(id)) this.#leave(id);
    for (const kite of event.kites) this.#enter(kite);
  }

  #enter(kite: DirectoryKite): void {
    const known = this.#members.get(kite.kite.id);
    if (known !== undefined) return known.renew(kite);
    const { open } = this.#options;
    this.#members.set(kite.kite.id, new Member({ kite, open, random: this.#random }));
  }

  #leave(id: string): void {
    const member = this.#members.get(id);
    this.#members.delete(id);
    if (member?.isOpen) this.#letGo(member);
  }

  /** Closed as soon as nobody uses it: a kite that left the directory may still be answering. */
  #letGo(member: Member): void {
    this.#leaving.add(member);
    this.#sweepLeaving();
    if (this.#leaving.size === 0 || this.#sweep !== undefined) return;
    this.#sweep = setInterval(() => this.#sweepLeaving(), SWEEP_MS);
    (this.#sweep as { unref?: () => void }).unref?.();
  }

  #sweepLeaving(): void {
    for (const member of this.#leaving) {
      if (!member.isIdle) continue;
      this.#leaving.delete(member);
      void member.close();
    }
    if (this.#leaving.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }

  /** The kites that calls may go to: of those that are well, as many as the pool holds; if none is, the one that will be first. */
  #candidates(): readonly Member[] {
    const now = performance.now();
    const all = [...this.#members.values()];
    const well = all.filter(({ restsUntil }) => restsUntil <= now);
    if (well.length > this.#size) return inOrder(this.#seed, well).slice(0, this.#size);
    if (well.length > 0 || all.length === 0) return well;
    return [all.reduce((soonest, member) => (member.restsUntil < soonest.restsUntil ? member : soonest))];
  }

  /** Sessions to kites whose place another one has taken are let go, so that there are never more in use than the pool holds. */
  #makeRoom(candidates: readonly Member[]): void {
    const open = [...this.#members.values()].filter(({ isOpen }) => isOpen);
    if (open.length < this.#size) return;
    for (const member of open) {
      if (candidates.includes(member)) continue;
      this.#members.set(member.id, member.successor());
      this.#letGo(member);
    }
  }

  /** All of them now and then, and only while calls are made: whoever is not called would otherwise never be known to be nearer. */
  #measure(candidates: readonly Member[]): void {
    const now = performance.now();
    if (now < this.#measureAt) return;
    this.#measureAt = now + MEASURE_MS * (0.5 + this.#random());
    for (const member of candidates) void member.measure();
  }

  #nobody(method: string): KiteError {
    const { query } = this.#options;
    const message = `${method}: no kite matches ${query} at the moment; it did not run. See who is there with: kite list`;
    return new KiteError("unavailable", message, { outcome: "not_run" }).passOn();
  }
}

// Sessions cost memory and heartbeats at both ends; sixteen carry more than one process can ask for.
const SIZE = 16;
// Ten seconds, as a heartbeat: two small calls to each.
const MEASURE_MS = 10_000;
const SWEEP_MS = 1_000;

function closedHere(method: string): KiteError {
  return new KiteError("disconnected", `${method}: the connection was closed on this side; it did not run`, {
    outcome: "not_run",
  }).passOn();
}
