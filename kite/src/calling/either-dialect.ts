import type { DnodePeer } from "../dnode/peer.ts";
import { KiteError } from "../errors.ts";
import type { CallOptions } from "../method.ts";
import type { Peer } from "../session/peer.ts";
import { ORIGINAL } from "../transport/transport.ts";
import type { Connection } from "./connection.ts";

export interface Dialects {
  readonly peer: Peer;
  /** Where the directory has the kite now; asked before every call. */
  readonly address: () => string;
  /** Opens a connection in the other dialect to where `peer` dialled last. */
  readonly inDnode: () => DnodePeer;
}

/**
 * One kite in the dialect that it speaks: in dnode from the moment when a dial of kite.v1 has met a kite of the original's, until it cannot
 * be reached in that, or the directory has it at another address. Whoever made it closes it, and both connections with it.
 */
export class EitherDialect implements Connection {
  readonly #dialects: Dialects;
  #original: { readonly address: string; readonly peer: DnodePeer } | undefined;

  constructor(dialects: Dialects) {
    this.#dialects = dialects;
  }

  get state(): string {
    return this.#dialects.peer.state;
  }

  get session(): unknown {
    return (this.#original ?? this.#dialects).peer.session;
  }

  /** Whether nothing is open that somebody uses. */
  get isIdle(): boolean {
    const sessions = [this.#dialects.peer.session, this.#original?.peer.session];
    return sessions.every((session) => session === undefined || Object.values(session.counts).every((open) => open === 0));
  }

  async call(method: string, args: readonly unknown[], options: CallOptions = {}): Promise<unknown> {
    const { peer, address } = this.#dialects;
    if (this.#original !== undefined && this.#original.address !== address()) this.#forget();
    if (this.#original !== undefined) return this.#callInDnode(method, args, options);
    const begin = performance.now();
    try {
      return await peer.call(method, args, options);
    } catch (thrown) {
      // It was refused before anything was sent.
      if (!metOriginal(thrown) || peer.state === "closed") throw thrown;
    }
    const { timeoutMs } = options;
    const left = timeoutMs === undefined ? options : { ...options, timeoutMs: Math.max(timeoutMs - (performance.now() - begin), 0) };
    return this.#callInDnode(method, args, left);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#forget();
    await this.#dialects.peer[Symbol.asyncDispose]();
  }

  async #callInDnode(method: string, args: readonly unknown[], options: CallOptions): Promise<unknown> {
    const { address, inDnode } = this.#dialects;
    // One for all calls that met the original together.
    this.#original ??= { address: address(), peer: inDnode() };
    const { peer } = this.#original;
    try {
      return await peer.call(method, args, options);
    } catch (thrown) {
      // Nobody there speaks dnode either: what met the dial was a page of a proxy, or the kite has gone. Another may come in its place.
      const { code, outcome } = KiteError.from(thrown);
      if (code === "unavailable" && outcome === "not_run" && this.#original?.peer === peer) this.#forget();
      throw thrown;
    }
  }

  #forget(): void {
    this.#original?.peer.close();
    this.#original = undefined;
  }
}

/** Whether a call or a dial in kite.v1 failed since the kite is one of the original's. */
export function metOriginal(thrown: unknown): boolean {
  if (!(thrown instanceof KiteError)) return false;
  return thrown.reason === ORIGINAL || (thrown.cause instanceof KiteError && thrown.cause.reason === ORIGINAL);
}
