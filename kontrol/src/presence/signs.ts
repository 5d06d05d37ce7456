import { KiteError, type Logger } from "@kite-mesh/kite";
import type { Loop, Pulse } from "./pulse.ts";
import type { Held } from "./registrar.ts";

export interface SessionSignsOptions {
  readonly heartbeatMs: number;
  readonly logger: Logger;
}

// A process that is not blocked answers in milliseconds, one on a machine that is far too busy within a second or so.
const SHORTEST_WAIT_MS = 2_000;
// By then the thread has dialled again, and says whether the process stands still; or the session has come back by itself.
const RETURN_MS = 5_000;
// A question and its answer cost less than 30 µs: 3 % of a processor at most. With more kites than 10,000 at one kontrol each is asked less often.
const PER_SECOND = 1_000;

/**
 * Tells a kite whose session is cut from one that is busy, where a thread of its process beats on over a socket of its own. Neither of
 * the two answers in its session; but a process whose event loop stands still says so with its next beat. So with a beat of a
 * loop that turns its session is asked for a sign of life. When none comes, the socket for beats is closed: a kite
 * that is cut off learns so that its session is lost, dials it again and is not seen to leave; one that is blocked beats again, and says it.
 * From a session that stays silent no beat of a loop that turns is counted any more. It holds nothing that has to be closed.
 */
export class SessionSigns {
  readonly #options: SessionSignsOptions;
  readonly #waitMs: number;
  #room = PER_SECOND;
  #roomAtMs = performance.now();

  constructor(options: SessionSignsOptions) {
    this.#options = options;
    this.#waitMs = Math.max(options.heartbeatMs / 4, SHORTEST_WAIT_MS);
  }

  /** Whether a beat over the socket tells that the kite lives. */
  believes({ pulse }: Pick<Held, "pulse">, { blockedMs, lagMs }: Loop): boolean {
    // Who stood still when it was asked has not heard it yet.
    if (Math.max(blockedMs, lagMs) >= this.#waitMs / 2) pulse.sign = undefined;
    return pulse.sign !== "silent";
  }

  /** Asks the session of a kite that has just beaten, unless it is being asked. Never throws; what comes of it shows in the pulse. */
  ask({ session, pulse, record }: Pick<Held, "session" | "pulse" | "record">, { blockedMs }: Loop): void {
    // While a session is suspended its kite has 750 ms to come back.
    if (blockedMs > 0 || session?.state !== "open" || pulse.sign !== undefined) return;
    const now = performance.now();
    // Once for each beat that is due, however many come.
    if (now - pulse.askedAtMs < this.#options.heartbeatMs / 2 || !this.#takeRoom(now)) return;
    const before = progressOf(session);
    pulse.askedAtMs = now;
    pulse.sign = "asked";
    void session.call("kite.ping", [], { timeoutMs: this.#waitMs }).then(
      () => answered(pulse),
      (thrown: unknown) => {
        const isSilent = KiteError.from(thrown).code === "deadline_exceeded" && session.state === "open" && progressOf(session) === before;
        if (!isSilent || pulse.sign !== "asked") return answered(pulse);
        const { kite } = record;
        this.#options.logger.info({ kite: kite.id, username: kite.username }, "a kite beats, and its session answers nothing");
        this.#doubt(pulse);
      },
    );
  }

  #doubt(pulse: Pulse): void {
    const { heartbeatMs } = this.#options;
    const leftMs = Math.min(2 * heartbeatMs, Math.max(heartbeatMs, RETURN_MS));
    pulse.sign = "silent";
    pulse.lastBeatMs = Math.min(pulse.lastBeatMs, performance.now() - 2 * heartbeatMs + leftMs);
    pulse.link?.end("silent");
  }

  #takeRoom(now: number): boolean {
    this.#room = Math.min(PER_SECOND, this.#room + ((now - this.#roomAtMs) / 1_000) * PER_SECOND);
    this.#roomAtMs = now;
    if (this.#room < 1) return false;
    this.#room -= 1;
    return true;
  }
}

function answered(pulse: Pulse): void {
  if (pulse.sign === "asked") pulse.sign = undefined;
}

/** How far the peer has shown that it is there; a slow one takes what was sent before a question first. */
function progressOf(session: object): unknown {
  return "progress" in session ? session.progress : undefined;
}
