import type { Directory } from "./directory.ts";

// Who asks again within a second is told of the same kites, in another order. Tokens are given out for minutes, so none is older for it.
const KEPT_MS = 1_000;
// About 20 MB, with the questions: one can be as long as several kites. What else is asked within the second is put together each time.
const MOST_CHARACTERS = 20_000_000;
// What an answer costs that names nobody.
const ANSWER_OVERHEAD = 200;

/**
 * Answers to questions, for as long as the directory stays at its revision, and for a second at most: what is asked often is looked
 * up, and each kite's access and token with it, once in that time. Nothing in it has to be closed.
 */
export class Answers {
  readonly #directory: Directory;
  readonly #kept = new Map<string, { readonly texts: readonly string[]; readonly endsAt: number }>();
  #revision = 0;
  #since = 0;
  #characters = 0;

  constructor(directory: Directory) {
    this.#directory = directory;
  }

  /** One text for each kite, in no order that means anything; undefined when it has to be put together. */
  get(key: string, now: number): readonly string[] | undefined {
    // A clock that was set back must not make a second an hour.
    if (this.#directory.revision !== this.#revision || Math.abs(now - this.#since) >= KEPT_MS) this.#clear(now);
    const kept = this.#kept.get(key);
    return kept !== undefined && now < kept.endsAt ? kept.texts : undefined;
  }

  /** Keeps what was found at a revision; `endsAt` is when the first of its tokens ends, and perhaps the access with it. */
  keep(key: string, texts: readonly string[], { revision, endsAt }: { revision: number; endsAt: number }): void {
    const characters = texts.reduce((sum, text) => sum + text.length, ANSWER_OVERHEAD + key.length);
    if (revision !== this.#revision || this.#characters + characters > MOST_CHARACTERS) return;
    this.#characters += characters;
    this.#kept.set(key, { texts, endsAt });
  }

  #clear(now: number): void {
    this.#kept.clear();
    this.#characters = 0;
    this.#revision = this.#directory.revision;
    this.#since = now;
  }
}
