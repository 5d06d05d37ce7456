import { z } from "zod";
import { Endable } from "../abortable.ts";
import { callWith, type Remote } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import type { Identity, Query } from "../identity.ts";
import type { LabelChange } from "../labels.ts";
import { method } from "../method.ts";
import { matcher } from "../query.ts";
import { type ConnectedPair, connectedPair } from "../testing.ts";
import type { RegistryClientOptions } from "./kontrol.ts";
import type { ReachRegistry } from "./registration.ts";
import type { FoundKites, Register, Registered, RegistryContract, Revocation, WatchEvent } from "./registry.ts";

/** Waits that a test does not notice. */
export const FAST: RegistryClientOptions["backoff"] = { firstMs: 1, maxMs: 4 };

/** To its callers every remote function is a promise; this one is never kept. */
const silence = (() => new Promise(() => {})) as () => void;

interface TestRegistryOptions {
  heartbeatMs?: number;
  /** Never answers a beat. */
  deaf?: boolean;
  kiteKey?: string;
  /** Names its answers, and says of one that is known that it is unchanged. */
  tags?: boolean;
  now?: () => number;
}

/** A registry that keeps its directory in a list and can be told to fail. */
export class TestRegistry implements RegistryContract {
  registrations = 0;
  refusals = 0;
  beats = 0;
  readonly registered: Register[] = [];
  readonly labelled: Record<string, string>[] = [];
  readonly labelChanges: LabelChange[] = [];
  questions = 0;
  /** Of those, how many were answered with just that. */
  unchanged = 0;
  watchers = 0;
  watchedSince: (string | undefined)[] = [];
  /** Thrown instead of registering. */
  refuse: KiteError | undefined;
  /** Thrown instead of every other answer. */
  away: KiteError | undefined;
  compacted = false;
  readonly #options: TestRegistryOptions;
  readonly #log: WatchEvent[] = [];
  readonly #revoked: Revocation[] = [];
  #kites: Identity[] = [];
  #tokens = 0;
  readonly #waiting = new Set<() => void>();
  #dropped = new AbortController();

  constructor(options: TestRegistryOptions = {}) {
    this.#options = options;
  }

  enter(kite: Identity): void {
    this.#kites.push(kite);
    this.#log.push({ type: "registered", revision: `${this.#log.length + 1}`, kite: this.#entry(kite) });
    this.#wake();
  }

  leave(id: string): void {
    const [kite] = this.#kites.filter((each) => each.id === id);
    this.#kites = this.#kites.filter((each) => each.id !== id);
    if (kite !== undefined) this.#log.push({ type: "gone", revision: `${this.#log.length + 1}`, kite, reason: "closed" });
    this.#wake();
  }

  revoke(revocation: Revocation): void {
    this.#revoked.push(revocation);
    this.#wake();
  }

  /** Ends every registration and watch, as a restart does. */
  drop(why = new KiteError("disconnected", "the registry was restarted")): void {
    const dropped = this.#dropped;
    this.#dropped = new AbortController();
    dropped.abort(why);
    this.#wake();
  }

  async register(registration: Register): Promise<Registered> {
    if (this.refuse !== undefined) {
      this.refusals += 1;
      throw this.refuse;
    }
    this.registrations += 1;
    this.registered.push(registration);
    this.labelled.push(registration.labels ?? {});
    const { heartbeatMs = 10_000, deaf, kiteKey } = this.#options;
    return {
      kite: registration.kite,
      url: registration.url ?? "ws://relay",
      generation: `${this.registrations}`,
      heartbeatMs,
      beat: deaf ? silence : () => void this.beats++,
      ...(kiteKey === undefined ? {} : { kiteKey }),
      revocations: this.#follow(this.#revoked, 0),
    };
  }

  async updateLabels({ labels }: { labels: LabelChange }): Promise<void> {
    this.#ask();
    this.labelChanges.push(labels);
  }

