import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Kite, KiteError, type Logger, type Observer, writeKiteKey } from "@kite-mesh/kite";
import { Programs } from "./exec.ts";
import { Files } from "./files.ts";
import { obtainKiteKey } from "./join.ts";
import { machineUser } from "./machine-user.ts";
import { klientMethods } from "./methods.ts";
import type { KlientEnvironment } from "./options.ts";
import { PtyHostClient } from "./pty-host-client.ts";
import { PTY_HOST_PROGRAM } from "./pty-host-process.ts";
import { Terminals } from "./terminal.ts";

export interface KlientOptions extends Omit<KlientEnvironment, "logLevel"> {
  log: Logger;
  /** Told of the calls of its kite, such as `tracing()` and `metrics()` of kite. */
  observers?: readonly Observer[];
  /** The program that holds the terminals; default: the one beside this file. */
  ptyHostProgram?: string;
  /** Aborted to give up starting, such as while kontrol is away. */
  signal?: AbortSignal;
}

export interface Klient extends AsyncDisposable {
  readonly kite: Kite;
  /** Leaves the mesh and ends what callers run. Terminals go on, to be found by the next klient, unless they are to end too. */
  close(options?: { terminals: "keep" | "end" }): Promise<void>;
}

export const KLIENT_VERSION = "0.1.0";

/**
 * Starts the agent of a machine: obtains its key if it has none, and registers through kontrol's relay, since a machine need
 * not be reachable. Resolves when it is registered.
 *
 * @throws {KiteError} when there is neither key nor join token, the home cannot be used, or kontrol refuses it.
 */
export async function createKlient(options: KlientOptions): Promise<Klient> {
  const { home, kontrolUrl, joinToken, log, environment, region, providerName } = options;
  const giveUp = options.signal ?? new AbortController().signal;
  const folder = await stateFolder(home);
  const kiteKey = await obtainKiteKey({ home, kontrolUrl, joinToken, log, signal: giveUp, version: KLIENT_VERSION });

  const user = machineUser(options.programs);
  const host = new PtyHostClient({ folder, program: options.ptyHostProgram ?? PTY_HOST_PROGRAM, env: user.env });
  const programs = new Programs({ user });
  const files = new Files({ home: user.home, stateFolder: home });
  const parts = { user, version: KLIENT_VERSION, providerName, programs, terminals: new Terminals({ host, user }), files };
  const kite = new Kite({
    name: "klient",
    version: KLIENT_VERSION,
    hostname: options.machine,
    environment,
    region,
    kiteKey,
    kontrolUrl,
    methods: klientMethods(parts),
    log,
    observers: options.observers,
    onKey: (renewed) => {
      writeKiteKey(home, renewed).catch((cause) =>
        log.error({ why: KiteError.from(cause).message }, "the new kite.key could not be written"),
      );
    },
  });

  const close = async ({ terminals }: { terminals: "keep" | "end" } = { terminals: "keep" }) => {
    await kite.close();
    await programs.close();
    if (terminals === "end") await host.shutdown();
    host.close();
  };
  try {
    await kite.register({ signal: giveUp });
  } catch (cause) {
    await close();
    throw cause;
  }
  return { kite, close, [Symbol.asyncDispose]: () => close() };
}

/** Ends the terminals that an earlier klient of this home left, for one that is told to end before it could start. */
export async function endTerminals(home: string): Promise<void> {
  const host = new PtyHostClient({ folder: await stateFolder(home), program: PTY_HOST_PROGRAM, env: {} });
  await host.shutdown();
  host.close();
}

/** klient's own folder, for nobody else: who can reach the socket in it can type into every terminal. */
async function stateFolder(home: string): Promise<string> {
  const folder = join(home, "klient");
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chmod(folder, 0o700);
  } catch (cause) {
    throw new KiteError(
      "failed_precondition",
      `KITE_HOME (${home}) cannot be written: ${KiteError.from(cause).message}; choose another folder`,
      { cause },
    );
  }
  return folder;
}
