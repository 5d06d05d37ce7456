import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { clearScreenDown, cursorTo, moveCursor } from "node:readline";
import { type REPLEval, type REPLServer, start } from "node:repl";
import { inspect } from "node:util";
import { KiteError, type MethodDescription } from "@kite-mesh/kite";
import { explain, isKiteError } from "./failure.ts";
import { interruptibleConsole } from "./interruptible-console.ts";
import { wantsColor } from "./options.ts";
import { dim, harmless, isStream, json, note, pretty, print, readable, red } from "./output.ts";
import { ReplInput } from "./repl-input.ts";
import { complete, completeExpression } from "./repl-names.ts";
import { signature } from "./type-text.ts";

export interface ConsoleOptions {
  readonly prompt: string;
  /** Undefined: the kite does not say. */
  readonly methods: readonly MethodDescription[] | undefined;
  /** Names that stand for something; those that JavaScript has already are left to it. */
  readonly names: Readonly<Record<string, unknown>>;
  readonly historyPath: string;
}

/**
 * A JavaScript prompt (node:repl) where promises are awaited, streams are read and Ctrl-C ends what is under way. It ends by
 * `.exit`, Ctrl-D or `close`.
 */
export class ReplConsole {
  readonly #options: ConsoleOptions;
  readonly #input: ReplInput;
  readonly #terminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  #server: REPLServer | undefined;
  #running = new AbortController();
  /** JavaScript's own wait, which Ctrl-C has to reach as a key; ours ends by the signal. */
  #phase: "idle" | "evaluating" | "settling" = "idle";
  #completing = false;
  #failed = false;

  constructor(options: ConsoleOptions) {
    this.#options = options;
    this.#input = new ReplInput(process.stdin, () => this.#interrupt());
  }

  /** Aborted when the person has had enough of the line that is at work. */
  get signal(): AbortSignal {
    return this.#running.signal;
  }

