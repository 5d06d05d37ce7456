/** Something that went wrong, in words for a person. */
export interface Trouble {
  /** What happened, one sentence without its full stop. */
  text: string;
  /** What to do about it; empty when the sentence already says it. */
  advice: string;
}

/** Turns whatever was thrown into words. Errors of the mesh carry a sentence of their own; the advice comes from their code. */
export function sayError(error: unknown): Trouble {
  const { code, message } = read(error);
  return { text: withoutStop(message), advice: (code && ADVICE[code]) || "" };
}

const ADVICE: Readonly<Record<string, string>> = {
  permission_denied: "Ask the owner for a role that allows it.",
  unauthenticated: "Sign in again.",
  token_expired: "Sign in again.",
  not_found: "It may just have gone; the list shows what is there now.",
  conflict: "Something else is at work on it; try again when that has ended.",
  failed_precondition: "Look at its state, then try again.",
  deadline_exceeded: "It may have happened all the same: look at its state before you try again.",
  disconnected: "It may have happened all the same: look at its state before you try again.",
  unavailable: "The page tries again by itself.",
  overloaded: "Wait a moment, then try again.",
  limit_exceeded: "End something that you no longer need, then try again.",
  internal: "The log of the mesh says more.",
};

function read(error: unknown): { code: string | undefined; message: string } {
  if (typeof error !== "object" || error === null) return { code: undefined, message: String(error) };
  const { code, message } = error as { code?: unknown; message?: unknown };
  return {
    code: typeof code === "string" ? code : undefined,
    message: typeof message === "string" && message !== "" ? message : "something failed without saying why",
  };
}

function withoutStop(sentence: string): string {
  return sentence.replace(/\.+\s*$/, "");
}
