import { PassThrough } from "node:stream";
import type { ReadStream } from "node:tty";

// A person types a line or pastes a page; more than this while one call runs is a mistake.
const MAX_WAITING = 1024 * 1024;
const CTRL_C = "\x03";

/**
 * Standard input, handed on a line at a time: what comes while a line is at work waits for its end, so that pasted lines and
 * scripts run one after the other. Only Ctrl-C does not wait. Whoever made it closes it.
 */
export class ReplInput extends PassThrough {
  readonly #source: NodeJS.ReadStream;
  readonly #onInterrupt: () => void;
  #waiting = "";
  #ended = false;
  #busy = false;
  #pumping = false;

  constructor(source: NodeJS.ReadStream, onInterrupt: () => void) {
    super();
    this.#source = source;
    this.#onInterrupt = onInterrupt;
    source.setEncoding("utf8");
    source.on("data", this.#onData).on("end", this.#onEnd);
  }

  get isTTY(): boolean {
    return this.#source.isTTY === true;
  }

  get isRaw(): boolean {
    return (this.#source as ReadStream).isRaw === true;
  }

  /** The editor of lines asks for it, and evaluation gives it back for as long as it runs. */
  setRawMode(raw: boolean): this {
    if (this.isTTY) this.#source.setRawMode(raw);
    return this;
  }

  /** A line is at work: nothing more is handed on. */
  hold(): void {
    this.#busy = true;
  }

  /** It is done. */
  release(): void {
    this.#busy = false;
    void this.#pump();
  }

  close(): void {
    this.#source.off("data", this.#onData).off("end", this.#onEnd);
    this.setRawMode(false);
    // Standard input would keep the process.
    this.#source.pause();
    this.#source.unref?.();
  }

  readonly #onData = (text: string): void => {
    if (this.#busy && this.isTTY && text.includes(CTRL_C)) {
      // What was typed before it is not wanted any more, either.
      this.#waiting = text.slice(text.lastIndexOf(CTRL_C) + 1);
      this.#onInterrupt();
      return;
    }
    this.#waiting += text;
    if (this.#waiting.length > MAX_WAITING) this.#source.pause();
    void this.#pump();
  };

  readonly #onEnd = (): void => {
    this.#ended = true;
    // A script's last line may lack its end; one more empty line is nothing.
    if (!this.isTTY) this.#waiting += "\n";
    void this.#pump();
  };

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (!this.#busy && this.#waiting !== "") {
        this.write(this.#takeLine());
        // By then a line has begun its work, if it was one.
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      this.#pumping = false;
    }
    if (this.#waiting.length <= MAX_WAITING && this.#source.isPaused() && !this.#ended) this.#source.resume();
    if (this.#ended && !this.#busy && this.#waiting === "" && !this.writableEnded) this.end();
  }

  /** Up to and with the next line's end, or all there is. */
  #takeLine(): string {
    const end = /\r\n|\r|\n/.exec(this.#waiting);
    const line = end === null ? this.#waiting : this.#waiting.slice(0, end.index + end[0].length);
    this.#waiting = this.#waiting.slice(line.length);
    return line;
  }
}
