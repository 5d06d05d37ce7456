import type { DiallerOptions } from "./client-options.ts";
import { KiteDialler } from "./dialler.ts";
import { dialBrowserSocket } from "./transport/browser-websocket.ts";

/**
 * A kite in a browser: calls others and is called back through what it passes, but serves nothing and opens no port. It
 * dials addresses that it knows; the one of `@kite-mesh/kite/browser/registry` also finds kites through kontrol.
 *
 * @example
 * await using kite = new Kite({ name: "page", version: "1.0.0" });
 * const clock = kite.dial<ClockContract>({ url: location.origin });
 */
export class Kite extends KiteDialler {
  constructor(options: DiallerOptions) {
    super(options, dialBrowserSocket);
  }
}

export type { Guard, GuardedCall } from "./calling/guard.ts";
export { callWith, peerOf, type Remote, type RemoteOptions } from "./calling/remote.ts";
export type { AddressOptions, DiallerOptions } from "./client-options.ts";
export { KiteError, type KiteErrorCode } from "./errors.ts";
export { formatIdentity, type Identity } from "./identity.ts";
export type { CallOptions } from "./method.ts";
export type { Peer, PeerState } from "./session/peer.ts";
export { RemoteStream } from "./session/remote-stream.ts";
