import { KiteClient } from "./client.ts";
import type { ClientOptions } from "./client-options.ts";
import { dialBrowserSocket } from "./transport/browser-websocket.ts";

/**
 * The browser's kite that also finds others through kontrol: `connect`, `find` and `watch`.
 *
 * @example
 * const auth = async () => ({ type: "token", key: await (await fetch("/kontrol-token")).text() }); // of the page's own server
 * await using kite = new Kite({ name: "page", version: "1.0.0", kontrolUrl, auth });
 * const math = await kite.connect<MathContract>({ name: "math", version: "^1.2" });
 */
export class Kite extends KiteClient {
  constructor(options: ClientOptions) {
    super(options, dialBrowserSocket);
  }
}

export type { Guard, GuardedCall } from "./calling/guard.ts";
export { callWith, peerOf, type Remote, type RemoteOptions } from "./calling/remote.ts";
export type { RetryOptions } from "./calling/retry-options.ts";
export type { ClientOptions as BrowserOptions, ConnectOptions, DialOptions, RemotePolicies } from "./client-options.ts";
export { KiteError, type KiteErrorCode } from "./errors.ts";
export { formatIdentity, formatQuery, type Identity, type Query } from "./identity.ts";
export type { CallOptions } from "./method.ts";
export type { DirectoryWatch } from "./registry/directory-watch.ts";
export type { Found } from "./registry/kontrol.ts";
export type * from "./registry/registry.ts";
export type { Peer, PeerState } from "./session/peer.ts";
export { RemoteStream } from "./session/remote-stream.ts";
