import { sleep, waitUntil } from "../abortable.ts";
import { KiteError } from "../errors.ts";
import type { LabelChange } from "../labels.ts";
import { away, RegistryClient, type RegistryClientOptions } from "./kontrol.ts";
import { Registration, type RegistrationOptions, type RegistrationState } from "./registration.ts";
import type { Register, Registered, Revocation } from "./registry.ts";

export interface RegistrarOptions extends RegistryClientOptions, Pick<RegistrationOptions, "beats" | "doubt"> {
  /** Told what stopped being valid while this kite is registered; it should end the sessions that match. */
  onRevoked?: ((revocation: Revocation) => unknown) | undefined;
  /** Told the kite.key that replaces the current one; it should write it to the file. Awaited. */
  onKey?: ((kiteKey: string) => unknown) | undefined;
}

/** kontrol as a kite sees it that others find there: it stays registered, also through restarts of kontrol. */
export class Registrar extends RegistryClient {
  readonly #options: RegistrarOptions;
  readonly #listeners = new Set<(state: RegistrationState | undefined) => void>();
  #registration: Registration | undefined;
  #state: RegistrationState | undefined;

  constructor(options: RegistrarOptions) {
    super(options);
    this.#options = options;
  }

  /** How the registration stands; undefined before the first `register`. */
  get state(): RegistrationState | undefined {
    return this.#state;
  }

  /** Calls `listener` on every change of {@link state}, until the returned function is called. */
  onState(listener: (state: RegistrationState | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Enters the kite into the directory and keeps it there, through restarts of kontrol. A second call replaces the first.
   *
   * @throws {KiteError} what kontrol refused it with, or `unavailable` when kontrol was away for the whole time; then nothing goes on.
   */
  async register(register: Register, options: { timeoutMs?: number; signal?: AbortSignal } = {}): Promise<Registered> {
    this.checkOpen();
    if (this.#registration !== undefined) await this.#registration.close();
    this.checkOpen();
    const { log, backoff, now, random, reach } = this;
    const registration: Registration = new Registration({
      reach,
      register,
      onState: (state) => registration === this.#registration && this.#move(state),
      onKey: (kiteKey) => this.#options.onKey?.(kiteKey),
      onRevoked: (revocation) => this.#options.onRevoked?.(revocation),
      beats: this.#options.beats,
      doubt: this.#options.doubt,
      log,
      backoff,
      now,
      random,
    });
    this.#registration = registration;
    const { timeoutMs = FIRST_REGISTRATION_MS, signal } = options;
    const limited = new AbortController();
    try {
      return await Promise.race([waitUntil(registration.start(), signal), this.#tooLate(timeoutMs, limited.signal)]);
    } catch (thrown) {
      await registration.close();
      throw thrown;
    } finally {
      limited.abort();
    }
  }

  /**
   * Changes labels of the registered kite; they stay through registrations to come.
   *
   * @throws {KiteError} `failed_precondition` before `register`, or what kontrol refused the change with.
   */
  async updateLabels(labels: LabelChange): Promise<void> {
    this.checkOpen();
    if (this.#registration === undefined) throw new KiteError("failed_precondition", "labels are changed after register()");
    await this.#registration.updateLabels(labels);
  }

  /** Ends the registration's beats, all watches and everything that waits. */
  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await this.#registration?.close();
    this.#listeners.clear();
  }

  async #tooLate(timeoutMs: number, signal: AbortSignal): Promise<never> {
    await sleep(timeoutMs, { signal });
    const last = this.#state?.state === "registering" ? this.#state.error : undefined;
    throw away(`the kite was not registered within ${timeoutMs} ms`, last);
  }

  #move(state: RegistrationState): void {
    this.#state = state;
    if (state.state === "registered") this.answered();
    for (const listener of [...this.#listeners]) listener(state);
  }
}

// A mesh that starts as a whole takes a few seconds; a kite that nobody can find after half a minute should say so.
const FIRST_REGISTRATION_MS = 30_000;
