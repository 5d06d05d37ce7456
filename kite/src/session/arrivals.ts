/**
 * The functions and streams that came with one message, until somebody has them. What nobody will ever have is let go at once:
 * its producers would fill their windows, and its functions stay, until garbage is collected here, which may be never.
 */
export class Arrivals {
  readonly #letGo: (() => void)[] = [];
  #taken = false;
  #gone = false;

  /** Itself; undefined for a message that brought nothing of the kind, as most do. */
  get some(): this | undefined {
    return this.#letGo.length > 0 ? this : undefined;
  }

  add(letGo: () => void): void {
    this.#letGo.push(letGo);
  }

  /** Somebody gets them, and may keep them. False when they were let go: what is left looks like a stream that ended well. */
  take(): boolean {
    this.#taken = !this.#gone;
    return this.#taken;
  }

  /** Nobody gets them any more. Those that were taken stay. */
  letGo(): void {
    if (this.#taken) return;
    this.#gone = true;
    for (const letGo of this.#letGo.splice(0)) letGo();
  }
}
