import { once } from "node:events";
import type { Command } from "commander";
import { readArguments } from "./arguments.ts";
import { methodNames } from "./candidates.ts";
import { EXIT, Failure, isKiteError, LOOK_FIRST } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { dim, isStream, isTerminal, json, note, pretty, print } from "./output.ts";
import { connectTo, methodOf, peerIn } from "./remote-kite.ts";
import { interrupted, stayAlive } from "./signals.ts";
import { readSeconds, TimeLimit } from "./time-limit.ts";

/** `kite call`: one method of one kite, from a shell. */
export function addCallCommand(program: Command): void {
  program
    .command("call")
    .argument("<kite>", "a name, name@version, or a path")
    .argument("[method]", "such as square or fs.readFile; left out, you are told which there are")
    .argument("[args...]", "JSON, @file, - for standard input, %name for a callback, or plain words")
    .option("--timeout <seconds>", "give the whole command so long, its stream and --wait included; left out: 60 s for the answer alone")
    .option("--json", "JSON on one line, for results, chunks and callbacks alike")
    .option("--stream", "expect a stream; bytes go to standard output as they are")
    .option("--stdin-stream", "- is a stream of the lines of standard input; with --binary of its bytes")
    .option("--binary", "@file and - are bytes, not JSON or text")
    .option("--wait", "stay after the result, for callbacks that are still to come, until Ctrl-C")
    .description("call a method and print its result")
    .addHelpText("after", CALL_HELP)
    .action(call);
}

const CALL_HELP = `
An argument is JSON if it can be read as JSON, else the word itself; @file is what the file holds, - what standard input holds;
%name is a function that prints how it is called, in JSON {"$callback": "name"}. A word that begins with - goes after --.

--timeout bounds all of it: standard input, the way to the kite, the answer, and then its stream or --wait. Exit status ${EXIT.timeout} says
that it was over, 130 that Ctrl-C came first; either way the method is told to stop. Without it an answer is waited for 60 s, and
what follows an answer goes on until it ends.

Examples:
  kite call math square 12
  kite call math@^1.2 add 1 2
  kite call klient fs.readDirectory '{"path": "/tmp"}'
  kite call kloud stack.plan @request.json
  kite call chat join general %message --wait
  kite call math count 3 --stream --json
  kite call klient log.tail '{"path": "/var/log/syslog"}' --stream --timeout 30
  tail -f access.log | kite call stats feed - --stdin-stream
  kite call images resize @photo.jpg 800 --binary > small.jpg`;

interface CallOptions {
  timeout?: string;
  json?: boolean;
  stream?: boolean;
  stdinStream?: boolean;
  binary?: boolean;
  wait?: boolean;
}

// Far above what any healthy method takes, and short enough for a person to see that something is wrong.
const ANSWER_LIMIT_MS = 60_000;

async function call(name: string, method: string | undefined, words: string[], options: CallOptions): Promise<void> {
  if (method === undefined) throw new Failure(`missing required argument 'method'; ${await methodsOf(name)}`, EXIT.usage);
  using whole = new TimeLimit(options.timeout === undefined ? Number.POSITIVE_INFINITY : readSeconds("--timeout", options.timeout));
  try {
    await callWithin(whole, { name, method, words }, options);
  } finally {
    // It may still be open, at a terminal for ever; nobody is left to read it.
    process.stdin.destroy();
  }
}

interface Asked {
  readonly name: string;
  readonly method: string;
  readonly words: readonly string[];
}

async function callWithin(whole: TimeLimit, { name, method, words }: Asked, options: CallOptions): Promise<void> {
  const { binary = false, stdinStream = false } = options;
  const reading = readArguments(words, { binary, stdinStream, callback: (called) => printer(called, options) });
  const args = await whole.within(reading, "standard input did not end");
  await using mesh = await openMesh();
  const { callWith } = await import("@kite-mesh/kite");
  const remote = await whole.within(connectTo(mesh, name), `${name} was not reached`);
  const interrupt = interrupted(() => {});
  // The session that the call is made in, and its functions live in: the next one knows nothing of them.
  const closed = (await peerIn(remote))?.session.closed ?? NEVER;
  using answer = options.timeout === undefined ? new TimeLimit(ANSWER_LIMIT_MS) : undefined;
  const limit = answer ?? whole;
  const run = methodOf(callWith(remote, { timeoutMs: limit.leftMs, signal: interrupt }), method);
  const result = await run(...args).catch(async (cause: unknown) => {
    throw limit.passed ? unanswered(limit, method, cause) : await unknownMethod(name, method, cause);
  });
  const signal = AbortSignal.any([interrupt, whole.signal]);
  const inTime = (what: string) => {
    if (whole.signal.aborted && !interrupt.aborted) throw whole.failure(what);
  };
  await show(result, method, options, signal);
  inTime(isStream(result) ? `the stream of ${method} did not end` : `the result of ${method} was not taken`);
  if (options.wait) await stay(closed, signal);
  inTime("the wait for callbacks did not end");
}

