import { setTimeout as delay } from "node:timers/promises";
import type { Remote } from "@kite-mesh/kite";
import type { KlientContract, WebtermSession } from "@kite-mesh/klient/contract";
import { deferred } from "./deferred.ts";
import { EXIT, explain, Failure, isKiteError } from "./failure.ts";
import { type Mesh, openMesh } from "./mesh.ts";
import { note } from "./output.ts";
import { openTerminal, type Terminal } from "./terminal.ts";

export interface Ssh {
  machine: string;
  session: string | undefined;
}

/**
 * A terminal on a machine. The session belongs to the machine, not to this process: whatever ends here, its programs go on, and
 * a connection that was lost for good is opened again to the same session.
 */
export async function ssh({ machine, session }: Ssh): Promise<void> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new Failure(`kite ssh needs a terminal on both sides; to run one program use kite exec ${machine} -- …`, EXIT.usage);
  }
  const mesh = await openMesh();
  const terminal = openTerminal();
  let outcome: Outcome;
  try {
    outcome = await converse({ mesh, terminal, machine, session });
  } finally {
    terminal.restore();
    await mesh[Symbol.asyncDispose]();
  }
  if (outcome.how === "left")
    note(`left session ${outcome.session} on ${machine}; come back with: kite ssh ${machine} --session ${outcome.session}`);
  else note(`session ${outcome.session} on ${machine} has ended`);
  if (outcome.how === "left" && outcome.exitCode !== undefined) process.exitCode = outcome.exitCode;
}

type Outcome = { how: "ended"; session: string } | { how: "left"; session: string; exitCode?: number };

interface Conversation {
  mesh: Mesh;
  terminal: Terminal;
  machine: string;
  session: string | undefined;
}

/** One attachment after the other, until the program in the session ends or the person leaves. */
async function converse(conversation: Conversation): Promise<Outcome> {
  let attached = await attach(conversation, conversation.session, "create");
  for (;;) {
    const end = await Promise.race([attached.end, conversation.terminal.left]);
    const session = attached.session.session;
    if (end.how === "ended") return { how: "ended", session };
    if (end.how === "left") {
      await leave(attached.session);
      return { how: "left", session, ...(end.exitCode === undefined ? {} : { exitCode: end.exitCode }) };
    }
    const again = await attachAgain(conversation, session);
    if (again === null) return { how: "left", session };
    attached = again;
  }
}

interface Attached {
  session: WebtermSession;
  end: Promise<{ how: "ended" } | { how: "lost" }>;
}

async function attach({ mesh, terminal, machine }: Conversation, name: string | undefined, mode: "create" | "resume"): Promise<Attached> {
  const { peerOf } = await import("@kite-mesh/kite");
  const klient = await mesh.klient(machine);
  const end = deferred<{ how: "ended" } | { how: "lost" }>();
  const peer = peerOf(klient);
  peer.session.closed.addEventListener("abort", () => end.resolve({ how: "lost" }), { once: true });
  let lost = false;
  peer.onState((state) => {
    if (state === "suspended") terminal.say("connection lost, waiting for it to come back (~. leaves)");
    if (state === "open" && lost) terminal.say("connected again");
    if (state === "open" && lost) terminal.repaint();
    lost = state === "suspended";
  });
  const session = await connect(klient, terminal, { name, mode, ended: () => end.resolve({ how: "ended" }) });
  // What a key sends goes out at once; that it cannot be sent any more is told by the state.
  terminal.use({
    input: (data) => void Promise.resolve(session.input(data)).catch(() => {}),
    resize: (columns, rows) => void Promise.resolve(session.setSize(columns, rows)).catch(() => {}),
  });
  return { session, end: end.promise };
}

interface SessionRequest {
  name: string | undefined;
  mode: "create" | "resume";
  ended: () => void;
}

async function connect(klient: Remote<KlientContract>, terminal: Terminal, { name, mode, ended }: SessionRequest): Promise<WebtermSession> {
  const [sizeX, sizeY] = terminal.size();
  const remote = { output: (data: Uint8Array | string) => terminal.write(data), sessionEnded: ended };
  return klient.webterm.connect({ ...(name === undefined ? {} : { session: name }), sizeX, sizeY, mode, remote });
}

// A machine that restarts is back in seconds, a laptop that slept in a minute or two.
const RETRY_MS = 1000;
const RETRY_LIMIT_MS = 300_000;

/** Null when the person has had enough of waiting. */
async function attachAgain(conversation: Conversation, session: string): Promise<Attached | null> {
  const { terminal, machine } = conversation;
  const deadline = Date.now() + RETRY_LIMIT_MS;
  terminal.use(null);
  for (;;) {
    const left = await Promise.race([terminal.left, delay(RETRY_MS, null)]);
    if (left !== null) return null;
    try {
      return await attach(conversation, session, "resume");
    } catch (cause) {
      const gone = isKiteError(cause) && cause.reason === "SessionNotFound";
      if (gone) throw new Failure(`session ${session} on ${machine} is gone: ${explain(cause).line}`, EXIT.remoteLost, { cause });
      if (Date.now() > deadline)
        throw new Failure(`${machine} did not come back in ${RETRY_LIMIT_MS / 60_000} minutes: ${explain(cause).line}`, EXIT.remoteLost, {
          cause,
        });
    }
  }
}

async function leave(session: WebtermSession): Promise<void> {
  // The connection may be gone just now; closing it is the same to the machine.
  await Promise.race([Promise.resolve(session.close()).catch(() => {}), delay(1000)]);
}
