import type { Role } from "@kite-mesh/kite";
import { sayError } from "./trouble.ts";

/** Where a terminal on the page stands. Moves between them are in {@link MOVES}. */
export type TerminalState =
  | { name: "connecting" }
  | { name: "open"; role: Role }
  /** The connection is away; it may come back with nothing lost. */
  | { name: "suspended"; since: number; role: Role }
  /** The connection was lost; the page attaches again by the session's name. */
  | { name: "lost"; since: number; reason: string }
  /** The program has ended, and the session with it. */
  | { name: "ended" }
  /** There is no such session, or it cannot be had: a person has to decide. */
  | { name: "failed"; reason: string; advice: string };

type Name = TerminalState["name"];

// A terminal that ended stays ended: whatever a late callback says, the screen shows how the program went.
const MOVES: Readonly<Record<Name, readonly Name[]>> = {
  connecting: ["open", "lost", "failed", "ended"],
  open: ["suspended", "lost", "ended"],
  suspended: ["open", "lost", "ended"],
  lost: ["lost", "open", "failed", "ended"],
  failed: ["connecting"],
  ended: ["connecting"],
};

/** The next state, or the present one where that move is not possible. A loss keeps the moment at which it began. */
export function moveTerminal(from: TerminalState, to: TerminalState): TerminalState {
  if (!MOVES[from.name].includes(to.name)) return from;
  const began = from.name === "suspended" || from.name === "lost" ? from.since : undefined;
  return to.name === "lost" && began !== undefined ? { ...to, since: began } : to;
}

/** Only an open terminal takes keys: what is typed blind would arrive in a screen that nobody has seen. */
export function takesInput(state: TerminalState): boolean {
  return state.name === "open" && state.role !== "viewer";
}

/** What follows from a failed try to attach: another try, or, where that can only fail in the same way, a decision. */
export function afterFailure(error: unknown, now: number): TerminalState {
  const { text, advice } = sayError(error);
  const code = typeof error === "object" && error !== null ? (error as { code?: unknown }).code : undefined;
  if (code === "not_found") return { name: "failed", reason: "the session is no longer there", advice: SESSION_GONE };
  if (typeof code === "string" && FINAL.has(code)) return { name: "failed", reason: text, advice };
  return { name: "lost", since: now, reason: text };
}

const SESSION_GONE = "It ended with its program, or when the machine stopped; begin a new one.";

const FINAL: ReadonlySet<string> = new Set([
  "permission_denied",
  "invalid_argument",
  "failed_precondition",
  "limit_exceeded",
  "method_not_found",
]);
