// For authors of kites.
export type { ConnectOptions } from "./client.ts";
export type { JsonSchema, KiteDescription, MethodDescription } from "./description.ts";
export { KiteError, type KiteErrorCode, type KiteErrorOptions, type Outcome } from "./errors.ts";
export { formatIdentity, formatQuery, type Identity, parseIdentity, parseQuery, type Query } from "./identity.ts";
export { Kite, type KiteOptions, openKite, type RegisterOptions } from "./kite.ts";
export type { Found } from "./kontrol.ts";
export type { ListenOptions } from "./listener.ts";
export type { Logger } from "./log.ts";
export {
  type Call,
  type CallMeta,
  type CallOptions,
  type Caller,
  type CallSession,
  type ContractOf,
  type Method,
  type MethodOptions,
  type Methods,
  type Repetition,
  method,
  type Role,
} from "./method.ts";
export { callerOf, callWith, peerOf, type Remote } from "./remote.ts";
export type { Middleware } from "./serve.ts";
export type { RemoteFunction } from "./session/callbacks.ts";
export type { Peer, PeerState } from "./session/peer.ts";
export { RemoteStream } from "./session/streams.ts";

// For authors of registries, agents, transports and tools.
export { KeySet, type KeySetOptions, publishedKeys, type TrustedKey } from "./auth/key-set.ts";
export { type KiteKey, type KiteKeyClaims, parseKiteKey, verifyKiteKey } from "./auth/kite-key.ts";
export { kiteKeyPath, readKiteKey, writeKiteKey } from "./auth/kite-key-file.ts";
export { anonymous, type TokenClaims, tokenAuthenticator, type VerifiedToken, verifyToken } from "./auth/token.ts";
export { type Bus, memoryBus, type Subscription } from "./bus.ts";
export { checkIdentity, checkQuery, matcher } from "./identity.ts";
export { nestedBeyond } from "./json-depth.ts";
export { LIMITS, type Limits } from "./limits.ts";
export { ROLES, roleAllows } from "./method.ts";
export { type KiteEnvironment, readEnvironment } from "./options.ts";
export type * from "./registry.ts";
export { nearest } from "./nearest.ts";
export type { Authenticate } from "./session/acceptor.ts";
export type { Auth } from "./session/handshake.ts";
export { describeIssues, type Schema, type SchemaInput, type SchemaOutput } from "./standard-schema.ts";
export { linkTransport } from "./transport/link.ts";
export { type MemoryLink, memoryLink } from "./transport/memory.ts";
export { CLOSE, type Transport, type TransportReceiver } from "./transport/transport.ts";
export { webSocketTransport } from "./transport/websocket.ts";
export { PROTOCOL, type RawFrame } from "./wire/v1.ts";
