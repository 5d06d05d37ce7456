// For authors of kites.
export type { Balance, PooledBalance } from "./calling/balance.ts";
export type { ConnectOptions, DialOptions, RemotePolicies } from "./client-options.ts";
export type { BuiltinContract, MethodSummary, SystemInfo } from "./serving/builtin.ts";
export { type Contract, type ContractChange, compareContracts, contractHash } from "./contract/contract.ts";
export type { KiteDescription, MethodDescription } from "./contract/description.ts";
export { type Callback, callback, stream } from "./contract/carried.ts";
export { KiteError, type KiteErrorCode, type KiteErrorOptions, type Outcome } from "./errors.ts";
export type { ExposeErrors } from "./session/failure.ts";
export { hostMethods } from "./serving/host-methods.ts";
export { formatIdentity, formatQuery, type Identity, parseIdentity, type Query } from "./identity.ts";
export type { JsonSchema } from "./contract/json-schema.ts";
export { Kite, type KiteOptions, openKite, type RegisterOptions } from "./kite.ts";
export type { DirectoryWatch } from "./registry/directory-watch.ts";
export { type Found, KONTROL_AWAY } from "./registry/kontrol.ts";
export type { ListenOptions } from "./listener.ts";
export type { Logger } from "./log.ts";
export {
  type Call,
  type CallMeta,
  type CallOptions,
  type Caller,
  type CallSession,
  type ConcurrencyOptions,
  type ContractOf,
  type Credential,
  type Method,
  type MethodOptions,
  type Methods,
  method,
  type Repetition,
  type Role,
  type SessionState,
  type ThrottleOptions,
} from "./method.ts";
export type { Guard, GuardedCall } from "./calling/guard.ts";
export { checkResults, type ResultSchemas } from "./calling/check-results.ts";
export { callerOf, callWith, peerOf, type Remote, type RemoteOptions } from "./calling/remote.ts";
export type { RetryOptions } from "./calling/retry-options.ts";
export type {
  Calling,
  MadeCall,
  Observations,
  ObservedKite,
  ObservedSession,
  Observer,
  AnsweredCall,
  Serving,
} from "./observe.ts";
export type { Middleware } from "./serving/serve.ts";
export type { RemoteFunction } from "./session/callbacks.ts";
export type { SessionCounts } from "./session/counts.ts";
export type { Peer, PeerState } from "./session/peer.ts";
export { RemoteStream } from "./session/remote-stream.ts";

// For authors of registries, agents, transports and tools.
export { KeySet, type KeySetOptions, publishedKeys, type TrustedKey } from "./auth/key-set.ts";
export { type KiteKey, type KiteKeyClaims, parseKiteKey, verifyKiteKey } from "./auth/kite-key.ts";
export { kiteKeyPath, readKiteKey, writeKiteKey, writeNewKiteKey } from "./auth/kite-key-file.ts";
export { anonymous, type TokenClaims, type TokenExpectations, tokenAuthenticator, type VerifiedToken, verifyToken } from "./auth/token.ts";
export { type Bus, type MemoryBusOptions, memoryBus, type Subscription } from "./bus.ts";
export { currentCall } from "./calling/context.ts";
export type { Dialers } from "./calling/dialers.ts";
export { isIssuedBefore, REVOCATIONS_KEPT_MS } from "./auth/revocations.ts";
export { checkIdentity } from "./identity.ts";
export { changeLabels, type LabelChange, type Labels, labelMatcher } from "./labels.ts";
export { nestedBeyond } from "./json-depth.ts";
export { withoutCredentials } from "./log.ts";
export { LIMITS, type Limits } from "./limits.ts";
export { ROLES, roleAllows } from "./method.ts";
export { type KiteEnvironment, readEnvironment } from "./options.ts";
export type * from "./registry/registry.ts";
export { checkQuery, matcher, parseQuery } from "./query.ts";
export { nearest } from "./nearest.ts";
export type { Authenticate, Origin } from "./session/acceptor.ts";
export { sourceOfAddress } from "./source.ts";
export type { Auth } from "./session/handshake.ts";
export { describeIssues, type Schema, type SchemaInput, type SchemaOutput } from "./contract/standard-schema.ts";
export { linkTransport } from "./transport/link.ts";
export { type MemoryLink, memoryLink } from "./transport/memory.ts";
export { CLOSE, type Transport, type TransportReceiver } from "./transport/transport.ts";
export { type DialRequest, type DialSocket, webSocketTransport } from "./transport/websocket.ts";
export { PROTOCOL, type RawFrame } from "./wire/v1.ts";
export { writtenJson } from "./wire/values.ts";