  /** Until the person leaves. Answers with whether a line of a script failed. */
  async run(): Promise<{ failed: boolean }> {
    // What is typed before the history is there could not look into it.
    this.#input.hold();
    const server = this.#start();
    const left = new Promise<void>((resolve) => server.once("exit", resolve));
    if (this.#terminal) await keepHistory(server, this.#options.historyPath);
    this.#input.release();
    try {
      await left;
    } finally {
      this.#running.abort();
      this.#input.close();
    }
    return { failed: this.#failed && !this.#terminal };
  }

  close(): void {
    this.#server?.close();
  }

  /** A line of our own, above the one that is being typed. */
  say(text: string): void {
    if (!this.#terminal || this.#server === undefined) return note(`[kite: ${text}]`);
    this.#above(() => print(dim(`[kite: ${text}]`)));
  }

  /** What comes while a line is typed, such as a callback's words, goes above it, and the line stays whole. */
  #above(write: () => void): void {
    const server = this.#server;
    if (!this.#terminal || server === undefined || this.#phase !== "idle") return write();
    moveCursor(process.stdout, 0, -server.getCursorPos().rows);
    cursorTo(process.stdout, 0);
    clearScreenDown(process.stdout);
    write();
    server.displayPrompt(true);
  }

  #start(): REPLServer {
    const terminal = this.#terminal;
    const server = start({
      prompt: terminal ? this.#options.prompt : "",
      input: this.#input,
      output: process.stdout,
      terminal,
      useGlobal: true,
      useColors: terminal && wantsColor(),
      ignoreUndefined: true,
      breakEvalOnSigint: true,
      // A call must not begin before Enter.
      preview: false,
      writer: write,
    });
    this.#server = server;
    for (const [name, value] of Object.entries({ console: interruptibleConsole((write) => this.#above(write)), ...this.#options.names })) {
      Object.defineProperty(server.context, name, { value, enumerable: true, configurable: true, writable: true });
    }
    this.#watchEnds(server);
    this.#awaitResults(server);
    this.#completeMethods(server);
    this.#addCommands(server);
    return server;
  }

  /** However a line ends, by a value, an error, or as the first of several, the prompt comes back. */
  #watchEnds(server: REPLServer): void {
    const display = server.displayPrompt.bind(server);
    server.displayPrompt = (preserveCursor) => {
      // Its error went past us, to the prompt's own handler.
      if (this.#phase === "evaluating") this.#failed = true;
      this.#phase = "idle";
      if (this.#terminal) display(preserveCursor);
      this.#input.release();
    };
  }

  #awaitResults(server: REPLServer): void {
    const evaluate = server.eval;
    // Node's types forbid what its documentation has as the way to change a running prompt.
    (server as { eval: REPLEval }).eval = (code, context, file, done) => {
      // Tab looks at what stands before a dot. No line has begun, so no prompt would come back and hand on what is typed.
      if (this.#completing) return evaluate.call(server, code, context, file, done);
      this.#running = new AbortController();
      this.#phase = "evaluating";
      this.#input.hold();
      evaluate.call(server, code, context, file, (error, result: unknown) => {
        this.#phase = "settling";
        if (error !== null || !(isStream(result) || isPromise(result))) return done(error, result);
        void this.#settle(result).then((value) => done(null, value));
      });
    };
  }

  /** The value that is waited for, or nothing when it has been shown. Never fails: what went wrong is said. */
  async #settle(result: unknown): Promise<unknown> {
    const { signal } = this.#running;
    try {
      const value = await until(signal, Promise.resolve(result));
      if (!isStream(value)) return value;
      await readStream(value, signal);
    } catch (cause) {
      this.#failed = true;
      if (!signal.aborted) say(cause);
      else note(dim("cancelled"));
    }
    return undefined;
  }

  #interrupt(): void {
    this.#running.abort(new KiteError("cancelled", "Ctrl-C was pressed"));
    if (this.#phase === "evaluating") this.#input.write("\x03");
  }

  #completeMethods(server: REPLServer): void {
    // Not in Node's types, and there since its first prompt: what Tab asks.
    const completing = server as unknown as { completer: (line: string, answer: (error: null, found: [string[], string]) => void) => void };
    const others = completing.completer;
    const { methods = [], names } = this.#options;
    completing.completer = (line, answer) => {
      const command = /^\.(?:types|describe)\s+(\S*)$/.exec(line)?.[1];
      const word = command ?? /[\w$.]*$/.exec(line)?.[0] ?? "";
      const found = command === undefined ? completeExpression(word, methods, Object.keys(names)) : complete(word, methods);
      if (found.length > 0 && !/["'`]/.test(line)) return answer(null, [[...new Set(found)], word]);
      this.#completing = true;
      others.call(server, line, (error, offered) => {
        this.#completing = false;
        answer(error, offered);
      });
    };
  }

  #addCommands(server: REPLServer): void {
    const { methods } = this.#options;
    const show = (text: string) => {
      print(harmless(text));
      server.displayPrompt();
    };
    const missing = "this kite does not say what it serves; its methods can be called all the same";
    const types = (start: string) => {
      const found = methods?.filter(({ name }) => name.startsWith(start.trim())) ?? [];
      show(methods === undefined ? missing : found.map(signature).join("\n") || "no method begins so");
    };
    server.defineCommand("types", { help: "Show methods with their types: .types [beginning of a name]", action: types });
    server.defineCommand("methods", { help: "The same as .types", action: types });
    server.defineCommand("describe", {
      help: "Show all that a method says of itself: .describe name",
      action: (name) => {
        const found = methods?.find((known) => known.name === name.trim());
        show(
          methods === undefined
            ? missing
            : found === undefined
              ? `there is no method called "${name.trim()}"; see .types`
              : describe(found),
        );
      },
    });
  }
}

/** A method, with its schemas, for reading. */
function describe(method: MethodDescription): string {
  const { description, role, repetition, input, output } = method;
  const schemas = input.map((schema, index) => `argument ${index + 1} ${pretty(schema)}`);
  const facts = `role ${role}, ${repetition}`;
  return [signature(method), ...(description === undefined ? [] : [description]), facts, ...schemas, `result ${pretty(output)}`].join("\n");
}

function write(value: unknown): string {
  if (isKiteError(value)) return `${value.message} (${value.code})`;
  if (!process.stdout.isTTY) return value instanceof Error ? `${value.name}: ${value.message}` : json(value);
  return inspect(readable(value), { colors: wantsColor(), depth: 6, maxArrayLength: 200, showProxy: false });
}

function say(cause: unknown): void {
  note(red(`${explain(cause).line}${isKiteError(cause) ? ` (${cause.code})` : ""}`));
}

async function readStream(stream: AsyncIterable<unknown>, signal: AbortSignal): Promise<void> {
  const iterator = stream[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await until(signal, iterator.next());
      if (done) return;
      print(write(value));
    }
  } finally {
    // Ended here, its producer is told; at its end that changes nothing.
    void iterator.return?.();
  }
}

/** The promise, unless the signal comes first. */
function until<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function isPromise(value: unknown): value is Promise<unknown> {
  return value instanceof Promise;
}

/** Readable by its owner only: what was typed there may be a secret. Without a place for it the prompt works all the same. */
async function keepHistory(server: REPLServer, path: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(path, "a", 0o600);
    await file.chmod(0o600);
    await file.close();
  } catch (cause) {
    return note(dim(`[kite: what you type is not remembered: ${(cause as Error).message}]`));
  }
  await new Promise<void>((resolve) => server.setupHistory(path, () => resolve()));
}
