import { statfs } from "node:fs/promises";
import { freemem, homedir, platform, totalmem } from "node:os";
import { type Methods, method } from "../method.ts";
import { type SystemInfo, TEXT } from "./builtin.ts";
import { Terminal, type TerminalStreams } from "./terminal.ts";

/**
 * The built-in methods that need a machine: `systemInfo`, `print`, `prompt` and `getPass`. A kite serves them by itself; a
 * program that wants to be asked by a kite that it calls offers them with the connection.
 *
 * @example const math = await kite.connect<MathContract>({ name: "math" }, { methods: { kite: hostMethods() } });
 */
export function hostMethods(streams: TerminalStreams = process): Methods {
  const terminal = new Terminal(streams);
  return {
    systemInfo: method({ role: "viewer", repetition: "idempotent", description: "Tells how much memory and disk are in use." }, systemInfo),
    print: method({ input: TEXT, description: "Prints a message on the kite's standard output." }, (message) => terminal.print(message)),
    prompt: method({ input: TEXT, description: "Asks the person at the kite's terminal for a line." }, (message, { signal }) =>
      terminal.ask(message, { signal }),
    ),
    getPass: method({ input: TEXT, description: "Asks for a line that is not shown while it is typed." }, (message, { signal }) =>
      terminal.ask(message, { signal, hidden: true }),
    ),
  };
}

async function systemInfo(): Promise<SystemInfo> {
  const homeDir = homedir();
  const { bsize, blocks, bfree } = await statfs("/");
  const [totalMemoryLimit, free] = [totalmem(), freemem()];
  return {
    state: "RUNNING",
    diskUsage: Math.round(((blocks - bfree) * bsize) / KIB),
    diskTotal: Math.round((blocks * bsize) / KIB),
    memoryUsage: totalMemoryLimit - free,
    totalMemoryLimit,
    homeDir,
    // Go's name for it, as kites have always said.
    uname: platform() === "win32" ? "windows" : platform(),
  };
}

const KIB = 1024;
