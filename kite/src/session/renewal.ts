import { KiteError } from "../errors.ts";
import { type Logger, silent } from "../log.ts";

/** Something that ends, such as a target with its token. */
export interface Ending {
  /** In milliseconds since the epoch; left out, never. */
  readonly expiresAt?: number | undefined;
}

export interface RenewalOptions<C extends Ending> {
  /** Gets a new credential. */
  readonly obtain: () => Promise<C>;
  /** Shows it to the peer, on the live session. */
  readonly show: (credential: C) => Promise<void>;
  /** Told once: the credential has ended, and there is nobody left to get a new one for. */
  readonly ended: (why: KiteError) => void;
  readonly log?: Logger | undefined;
}

/**
 * Shows a new credential after two thirds of the old one's life, which leaves time for several tries, and so on with each that
 * follows. Whoever asked for it calls what it answers with when the connection is lost: then what is under way comes to nothing,
 * and no timer is left. The next connection is dialled with a new credential anyway.
 */
export function keepRenewed<C extends Ending>(shown: C, { obtain, show, ended, log = silent }: RenewalOptions<C>): () => void {
  let expiresAt: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;

  const follow = (credential: C): void => {
    expiresAt = credential.expiresAt;
    if (expiresAt !== undefined) renewAfter(Math.max(((expiresAt - Date.now()) * 2) / 3, MIN_RENEWAL_MS));
  };
  const renewAfter = (ms: number): void => {
    if (stopped) return;
    timer = setTimeout(() => void renew(), timerMs(ms));
    (timer as { unref?: () => void }).unref?.();
  };
  const renew = async (): Promise<void> => {
    try {
      const credential = await obtain();
      if (stopped) return;
      await show(credential);
      follow(credential);
    } catch (thrown) {
      if (stopped) return;
      const error = KiteError.from(thrown);
      log.warn({ code: error.code, error: error.message }, "the credential could not be renewed; trying again");
      // Whoever it was for has left, and what was shown has ended: what is called next goes elsewhere.
      if (error.code === "not_found" && Date.now() >= (expiresAt ?? 0)) return ended(error);
      renewAfter(RENEWAL_RETRY_MS);
    }
  };

  follow(shown);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

// A clock that is wrong, or a token of seconds, must not make a loop of it.
const MIN_RENEWAL_MS = 1_000;
// A quarter of a minute: soon after kontrol is back, and no load for one that is not.
const RENEWAL_RETRY_MS = 15_000;

/** setTimeout holds a signed 32-bit number of milliseconds; more would fire at once, and a distant expiry be renewed in a loop. */
export function timerMs(ms: number): number {
  return Math.min(ms, 2 ** 31 - 1);
}
