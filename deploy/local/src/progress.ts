import { styleText } from "node:util";
import { wantsColor } from "./options.ts";

/** Replaces what the line of a running step says of it. */
export type Tell = (message: string) => void;

/** Tells a person what is going on, one line per step, with what came out of it and how long it took. */
export class Progress {
  readonly #out: NodeJS.WriteStream;
  readonly #startedAt = performance.now();

  constructor(out: NodeJS.WriteStream = process.stdout) {
    this.#out = out;
  }

  get elapsedMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** Runs a step. On a terminal its line stands there while it runs, and is completed afterwards. */
  async step<T>(name: string, run: (tell: Tell) => Promise<T>, describe: (result: T) => string): Promise<T> {
    const startedAt = performance.now();
    const tell = (message: string) => {
      if (this.#out.isTTY) this.#out.write(`\r\x1b[K  … ${name.padEnd(NAME_WIDTH)} ${message}`.slice(0, this.#out.columns || 80));
    };
    tell("");
    try {
      const result = await run(tell);
      this.done(name, describe(result), performance.now() - startedAt);
      return result;
    } catch (cause) {
      if (this.#out.isTTY) this.#out.write(`\r\x1b[K`);
      throw cause;
    }
  }

  done(name: string, what: string, ms: number): void {
    const took = this.#paint("dim", `${(ms / 1000).toFixed(2)} s`);
    this.#line(`  ${this.#paint("green", "✓")} ${name.padEnd(NAME_WIDTH)} ${what}  ${took}`);
  }

  failed(name: string, what: string): void {
    this.#line(`  ${this.#paint("red", "✗")} ${name.padEnd(NAME_WIDTH)} ${what}`);
  }

  say(text: string): void {
    this.#line(text);
  }

  title(text: string): void {
    this.#line(this.#paint("bold", text));
  }

  #line(text: string): void {
    this.#out.write(`${this.#out.isTTY ? "\r\x1b[K" : ""}${text}\n`);
  }

  #paint(style: "dim" | "green" | "red" | "bold", text: string): string {
    return this.#out.isTTY && wantsColor() ? styleText(style, text) : text;
  }
}

// The longest name of a step.
const NAME_WIDTH = 12;
