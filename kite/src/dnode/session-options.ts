import type { KiteError } from "../errors.ts";
import type { Identity } from "../identity.ts";
import type { Limits } from "../limits.ts";
import type { Logger } from "../log.ts";
import type { CallOptions } from "../method.ts";
import type { Authenticate } from "../session/acceptor.ts";
import type { Serve } from "../session/calls.ts";
import type { Explain } from "../session/failure.ts";
import type { Auth } from "../session/handshake.ts";
import type { CallThrough } from "../through.ts";
import type { Transport } from "../transport/transport.ts";

export interface DnodeSessionOptions {
  readonly transport: Transport;
  readonly limits: Limits;
  /** Answers the peer's calls. */
  readonly serve: Serve;
  /** What this side says of itself with every call. */
  readonly identity: Identity | undefined;
  /** Decides who calls; left out where this side has dialled, and takes its peer for a stranger. */
  readonly authenticate?: Authenticate | undefined;
  /** Told of the first message that keeps the rules. */
  readonly onSpoken?: (() => void) | undefined;
  /**
   * Told once that a call came without a good credential, and once that one came with it; the session goes on unless this
   * throws, which ends it.
   */
  readonly onCaller?: ((who: "stranger" | "known") => void) | undefined;
  readonly onClosed?: ((why: KiteError) => void) | undefined;
  /** What the peer is told of errors that are no KiteErrors. Default: that there was one. */
  readonly explain?: Explain | undefined;
  readonly log?: Logger | undefined;
  /** What calls of the peer go through; left out: they just go. */
  readonly through?: CallThrough | undefined;
}

/** How a call is made in dnode, where each shows its credential. */
export interface DnodeCallOptions extends CallOptions {
  readonly auth?: Auth | undefined;
}
