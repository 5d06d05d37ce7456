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
 * follows. Whoever made it stops it with the connection: the next one is dialled with a new credential anyway.
 */
export class Renewal<C extends Ending> {
  readonly #options: RenewalOptions<C>;
  #expiresAt: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  constructor(shown: C, options: RenewalOptions<C>) {
    this.#options = options;
    this.#follow(shown);
  }

  /** What is under way comes to nothing: nothing is shown, nobody is told, and no timer is left. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #follow({ expiresAt }: C): void {
    this.#expiresAt = expiresAt;
    if (expiresAt !== undefined) this.#after(Math.max(((expiresAt - Date.now()) * 2) / 3, MIN_RENEWAL_MS));
  }

  #after(ms: number): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#renew(), timerMs(ms));
    (this.#timer as { unref?: () => void }).unref?.();
  }

  async #renew(): Promise<void> {
    const { obtain, show, log = silent } = this.#options;
    try {
      const credential = await obtain();
      if (this.#stopped) return;
      await show(credential);
      this.#follow(credential);
    } catch (thrown) {
      if (this.#stopped) return;
      const error = KiteError.from(thrown);
      log.warn({ code: error.code, error: error.message }, "the credential could not be renewed; trying again");
      this.#tryAgain(error);
    }
  }

  #tryAgain(error: KiteError): void {
    // Whoever it was for has left, and what was shown has ended: what is called next goes elsewhere.
    if (error.code === "not_found" && Date.now() >= (this.#expiresAt ?? 0)) return this.#options.ended(error);
    this.#after(RENEWAL_RETRY_MS);
  }
}

// A clock that is wrong, or a token of seconds, must not make a loop of it.
const MIN_RENEWAL_MS = 1_000;
// A quarter of a minute: soon after kontrol is back, and no load for one that is not.
const RENEWAL_RETRY_MS = 15_000;

/** setTimeout holds a signed 32-bit number of milliseconds; more would fire at once, and a distant expiry be renewed in a loop. */
export function timerMs(ms: number): number {
  return Math.min(ms, 2 ** 31 - 1);
}
