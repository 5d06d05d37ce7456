import { loadPtyModule } from "../klient/src/pty-module.ts";
import { until } from "./until.ts";

export interface TerminalProgramOptions {
  cwd: string;
  env: NodeJS.ProcessEnv;
  columns?: number;
  rows?: number;
}

/** What node-pty and its twin have in common, as far as it is used here. */
interface Pty {
  onData(listener: (data: Uint8Array) => void): unknown;
  onExit(listener: (exit: { exitCode: number }) => void): unknown;
  write(data: string): void;
  resize(columns: number, rows: number): void;
  kill(signal?: string): void;
}

const SHOW_LIMIT_MS = 20_000;

/** A program in a real terminal, as a person has it: it is typed to, and its screen is read. Leaving its scope ends it. */
export class TerminalProgram implements Disposable {
  readonly #pty: Pty;
  readonly #decoder = new TextDecoder();
  #output = "";
  #read = 0;
  #status: number | undefined;
  #lastMatch = "";

  constructor(file: string, args: string[], { cwd, env, columns = 80, rows = 24 }: TerminalProgramOptions) {
    const defined = Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
    const options = { name: "xterm-256color", cols: columns, rows, cwd, env: defined, encoding: null };
    this.#pty = loadPtyModule().module.spawn(file, args, options) as unknown as Pty;
    this.#pty.onData((data) => (this.#output += this.#decoder.decode(data, { stream: true })));
    this.#pty.onExit(({ exitCode }) => (this.#status = exitCode));
  }

  type(text: string): void {
    this.#pty.write(text);
  }

  resize(columns: number, rows: number): void {
    this.#pty.resize(columns, rows);
  }

  /** Waits for output that matches, after what was waited for before. The echo of what was typed is output, too. */
  async shows(pattern: RegExp): Promise<void> {
    await until(`${pattern} on the terminal`, SHOW_LIMIT_MS, () => {
      const match = pattern.exec(this.#output.slice(this.#read));
      if (match === null) return this.#ended() && fail(`the program ended with status ${this.#status}`);
      this.#read += match.index + match[0].length;
      this.#lastMatch = match[0];
      return true;
    }).catch((cause: unknown) => fail(`${(cause as Error).message}; it showed:\n${JSON.stringify(this.#output.slice(-2000))}`, cause));
  }

  /** What {@link shows} found last. */
  get lastMatch(): string {
    return this.#lastMatch;
  }

  /** Waits for the program to end, and answers with its status. */
  async exited(): Promise<number> {
    await until("the program in the terminal to end", SHOW_LIMIT_MS, () => this.#ended());
    return this.#status ?? -1;
  }

  [Symbol.dispose](): void {
    if (!this.#ended()) this.#pty.kill("SIGKILL");
  }

  #ended(): boolean {
    return this.#status !== undefined;
  }
}

function fail(message: string, cause?: unknown): never {
  throw new Error(message, { cause });
}
