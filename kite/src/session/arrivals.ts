/**
 * The functions and streams that came with one message, until somebody has them. What nobody will ever have is let go at once:
 * its producers would fill their windows, and its functions stay, until garbage is collected here, which may be never.
 */
export class Arrivals {
  #letGo: (() => void)[] | undefined;
  #state: "waiting" | "taken" | "gone" = "waiting";

  /** Itself; undefined for a message that brought nothing of the kind, as most do. */
  get some(): this | undefined {
    return this.#letGo === undefined ? undefined : this;
  }

  /** Whether somebody has them. */
  get taken(): boolean {
    return this.#state === "taken";
  }

  /** What comes when nobody wants it any more is let go as it comes. */
  add(letGo: () => void): void {
    if (this.#state === "gone") return letGo();
    this.#letGo ??= [];
    this.#letGo.push(letGo);
  }

  /** Somebody gets them, and may keep them. False when they were let go: what is left looks like a stream that ended well. */
  take(): boolean {
    if (this.#state === "waiting") this.#state = "taken";
    return this.taken;
  }

  /** Nobody gets them any more. Those that were taken stay. */
  letGo(): void {
    if (this.#state !== "waiting") return;
    this.#state = "gone";
    for (const letGo of this.#letGo ?? []) letGo();
  }
}