/** Its caller has to know whether it may have run, which the error alone says. */
function unanswered(limit: TimeLimit, method: string, cause: unknown): unknown {
  if (!isKiteError(cause) || cause.code !== "deadline_exceeded") return cause;
  const hint = cause.outcome === "not_run" ? "it did not run" : `it may have run; ${LOOK_FIRST}`;
  return limit.failure(`${method} did not answer`, hint, { cause });
}

/** Where nothing that is there is like the method, it helps to see all. */
async function unknownMethod(name: string, method: string, cause: unknown): Promise<unknown> {
  if (!isKiteError(cause) || !cause.message.startsWith(`Method not found: ${method}`)) return cause;
  const inside = await methodsOf(name, `${method}.`);
  if (inside !== undefined) return new Failure(`Method not found: ${method}; ${inside}`, EXIT.error, { cause });
  if (cause.message !== `Method not found: ${method}`) return cause;
  return new Failure(`${cause.message}; ${await methodsOf(name)}`, EXIT.error, { cause });
}

// More do not fit what a person reads in an error.
const MOST_NAMED = 20;

/** Which methods there are, as far as the kite can be asked. With `start` those that begin so, or undefined without any. */
async function methodsOf(name: string): Promise<string>;
async function methodsOf(name: string, start: string): Promise<string | undefined>;
async function methodsOf(name: string, start?: string): Promise<string | undefined> {
  const found = await methodNames(name).catch((cause: unknown) => {
    // Whether there is such a kite is worth knowing; that nobody could be asked is not what went wrong.
    if (cause instanceof Failure && cause.exitCode === EXIT.error) throw cause;
    return [];
  });
  const own = found.filter((method) => (start === undefined ? !method.startsWith("kite.") : method.startsWith(start))).sort();
  const listed = `${own.slice(0, MOST_NAMED).join(", ")}${own.length > MOST_NAMED ? ", …" : ""}`;
  if (own.length > 0) return `${name} has ${listed}; kite docs ${name} says more`;
  return start === undefined ? `kite docs ${name} says which there are` : undefined;
}

/** A function that the other side may call for as long as this command runs. */
function printer(name: string, { json: asJson = false }: CallOptions): (...args: unknown[]) => void {
  return (...args) => print(asJson ? json({ callback: name, args }) : `${name}(${args.map(json).join(", ")})`);
}

async function show(result: unknown, method: string, options: CallOptions, signal: AbortSignal): Promise<void> {
  if (isStream(result)) return showStream(result, options, signal);
  if (options.stream)
    throw new Failure(`${method} did not answer with a stream, as --stream expects, but with ${json(result).slice(0, 200)}`);
  if (result instanceof Uint8Array && !options.json && !isTerminal()) await write(result, signal);
  else if (result !== undefined) print(options.json ? json(result) : pretty(result));
}

async function showStream(stream: AsyncIterable<unknown>, options: CallOptions, signal: AbortSignal): Promise<void> {
  const iterator = stream[Symbol.asyncIterator]();
  // Also ends a wait for the next chunk; the producer is told.
  const leave = () => void iterator.return?.();
  signal.addEventListener("abort", leave, { once: true });
  try {
    for (let step = await iterator.next(); !step.done && !signal.aborted; step = await iterator.next()) {
      const raw = step.value instanceof Uint8Array && !options.json && (options.stream === true || !isTerminal());
      if (raw) await write(step.value as Uint8Array, signal);
      else print(options.json ? json(step.value) : pretty(step.value));
    }
  } finally {
    signal.removeEventListener("abort", leave);
  }
}

/** As fast as the reader takes it: what waits in memory here could be more than there is. */
async function write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  // A reader that takes nothing must not keep the command after its end.
  if (!process.stdout.write(bytes)) await once(process.stdout, "drain", { signal }).catch(() => {});
}

const NEVER = new AbortController().signal;

/** Until Ctrl-C, or until there is nobody left to call back. */
async function stay(closed: AbortSignal, signal: AbortSignal): Promise<void> {
  using _stay = stayAlive();
  if (isTerminal()) note(dim("waiting for callbacks · Ctrl-C ends"));
  if (!signal.aborted && !closed.aborted) await Promise.race([once(signal, "abort"), once(closed, "abort")]);
  if (!signal.aborted) throw new Failure("the connection was lost, and with it whoever could have called back", EXIT.error);
}
