import type { Identity, Query } from "../identity.ts";
import type { LabelChange } from "../labels.ts";
import type { Role } from "../method.ts";

/** What a kite needs from its registry. kontrol serves this, and more; kite itself knows no kontrol. */
export interface RegistryContract {
  /**
   * Enters the calling kite into the directory, for as long as this session lives. Calling it again replaces the entry.
   * Only a kite.key may register; the username of the identity is the key's, whatever was claimed.
   */
  register(registration: Register): Promise<Registered>;
  /** Changes labels of the kite that registered in this session; watchers hear of it as of a registration. */
  updateLabels(request: { labels: LabelChange }): Promise<void>;
  /**
   * The kites that match and that the caller may see, each with a token for it. Who still has an earlier answer names it with
   * `known`, and is told in a word when there is no other.
   */
  getKites(request: { query: Query; known?: string }): Promise<FoundKites>;
  /** First a `snapshot`, then changes in the order of their revisions; `since` resumes after that revision. */
  watch(request: { query: Query; since?: string }): Promise<AsyncIterable<WatchEvent>>;
  /**
   * A token for the one kite that matches, with everything that the caller may do there or with less. Who asks often may be
   * given the same one; with `renew` it is a new one, for a token that its kite did not accept.
   */
  getToken(request: { query: Query; renew?: boolean } & Narrower): Promise<IssuedToken>;
  /** The public keys that tokens and kite.keys are verified with, and the id of the one that signs now. */
  getKey(): Promise<{ keys: PublicJwk[]; current: string }>;
}

/** How much less a token allows than its caller could do himself: to hand it on to a program that needs no more. */
export interface Narrower {
  /** A lesser role than its caller has. */
  role?: Role;
  /** The only methods that it opens. */
  methods?: string[];
  /** How long it lasts, in milliseconds, if that is less than kontrol gives. */
  ttlMs?: number;
}

/** A public key as JSON (RFC 7517). */
export type PublicJwk = Readonly<Record<string, unknown>> & { readonly kid: string; readonly alg: string };

/** Who finds a kite: its owner and whoever has a grant (`private`), or any signed-in user (`mesh`). */
export type Visibility = "private" | "mesh";

/** What a kite says when it registers. */
export interface Register {
  kite: Identity;
  /** Where others dial the kite; left out for one that cannot be dialled: it is then reached through the relay. */
  url?: string;
  /** Called for every inner link that a caller opens through the relay; answers with the frames towards the caller. */
  onLink?: (link: RelayLink) => AsyncIterable<string | Uint8Array> | Promise<AsyncIterable<string | Uint8Array>>;
  /** Default `private`. `mesh` is for accounts that kontrol's administrator marked. */
  visibility?: Visibility;
  /** Whatever helps others to choose: plain strings. */
  labels?: Record<string, string>;
  /** Which process this is, by a random text: two that have one id are told from one that comes back. */
  instance?: string;
  /** It was registered before, and comes back: it does not take the place of another instance. One that has just started does. */
  again?: boolean;
}

/** One caller, connected through the relay. Text frames are strings, binary ones bytes. */
export interface RelayLink {
  id: string;
  /** Frames from the caller; ends when it is gone. */
  incoming: AsyncIterable<string | Uint8Array>;
}

/** The answer to a registration, which lasts as long as its session and its beats. */
export interface Registered {
  kite: Identity;
  /** Where the kite can be reached now: its own url, or the relay's. */
  url: string;
  /** Tells this registration from earlier ones of the same kite. */
  generation: string;
  /** How often to call `beat`, in milliseconds. Two missed beats end the registration. */
  heartbeatMs: number;
  /** Called every `heartbeatMs`: the kite is still there. */
  beat: () => void;
  /** Opens `<kontrol>/beats/<kite id>`, where beats come from a thread of their own; ends with the registration. */
  ticket?: string;
  /** A new kite.key to write to the file, after a rotation. */
  kiteKey?: string;
  /**
   * What stopped being valid: first whatever did within the life of a token, then from now on, so that none is missed
   * while kontrol or this kite was away. A kite ends the sessions that were opened with it.
   */
  revocations: AsyncIterable<Revocation>;
}

/** Names what is no longer valid. A session matches when every field that is given matches. */
export interface Revocation {
  revision: string;
  username?: string;
  jti?: string;
  /** Only sessions on this kite, by id: a grant on it ended. */
  kite?: string;
  /** A signing key that others may have: nothing that it signed is believed any more, nor a token that kontrol gave out before it knew. */
  kid?: string;
  reason: string;
  /** When it was decided, in milliseconds since the epoch by kontrol's clock: credentials issued later are valid again. Default: when it arrives. */
  at?: number;
}

/** The answer to a query. */
export interface FoundKites {
  kites: FoundKite[];
  revision: string;
  /** The name of this answer, for `known`: the same kites with the same tokens, in whatever order. Left out for one that is not to be kept. */
  tag?: string;
  /** The answer is the one that was named, and `kites` is empty. */
  unchanged?: true;
}

/** A kite of the directory that the caller may call, with the token for it. */
export interface FoundKite {
  kite: Identity;
  /** Where it is dialled: at its own address, or through the relay. */
  url: string;
  visibility: Visibility;
  labels: Record<string, string>;
  /** What the caller may do there. */
  role: Role;
  /** In milliseconds since the epoch. */
  registeredAt: number;
  /** Shown to this kite, and good for no other. */
  token: string;
  /** In milliseconds since the epoch. */
  tokenExpiresAt: number;
}

/** A kite as the directory knows it, without a token. */
export type DirectoryKite = Omit<FoundKite, "token" | "tokenExpiresAt">;

/** What a watch tells: everything that matches first, then each change of it. `revision` is where a later watch goes on. */
export type WatchEvent =
  | { type: "snapshot"; revision: string; kites: DirectoryKite[] }
  /** One that is new, or has changed: the last word about its id counts. */
  | { type: "registered"; revision: string; kite: DirectoryKite }
  | { type: "gone"; revision: string; kite: Identity; reason: string };

/** A token for one kite, and its end. */
export interface IssuedToken {
  token: string;
  /** In milliseconds since the epoch. */
  expiresAt: number;
}
