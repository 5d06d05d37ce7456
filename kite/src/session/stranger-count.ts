import { KiteError } from "../errors.ts";
import type { Limits } from "../limits.ts";
import { sourceOfAddress } from "../source.ts";

/** Counts the sessions of one kite whose peers showed no credential: anybody may open them, so there are only so many. */
export class StrangerCount {
  readonly #limits: Limits;
  readonly #bySource = new Map<string, number>();
  #all = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#all;
  }

  /**
   * Counts one more until the returned function is called.
   *
   * @throws {KiteError} `overloaded` naming the limit.
   */
  enter(remoteAddress: string | undefined): () => void {
    const { strangers, strangersPerSource } = this.#limits;
    const source = sourceOfAddress(remoteAddress);
    const open = this.#bySource.get(source) ?? 0;
    if (this.#all >= strangers) throw tooMany("strangers", strangers);
    // Without an address all of them would share what is meant for one.
    if (remoteAddress !== undefined && open >= strangersPerSource) throw tooMany("strangersPerSource", strangersPerSource);
    this.#all++;
    this.#bySource.set(source, open + 1);
    return () => this.#leave(source);
  }

  #leave(source: string): void {
    this.#all--;
    const open = (this.#bySource.get(source) ?? 0) - 1;
    if (open > 0) this.#bySource.set(source, open);
    else this.#bySource.delete(source);
  }
}

function tooMany(limit: "strangers" | "strangersPerSource", allowed: number): KiteError {
  return new KiteError("overloaded", `the limit ${limit} is ${allowed} sessions without a credential; show one, or try again in a moment`, {
    details: { limit, allowed },
  });
}
