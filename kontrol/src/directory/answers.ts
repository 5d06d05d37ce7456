import type { Directory } from "./directory.ts";

// Who asks again within a second is told of the same kites, in another order. Tokens are given out for minutes, so none is older for it.
const KEPT_MS = 1_000;
// About 20 MB, with the questions: one can be as long as several kites. What else is asked within the second is put together each time.
const MOST_CHARACTERS = 20_000_000;
// What an answer costs that names nobody.
const ANSWER_OVERHEAD = 200;

/** What is answered: a text for each kite, in no order that means anything, and the name of it all. */
export interface Answer {
  readonly texts: readonly string[];
  /** Undefined when the next one has to be another. */
  readonly tag: string | undefined;
}

/**
 * Answers to questions, for as long as the directory stays at its revision, and for a second at most: what is asked often is looked
 * up, and each kite's access and token with it, once in that time. Nothing in it has to be closed.
 */
export class Answers {
  readonly #directory: Directory;
  readonly #kept = new Map<string, { readonly answer: Answer; readonly endsAt: number }>();
  #revision = 0;
  #since = 0;
  #characters = 0;

  constructor(directory: Directory) {
    this.#directory = directory;
  }

  /** Undefined when it has to be put together. */
  get(key: string, now: number): Answer | undefined {
    // A clock that was set back must not make a second an hour.
    if (this.#directory.revision !== this.#revision || Math.abs(now - this.#since) >= KEPT_MS) this.#clear(now);
    const kept = this.#kept.get(key);
    return kept !== undefined && now < kept.endsAt ? kept.answer : undefined;
  }

  /** Keeps what was found at a revision; `endsAt` is when the first of its tokens ends, and perhaps the access with it. */
  keep(key: string, answer: Answer, { revision, endsAt }: { revision: number; endsAt: number }): void {
    const characters = answer.texts.reduce((sum, text) => sum + text.length, ANSWER_OVERHEAD + key.length);
    if (revision !== this.#revision || this.#characters + characters > MOST_CHARACTERS) return;
    this.#characters += characters;
    this.#kept.set(key, { answer, endsAt });
  }

  #clear(now: number): void {
    this.#kept.clear();
    this.#characters = 0;
    this.#revision = this.#directory.revision;
    this.#since = now;
  }
}
