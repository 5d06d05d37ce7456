import { type IssuedToken, KiteError } from "@kite-mesh/kite/browser/registry";

/** Who is signed in to the gateway, and what the browser's kite shows to kontrol. */
export interface BrowserSession {
  username: string;
  name: string;
  admin: boolean;
  kontrol: IssuedToken;
}

export interface Sessions {
  /** The session of the browser's cookie, with a fresh token; null when nobody is signed in. */
  load(signal?: AbortSignal): Promise<BrowserSession | null>;
  signOut(): Promise<void>;
}

/** The gateway's sessions, by the cookie that the sign-in link left in the browser. */
export function browserSessions(): Sessions {
  return {
    async load(signal) {
      const response = await ask("/-/session", "GET", signal);
      if (response.status === 401) return null;
      if (!response.ok) throw await refusal(response);
      return (await response.json()) as BrowserSession;
    },
    async signOut() {
      const response = await ask("/-/session", "DELETE");
      if (!response.ok && response.status !== 401) throw await refusal(response);
    },
  };
}

async function ask(path: string, method: string, signal?: AbortSignal): Promise<Response> {
  // A gateway that hangs must not leave the page waiting for ever.
  const limit = AbortSignal.timeout(15_000);
  try {
    return await fetch(path, {
      method,
      headers: { accept: "application/json" },
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (cause) {
    throw new KiteError("unavailable", `the gateway at ${location.host} does not answer`, { cause });
  }
}

async function refusal(response: Response): Promise<KiteError> {
  const answer: unknown = await response.json().catch(() => null);
  const error = typeof answer === "object" && answer !== null ? (answer as { error?: unknown }).error : undefined;
  const why = typeof error === "string" ? `: ${error}` : "";
  return new KiteError("unavailable", `the gateway answered with ${response.status}${why}`);
}
