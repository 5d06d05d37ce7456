import { KiteError } from "../errors.ts";
import type { IncomingCall } from "./calls.ts";

/**
 * What a kontrol of the original's asks of every kite that it was dialled by: to be pinged at once, and every few seconds from
 * then on. A new request takes the place of the one before. Stopped by the connection that owns it.
 */
export class Heartbeat {
  #beating: ReturnType<typeof setInterval> | undefined;

  /** Answers `kite.ping` and `kite.heartbeat`; undefined for everything else. */
  serve(call: IncomingCall): unknown {
    if (call.method === "kite.ping") return "pong";
    return call.method === "kite.heartbeat" ? this.#start(call.args) : undefined;
  }

  stop(): void {
    clearInterval(this.#beating);
  }

  #start([seconds, ping]: readonly unknown[]): null {
    if (typeof seconds !== "number" || !(seconds > 0) || typeof ping !== "function") {
      throw new KiteError("invalid_argument", "kite.heartbeat takes a number of seconds and a function to call that often");
    }
    const beat = (): void => void Promise.resolve(ping()).catch(() => {}); // the connection's end stops it anyway
    this.stop();
    beat();
    this.#beating = setInterval(beat, Math.min(Math.max(seconds, 1), MAX_SECONDS) * 1000);
    // It keeps a registration alive, not the process.
    this.#beating.unref();
    return null;
  }
}

// A day: far more than any registry waits, and far below what a timer holds.
const MAX_SECONDS = 24 * 60 * 60;
