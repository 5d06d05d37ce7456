import { KiteError, type KiteErrorCode } from "../errors.ts";
import { carriedError } from "./values.ts";

/** An error as the dnode dialect writes it; all four are always there. */
export interface DnodeError {
  readonly type: string;
  readonly message: string;
  readonly code: string;
  /** Names the request in the logs of the side that answered: 16 hex digits, or empty. */
  readonly id: string;
}

/** Codes that a type of dnode's says in full; nothing else has to be written beside it. */
const TYPES: Partial<Record<KiteErrorCode, string>> = {
  method_not_found: "methodNotFound",
  unauthenticated: "authenticationError",
  invalid_argument: "argumentError",
  overloaded: "requestLimitError",
  internal: "genericError",
};

const CODES: Readonly<Record<string, KiteErrorCode | undefined>> = {
  methodNotFound: "method_not_found",
  authenticationError: "unauthenticated",
  argumentError: "invalid_argument",
  requestLimitError: "overloaded",
  timeout: "deadline_exceeded",
  disconnect: "disconnected",
  sendError: "unavailable",
  invalidResponse: "protocol_error",
};

// What clients look for before they ask kontrol for a new token.
const EXPIRED = "token is expired";

/** Writes an error for a peer: the type that dnode has for it, else the service's own word, with the code of ours beside it. */
export function dnodeError(error: KiteError, id: string): DnodeError {
  const { code, reason } = error;
  const { message } = carriedError(error);
  if (code === "method_not_found") return { type: "methodNotFound", message: withoutAdvice(message), code: "", id: "" };
  if (code === "token_expired") {
    return { type: "authenticationError", message: message.includes(EXPIRED) ? message : `${EXPIRED}: ${message}`, code, id };
  }
  const type = TYPES[code];
  if (type !== undefined && (code !== "internal" || reason === undefined)) return { type, message, code: "", id };
  return { type: reason ?? "genericError", message, code: code === "internal" ? "" : code, id };
}

/** What callers are told whose calls are at work when this side ends the session: the word that a client in Go has for that. */
export function disconnectError(why: KiteError, id: string): DnodeError {
  return { type: "disconnect", message: `Remote kite has disconnected: ${why.message}`, code: "", id };
}

/** Reads an error that a peer sent, in whatever shape: Go's four words, a message alone, or a text. */
export function readDnodeError(sent: unknown): KiteError {
  if (typeof sent === "string") return new KiteError("internal", sent);
  const { type, message, code, id } = (typeof sent === "object" && sent !== null ? sent : {}) as Partial<Record<keyof DnodeError, unknown>>;
  const text = typeof message === "string" ? message : "the peer gave no message";
  const details = Object.fromEntries(Object.entries({ code, id }).filter(([, value]) => value !== "" && isShort(value)));
  return KiteError.fromWire({
    code: readCode(type, text, code),
    message: text,
    // Whoever says goodbye does not wait for what is at work.
    ...(type === "disconnect" ? { outcome: "unknown" } : {}),
    ...(typeof type === "string" && type !== "" ? { reason: type } : {}),
    ...(Object.keys(details).length === 0 ? {} : { details }),
  });
}

function readCode(type: unknown, message: string, code: unknown): unknown {
  if (type === "authenticationError" && message.includes(EXPIRED)) return "token_expired";
  return (typeof type === "string" && Object.hasOwn(CODES, type) ? CODES[type] : undefined) ?? code;
}

/** Clients compare the text with the name that they called; a guess of ours at what they meant would be taken for part of it. */
function withoutAdvice(message: string): string {
  return message.startsWith("Method not found: ") ? (message.split(";")[0] ?? message) : message;
}

function isShort(value: unknown): boolean {
  return (typeof value === "string" && value.length <= MAX_DETAIL) || typeof value === "number";
}

const MAX_DETAIL = 100;
