/**
 * Gathers a terminal's output into pieces worth sending. What comes after a pause, such as the echo of a keystroke, goes
 * on at once; only a program that prints a lot is gathered, for a few milliseconds or until a piece is full.
 * Call `close` to drop what waits and stop the timer.
 */
export class OutputBatch {
  readonly #send: (piece: Buffer) => void;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #sentNow = 0;
  #sentNowBytes = 0;

  constructor(send: (piece: Buffer) => void) {
    this.#send = send;
  }

  push(chunk: Buffer): void {
    if (this.#waiting.length === 0 && this.#mayGoAtOnce()) {
      this.#sentNow++;
      this.#sentNowBytes += chunk.length;
      this.#timer ??= setTimeout(() => this.#windowEnded(), WINDOW_MS);
      this.#send(chunk);
      return;
    }
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.length;
    if (this.#waitingBytes >= PIECE_BYTES) this.flush();
  }

  /** Sends what waits. */
  flush(): void {
    if (this.#waiting.length === 0) return;
    const piece = this.#waiting.length === 1 ? (this.#waiting[0] as Buffer) : Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#send(piece);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #mayGoAtOnce(): boolean {
    return this.#sentNow < AT_ONCE_PIECES && this.#sentNowBytes < AT_ONCE_BYTES;
  }

  #windowEnded(): void {
    const printedMuch = this.#waiting.length > 0;
    this.#timer = printedMuch ? setTimeout(() => this.#windowEnded(), WINDOW_MS) : undefined;
    this.#sentNow = 0;
    this.#sentNowBytes = 0;
    this.flush();
  }
}

// Half a frame of a screen at 60 Hz: nobody sees it, and a flood of 4 KB reads becomes an eighth as many messages.
const WINDOW_MS = 8;
const PIECE_BYTES = 32 * 1024;
// Echoes that follow each other within a window, from a fast typist or a program that answers a program.
const AT_ONCE_PIECES = 8;
const AT_ONCE_BYTES = 4 * 1024;
