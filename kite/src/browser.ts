import { KiteClient } from "./client.ts";
import type { ClientOptions } from "./client-options.ts";
import { dialBrowserSocket } from "./transport/browser-websocket.ts";

/** A page has no kite.key, and is looked at with the browser's own tools. */
export type BrowserOptions = Omit<ClientOptions, "kiteKey" | "observers">;

/** A kite in a browser: calls others and is called back through what it passes, but serves nothing and opens no port. */
export class Kite extends KiteClient {
  constructor(options: BrowserOptions) {
    super(options, { dial: dialBrowserSocket });
  }
}

export type { Guard, GuardedCall } from "./calling/guard.ts";
export { callWith, peerOf, type Remote, type RemoteOptions } from "./calling/remote.ts";
export type { RetryOptions } from "./calling/retry-options.ts";
export type { ConnectOptions, DialOptions, RemotePolicies } from "./client-options.ts";
export { KiteError, type KiteErrorCode } from "./errors.ts";
export { formatIdentity, formatQuery, type Identity, type Query } from "./identity.ts";
export type { CallOptions } from "./method.ts";
export type * from "./registry/registry.ts";
export type { Peer, PeerState } from "./session/peer.ts";
export { RemoteStream } from "./session/remote-stream.ts";
