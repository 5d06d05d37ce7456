import { KiteError, protocolError, type WireError } from "../errors.ts";
import { checkIdentity, type Identity } from "../identity.ts";
import { type AgreedLimits, eachAgreed, LIMITS } from "../limits.ts";
import { isCount, type RawFrame } from "../wire/v1.ts";

/** A credential as it is shown to a peer: `token`, `kiteKey`, or a type that the peer's own authenticator knows. */
export interface Auth {
  readonly type: string;
  readonly key: string;
}

/** The dialler's first frame: who it is, and which session it wants to go on with. */
export interface Hello {
  readonly auth: Auth | undefined;
  readonly kite: Identity | undefined;
  readonly resume: { readonly id: string; readonly secret: string; readonly received: number } | undefined;
  /** What the dialler takes in. */
  readonly limits: AgreedLimits;
}

/** The answer: a session, new or resumed. */
export interface Welcome {
  readonly session: { readonly id: string; readonly secret: string; readonly received: number };
  readonly resumed: boolean;
  /** How long the session waits for the dialler to come back, in milliseconds. */
  readonly graceMs: number;
  readonly kite: Identity | undefined;
  /** What the acceptor takes in. */
  readonly limits: AgreedLimits;
}

export function writeHello(hello: Hello): string {
  return JSON.stringify({ hello: { ...hello, limits: eachAgreed((name) => hello.limits[name]) } });
}

export function writeWelcome(welcome: Welcome): string {
  return JSON.stringify({ welcome: { ...welcome, limits: eachAgreed((name) => welcome.limits[name]) } });
}

export function writeRefusal(error: WireError): string {
  return JSON.stringify({ refused: error });
}

/**
 * Reads a dialler's first frame.
 *
 * @throws {KiteError} `protocol_error` saying what was expected.
 */
export function readHello(raw: RawFrame): Hello {
  const { hello } = parse(raw);
  if (!isRecord(hello)) throw protocolError("the first frame is a hello");
  return { auth: readAuth(hello.auth), kite: readIdentity(hello.kite), resume: readResume(hello.resume), limits: readLimits(hello.limits) };
}

/**
 * Reads the acceptor's answer.
 *
 * @throws {KiteError} the refusal, or `protocol_error`.
 */
export function readWelcome(raw: RawFrame): Welcome {
  const { welcome, refused } = parse(raw);
  if (refused !== undefined) throw KiteError.fromWire(refused);
  if (!isRecord(welcome) || !isRecord(welcome.session)) throw protocolError("the answer to a hello is a welcome");
  const { id, secret, received } = welcome.session;
  if (typeof id !== "string" || typeof secret !== "string" || !isCount(received) || !isCount(welcome.graceMs)) {
    throw protocolError("a welcome names a session and its grace period");
  }
  return {
    session: { id, secret, received },
    resumed: welcome.resumed === true,
    graceMs: welcome.graceMs,
    kite: readIdentity(welcome.kite),
    limits: readLimits(welcome.limits),
  };
}

/**
 * Reads a credential.
 *
 * @throws {KiteError} `protocol_error` when it is neither absent nor `{ type, key }`.
 */
export function readAuth(auth: unknown): Auth | undefined {
  if (auth === undefined || auth === null) return undefined;
  if (!isRecord(auth) || typeof auth.type !== "string" || typeof auth.key !== "string") {
    throw protocolError("a credential has a type and a key");
  }
  return { type: auth.type, key: auth.key };
}

function readIdentity(kite: unknown): Identity | undefined {
  if (kite === undefined || kite === null) return undefined;
  if (!isRecord(kite)) throw protocolError("a kite's identity is an object");
  return checkIdentity(kite as Partial<Identity>);
}

function readResume(resume: unknown): Hello["resume"] {
  if (resume === undefined || resume === null) return undefined;
  if (!isRecord(resume) || typeof resume.id !== "string" || typeof resume.secret !== "string" || !isCount(resume.received)) {
    throw protocolError("a session is resumed by its id, its secret and the last frame received");
  }
  return { id: resume.id, secret: resume.secret, received: resume.received };
}

function readLimits(limits: unknown): AgreedLimits {
  const said = isRecord(limits) ? limits : {};
  return eachAgreed((name) => {
    const value = said[name] ?? LIMITS[name];
    if (!isCount(value) || value === 0) throw protocolError(`the limit ${name} of a handshake is a number above zero`);
    return value;
  });
}

function parse(raw: RawFrame): Record<string, unknown> {
  if (typeof raw !== "string" || raw.length > MAX_HANDSHAKE) throw protocolError("a handshake is a short text frame");
  try {
    const parsed: unknown = JSON.parse(raw);
    if (isRecord(parsed)) return parsed;
  } catch (cause) {
    throw protocolError("a handshake is a JSON object", cause);
  }
  throw protocolError("a handshake is a JSON object");
}

// A kite.key with its public key has about one KiB; RS256 with custom claims stays far below this.
const MAX_HANDSHAKE = 64 * 1024;

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
