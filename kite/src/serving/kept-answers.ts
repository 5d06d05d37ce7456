/** An answer that is kept for those who ask again. */
export interface KeptAnswer {
  /** Bytes, about. */
  readonly weight: number;
  /** Lets the answer go; that there was one is still known. */
  letGo(): void;
}

/** The answers of one caller. */
interface Kept {
  weight: number;
  /** The oldest first. */
  readonly answers: Set<KeptAnswer>;
}

/**
 * Bounds what kept answers weigh together. When they weigh too much, whoever has most loses the oldest of his own, so that
 * nobody's large answers cost somebody else his small ones.
 */
export class KeptAnswers {
  readonly #maxWeight: number;
  readonly #byCaller = new Map<string, Kept>();
  #weight = 0;

  constructor(maxWeight: number) {
    this.#maxWeight = maxWeight;
  }

  /** What all weigh together. */
  get weight(): number {
    return this.#weight;
  }

  add(caller: string, answer: KeptAnswer): void {
    // One that weighs more than all may would first cost every other one its place.
    if (answer.weight > this.#maxWeight) return answer.letGo();
    const kept = this.#byCaller.get(caller) ?? { weight: 0, answers: new Set() };
    this.#byCaller.set(caller, kept);
    kept.answers.add(answer);
    this.#change(kept, answer.weight);
    while (this.#weight > this.#maxWeight) this.#lighten();
  }

  /** Nobody will ask for it any more. One that is not there may be removed. */
  remove(caller: string, answer: KeptAnswer): void {
    const kept = this.#byCaller.get(caller);
    if (kept === undefined || !kept.answers.delete(answer)) return;
    this.#change(kept, -answer.weight);
    if (kept.answers.size === 0) this.#byCaller.delete(caller);
  }

  #lighten(): void {
    let heaviest: [string, Kept] | undefined;
    for (const entry of this.#byCaller) if (heaviest === undefined || entry[1].weight > heaviest[1].weight) heaviest = entry;
    if (heaviest === undefined) return;
    const [caller, { answers }] = heaviest;
    for (const oldest of answers) {
      this.remove(caller, oldest);
      return oldest.letGo();
    }
  }

  #change(kept: Kept, by: number): void {
    kept.weight += by;
    this.#weight += by;
  }
}
