export interface ViewerOptions {
  /** Whose viewer it is. */
  user: string;
  /** False for one who may only look. */
  canType: boolean;
  send: (piece: Buffer) => void;
  /** The screen as it is now; left out for a terminal without an emulator, whose only viewer must get every byte. */
  draw?: () => Promise<Buffer>;
}

/**
 * One who looks at a terminal, with a flow control of its own. It counts what was sent and not acknowledged. Live, it gets
 * all output; fallen behind, it gets none until it has taken what it was sent, and then the screen as it is by then.
 */
export class Viewer {
  readonly user: string;
  readonly canType: boolean;
  readonly #options: ViewerOptions;
  #state: "joining" | "live" | "behind" | "gone" = "live";
  #unacknowledged = 0;
  #whileJoining: Buffer[] = [];
  #joined: Promise<void> = Promise.resolve();
  /** Before this time it may not hold the program again. */
  mayHoldFrom = 0;

  constructor(options: ViewerOptions) {
    this.#options = options;
    this.user = options.user;
    this.canType = options.canType;
  }

  /** Whether it is owed more than it may be. */
  get isOver(): boolean {
    return this.#state === "live" && this.#unacknowledged > WINDOW_BYTES;
  }

  /** Whether it has taken enough to go on. */
  get hasRoom(): boolean {
    return this.#state !== "live" || this.#unacknowledged <= WINDOW_BYTES / 2;
  }

  /** Sends the screen, then everything that was pushed after this call. */
  join(): void {
    const { draw } = this.#options;
    if (draw === undefined) return;
    this.#state = "joining";
    this.#joined = draw().then((drawing) => this.#drawn(drawing));
  }

  push(piece: Buffer): void {
    if (this.#state === "live") this.#send(piece);
    else if (this.#state === "joining") this.#whileJoining.push(piece);
  }

  acknowledge(bytes: number): void {
    this.#unacknowledged = Math.max(0, this.#unacknowledged - bytes);
    if (this.#state === "behind" && this.#unacknowledged === 0) this.join();
  }

  fallBehind(): void {
    if (this.#state === "live" && this.#options.draw !== undefined) this.#state = "behind";
  }

  /** Ends with the last screen delivered, however far behind it is. */
  async finish(): Promise<void> {
    if (this.#state === "behind") this.join();
    await this.#joined;
    this.#state = "gone";
  }

  leave(): void {
    this.#state = "gone";
    this.#whileJoining = [];
  }

  #drawn(drawing: Buffer): void {
    if (this.#state !== "joining") return;
    const pieces = this.#whileJoining;
    this.#whileJoining = [];
    this.#state = "live";
    this.#send(drawing);
    for (const piece of pieces) this.#send(piece);
  }

  #send(piece: Buffer): void {
    this.#unacknowledged += piece.length;
    this.#options.send(piece);
  }
}

// One MiB fills a link of 100 Mbit/s at 80 ms.
const WINDOW_BYTES = 1024 * 1024;