  async getKites({ query, known }: { query: Query; known?: string }): Promise<FoundKites> {
    this.#ask();
    const revision = `${this.#log.length}`;
    if (known === revision) {
      this.unchanged += 1;
      return { kites: [], revision, unchanged: true };
    }
    const kites = this.#matching(query).map((kite) => ({ ...this.#entry(kite), ...this.#issue() }));
    return { kites, revision, ...(this.#options.tags ? { tag: revision } : {}) };
  }

  async watch({ query, since }: { query: Query; since?: string }): Promise<AsyncIterable<WatchEvent>> {
    this.watchedSince.push(since);
    this.#ask();
    if (since !== undefined && this.compacted) throw new KiteError("failed_precondition", `revision ${since} is unknown`);
    return this.#watch(query, since);
  }

  async getToken(_request: { query: Query }) {
    this.#ask();
    const { token, tokenExpiresAt } = this.#issue();
    return { token, expiresAt: tokenExpiresAt };
  }

  async getKey() {
    return { keys: [], current: "none" };
  }

  #watch(query: Query, since: string | undefined): AsyncIterable<WatchEvent> {
    const at = since === undefined ? this.#log.length : Number(since);
    const kites = this.#matching(query).map((kite) => this.#entry(kite));
    const first: WatchEvent[] = since === undefined ? [{ type: "snapshot", revision: `${at}`, kites }] : [];
    return this.#follow(this.#log, at, first);
  }

  #follow<T>(list: readonly T[], from: number, first: readonly T[] = []): AsyncIterable<T> {
    const dropped = this.#dropped.signal;
    const registry = this;
    return new Endable(async function* (signal) {
      registry.watchers += 1;
      try {
        yield* first;
        for (let at = from; !signal.aborted; ) {
          while (at < list.length && !dropped.aborted) yield list[at++] as T;
          if (dropped.aborted) throw dropped.reason;
          await new Promise<void>((resolve) => {
            const wake = () => {
              signal.removeEventListener("abort", wake);
              resolve();
            };
            registry.#waiting.add(wake);
            signal.addEventListener("abort", wake, { once: true });
          });
        }
      } finally {
        registry.watchers -= 1;
      }
    });
  }

  #ask(): void {
    this.questions += 1;
    if (this.away !== undefined) throw this.away;
  }

  #matching(query: Query): Identity[] {
    const means = matcher(query);
    return this.#kites.filter((kite) => means(kite));
  }

  #entry(kite: Identity) {
    return { kite, url: "ws://here", visibility: "private" as const, labels: {}, role: "owner" as const, registeredAt: 0 };
  }

  #issue() {
    this.#tokens += 1;
    return { token: `token-${this.#tokens}`, tokenExpiresAt: (this.#options.now ?? Date.now)() + 600_000 };
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resume of waiting) resume();
  }
}

export interface ServedRegistry extends AsyncDisposable {
  readonly pair: Pick<ConnectedPair<never>, "block" | "mend">;
  readonly reach: ReachRegistry;
  /** Ends every session, as a restart of kontrol does. */
  restart(): void;
}

/** What a kite serves that stands for kontrol. */
export function registryMethods(registry: RegistryContract) {
  const anything = <T>() => z.custom<T>(() => true);
  const role = "anyone";
  return {
    register: method({ role, input: anything<Register>() }, (registration) => registry.register(registration)),
    updateLabels: method({ role, input: anything<{ labels: LabelChange }>() }, (request) => registry.updateLabels(request)),
    getKites: method({ role, input: anything<{ query: Query; known?: string }>() }, (request) => registry.getKites(request)),
    watch: method({ role, input: anything<{ query: Query; since?: string }>() }, (request) => registry.watch(request)),
    getToken: method({ role, input: anything<{ query: Query }>() }, (request) => registry.getToken(request)),
    getKey: method({ role }, () => registry.getKey()),
  };
}

/** The registry behind a real session over memory. */
export async function serveRegistry(registry: RegistryContract): Promise<ServedRegistry> {
  const pair = await connectedPair(registryMethods(registry));
  const contract: Remote<RegistryContract> = pair.client;
  return {
    pair,
    reach: (options) => callWith(contract, options),
    restart: () => void pair.acceptor.endWhere(() => true, new KiteError("disconnected", "kontrol is going down")),
    [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose](),
  };
}
