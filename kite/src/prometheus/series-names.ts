/** The names that have a series of their own, first come, first served: beyond `most` there are no new ones. */
export class SeriesNames {
  readonly #most: number;
  readonly #names = new Set<string>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Whether the name has a series, or gets one now. */
  admit(name: string): boolean {
    if (this.#names.has(name)) return true;
    if (this.#names.size >= this.#most) return false;
    this.#names.add(name);
    return true;
  }
}
