import { join } from "node:path";
import type { KiteDescription, Peer, Remote } from "@kite-mesh/kite";
import type { Command } from "commander";
import { Failure } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { readOptions } from "./options.ts";
import { dim, note, print } from "./output.ts";
import { type Callable, connectTo, describe, methodOf, peerIn } from "./remote-kite.ts";
import { interrupted } from "./signals.ts";
import { readSeconds } from "./time-limit.ts";

/** `kite repl`: a JavaScript prompt inside a session with a kite. */
export function addReplCommand(program: Command): void {
  program
    .command("repl")
    .argument("<kite>", "a name, name@version, or a path")
    .option("--timeout <seconds>", "give up a call after so long; left out: 60 s")
    .description("call a kite's methods at a JavaScript prompt")
    .addHelpText("after", REPL_HELP)
    .action(repl);
}

const REPL_HELP = `
At the prompt methods are functions, their results are waited for, streams are printed as they come until Ctrl-C, functions
that you pass are called back, and Tab completes names. What you type is kept in repl-history beside your kite.key.

Examples:
  kite repl math
    > square(12)
    > await square(2) + await square(3)
    > .types
    > .describe square
  echo 'square(12)' | kite repl math`;

async function repl(query: string, options: { timeout?: string }): Promise<void> {
  const timeoutMs = readSeconds("--timeout", options.timeout ?? "60");
  await using mesh = await openMesh();
  const remote = await connectTo(mesh, query);
  const description = await describe(remote, query).catch((cause: unknown) => {
    if (!(cause instanceof Failure)) throw cause;
    note(dim(`[kite: ${cause.message}]`));
    return undefined;
  });
  const { failed } = await converse({ remote, query, description, timeoutMs });
  if (failed) process.exitCode = 1;
}

interface Conversation {
  remote: Remote<Callable>;
  query: string;
  description: KiteDescription | undefined;
  timeoutMs: number;
}

async function converse({ remote, query, description, timeoutMs }: Conversation): Promise<{ failed: boolean }> {
  const [{ callWith }, { ReplConsole }, { anyMethod, identifier, isJavaScripts, methodTree, shadowed }] = await Promise.all([
    import("@kite-mesh/kite"),
    import("./repl-console.ts"),
    import("./repl-names.ts"),
  ]);
  const call = (name: string, args: readonly unknown[]): Promise<unknown> =>
    methodOf(callWith(remote, { timeoutMs, signal: prompt.signal }), name)(...args);
  const tree = description === undefined ? anyMethod(call) : methodTree(description.methods, call);
  const peer = await peerIn(remote);
  const name = peer?.identity?.name ?? query;
  const names = namesOf(tree, identifier(name), isJavaScripts);
  const prompt = new ReplConsole({
    prompt: `${name}> `,
    methods: description?.methods,
    names,
    historyPath: join(readOptions().home, "repl-history"),
  });
  // Ctrl-C is the prompt's own; a handler of ours would also hear the one that ends an endless loop.
  interrupted(() => prompt.close(), ["SIGTERM", "SIGHUP"]);
  if (peer !== undefined) tellOfConnection(peer, (text) => prompt.say(text));
  if (process.stdin.isTTY) greet(name, description, description === undefined ? [] : shadowed(description.methods));
  return prompt.run();
}

/** Methods by their own names, where JavaScript has none such, and all of them below the kite's. */
function namesOf(tree: object, kite: string, isTaken: (name: string) => boolean): Record<string, unknown> {
  const own = Object.entries(tree).filter(([name]) => !isTaken(name));
  return { ...Object.fromEntries(own), kite: tree, ...(isTaken(kite) ? {} : { [kite]: tree }) };
}

function greet(name: string, description: KiteDescription | undefined, shadowed: readonly string[]): void {
  if (description === undefined) return print(`${name}; call its methods as ${name}.method(…)`);
  const { kite, methods } = description;
  print(`${kite.name} ${kite.version}, ${methods.length} methods; Tab completes, .types lists, .help helps`);
  const told = `${shadowed.slice(0, MOST_TOLD).join(", ")}${shadowed.length > MOST_TOLD ? ", …" : ""}`;
  if (shadowed.length > 0) print(dim(`JavaScript has other uses for ${told} here; the kite's are below kite, and Tab finds them`));
}

// More do not fit on a line.
const MOST_TOLD = 5;

function tellOfConnection(peer: Peer, say: (text: string) => void): void {
  let known = peer.session;
  let lost: "nothing" | "connection" | "session" = "nothing";
  peer.onState((state) => {
    const ended = peer.session !== known;
    if (state === "suspended" && ended && lost !== "session") {
      lost = "session";
      say("the session has ended; the next call opens another");
    } else if (state === "suspended" && lost === "nothing") {
      lost = "connection";
      say("connection lost, waiting for it to come back");
    } else if (state === "open") {
      if (lost !== "nothing") say(ended ? "connected again, in a new session" : "connected again, where it was");
      lost = "nothing";
      known = peer.session;
    }
  });
}
