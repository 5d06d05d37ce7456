import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { KiteError } from "../errors.ts";

/** Where questions are asked and answered; `process` is one. */
export interface TerminalStreams {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly stdout: NodeJS.WritableStream;
}

/** The person in front of a process, who is asked one thing at a time. Holds nothing between two questions. */
export class Terminal {
  readonly #streams: TerminalStreams;
  #asking = false;

  constructor(streams: TerminalStreams) {
    this.#streams = streams;
  }

  /** Writes a text as it is, and answers with its bytes. */
  print(text: string): number {
    const shown = printable(text);
    this.#streams.stdout.write(shown);
    return Buffer.byteLength(shown);
  }

  /**
   * Asks for a line.
   *
   * @throws {KiteError} `failed_precondition` without a terminal, `overloaded` while somebody else asks, `cancelled` when
   * the person ends the input or nobody waits for the answer any more.
   */
  async ask(question: string, { signal, hidden = false }: { signal: AbortSignal; hidden?: boolean }): Promise<string> {
    if (this.#streams.stdin.isTTY !== true) {
      throw new KiteError("failed_precondition", "nobody can be asked: this process has no terminal", { outcome: "not_run" });
    }
    if (this.#asking)
      throw new KiteError("overloaded", "somebody else is asking at this terminal; try again later", { outcome: "not_run" });
    this.#asking = true;
    try {
      return await this.#read(printable(question), signal, hidden);
    } finally {
      this.#asking = false;
    }
  }

  #read(question: string, signal: AbortSignal, hidden: boolean): Promise<string> {
    const { stdin, stdout } = this.#streams;
    // readline echoes what is typed; where it must not be seen, it writes into nothing.
    const output = hidden ? new Writable({ write: (_chunk, _encoding, done) => done() }) : stdout;
    if (hidden) stdout.write(question);
    const reader = createInterface({ input: stdin, output, terminal: true, historySize: 0 });
    return new Promise<string>((resolve, reject) => {
      const give = (why: unknown): void =>
        reject(why instanceof KiteError ? why : new KiteError("cancelled", "the question was cancelled"));
      const abort = (): void => {
        give(signal.reason);
        reader.close();
      };
      reader.on("SIGINT", () => {
        reader.close();
        // The key would have ended the program if it had not been asked something just now.
        if (stdin === process.stdin) process.kill(process.pid, "SIGINT");
      });
      reader.once("close", () => {
        signal.removeEventListener("abort", abort);
        if (hidden) stdout.write("\n");
        give(undefined);
      });
      reader.question(hidden ? "" : question, (line) => {
        resolve(line);
        reader.close();
      });
      if (signal.aborted) abort();
      else signal.addEventListener("abort", abort, { once: true });
    });
  }
}

/** A message from another kite must not move the cursor, clear the screen or pretend to be another program. */
function printable(text: string): string {
  return text.replace(CONTROL, "");
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what must not reach the terminal.
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
