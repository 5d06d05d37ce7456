import type { Role } from "@kite-mesh/kite";
import {
  callWith,
  type DirectoryKite,
  type FoundKite,
  Kite,
  KiteError,
  peerOf,
  type Query,
  type Remote,
  type WatchEvent,
} from "@kite-mesh/kite/browser/registry";
import type { KlientContract, WebtermSession } from "@kite-mesh/klient/contract";
import type { KloudContract } from "@kite-mesh/kloud/contract";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";
import { type KiteLink, KiteLinks } from "./kite-links.ts";
import {
  type AttachedTerminal,
  type KlientAddress,
  klientQueries,
  type Mesh,
  type TerminalRequest,
  type TerminalViewer,
  type Watcher,
} from "./mesh.ts";
import type { BrowserSession, Sessions } from "./session.ts";

export interface ConnectMeshOptions {
  session: BrowserSession;
  sessions: Sessions;
  onSignedOut: () => void;
}

/**
 * The real mesh: a kite in this page, which reaches kontrol and every other kite through the gateway that the page came
 * from, with the person's own tokens.
 */
export function connectMesh({ session, sessions, onSignedOut }: ConnectMeshOptions): Mesh {
  const kite = new Kite({
    name: "dashboard",
    version: "1.0.0",
    username: session.username,
    hostname: location.hostname,
    kontrolUrl: gatewayUrl("kontrol"),
    route: (found) => gatewayUrl(found.kite.id),
    auth: kontrolAuth({ session, sessions, onSignedOut }),
  });
  const links = new KiteLinks((id) => kite.connect({ id }));
  const withKloud = async <Result>(use: (kloud: Remote<KloudContract>) => Promise<Result>) => {
    const link = await links.open<KloudContract>(await findKloud(kite));
    return await use(link.remote).finally(() => link.close());
  };

  return {
    async watchKites(watcher) {
      const event = (next: WatchEvent) => {
        for (const entry of entriesOf(next)) links.noticed(entry);
        watcher.event(next);
      };
      await follow(kite.kontrol<KontrolContract>(), { ...watcher, event }, (kontrol) => kontrol.watch({ query: {} }));
    },
    watchStacks: (watcher) => withKloud((kloud) => follow(kloud, watcher, (called) => called.watch())),
    operation: (operationId) => withKloud((kloud) => kloud.operation.get({ operationId })),
    startMachine: (machineId) => withKloud((kloud) => kloud.machine.start({ machineId })),
    stopMachine: (machineId) => withKloud((kloud) => kloud.machine.stop({ machineId })),
    async terminalSessions(address) {
      const link = await links.open<KlientContract>(await findKlient(kite, address));
      return await callWith(link.remote, { timeoutMs: ASK_TIMEOUT_MS })
        .webterm.getSessions()
        .finally(() => link.close());
    },
    async attachTerminal(request, viewer) {
      const found = await findKlient(kite, request.klient);
      const link = await links.open<KlientContract>(found);
      try {
        return await attach(link, found.role, request, viewer);
      } catch (error) {
        link.close();
        throw error;
      }
    },
    close: () => kite.close(),
  };
}

// A person's own kite may be called kloud, too; this one is the mesh's.
const KLOUD: Query = { name: "kloud", username: "kloud" };
// Somebody waits before the button: rather go on without the answer.
const ASK_TIMEOUT_MS = 5_000;

function gatewayUrl(kite: string): string {
  return `${location.origin}/-/kites/${kite}`;
}

/**
 * Asks the gateway for a token before every dial but the first: that is also how the page learns that the cookie has
 * ended, since browsers do not tell why a WebSocket was refused.
 */
function kontrolAuth({ session, sessions, onSignedOut }: ConnectMeshOptions) {
  let first: BrowserSession | null = session;
  return async () => {
    const current = first ?? (await sessions.load());
    first = null;
    if (current === null) {
      onSignedOut();
      throw new KiteError("unauthenticated", "you were signed out");
    }
    return { type: "token", key: current.kontrol.token, expiresAt: current.kontrol.expiresAt };
  };
}

/** Reads a watch to its end, and tells meanwhile whether its connection stands. */
async function follow<Contract, Event>(
  remote: Remote<Contract>,
  { signal, event, connected }: Watcher<Event>,
  open: (remote: Remote<Contract>) => Promise<AsyncIterable<Event>>,
): Promise<void> {
  const forget = peerOf(remote).onState((state) => connected(state === "open"));
  try {
    for await (const next of await open(callWith(remote, { signal, timeoutMs: ASK_TIMEOUT_MS }))) {
      if (signal.aborted) return;
      event(next);
    }
  } finally {
    forget();
  }
}

/** The kites that an event tells of as being there. */
function entriesOf(event: WatchEvent): readonly DirectoryKite[] {
  if (event.type === "snapshot") return event.kites;
  return event.type === "registered" ? [event.kite] : [];
}

/** After a crash the directory may still list the one before: the newest is the one that runs. */
async function findKloud(kite: Kite): Promise<FoundKite> {
  const [newest] = (await kite.find(KLOUD)).sort((a, b) => b.registeredAt - a.registeredAt);
  if (newest === undefined) throw new KiteError("unavailable", "kloud is not in the directory; it will be once it runs");
  return newest;
}

/** Where a machine's klient is now; a machine that is being restarted has none for a moment. */
async function findKlient(kite: Kite, address: KlientAddress): Promise<FoundKite> {
  for (const query of klientQueries(address)) {
    const [newest] = (await kite.find(query)).sort((a, b) => b.registeredAt - a.registeredAt);
    if (newest !== undefined) return newest;
  }
  throw new KiteError("unavailable", `no klient of ${address.hostname} is in the directory; it will be once the machine runs`);
}

async function attach(
  link: KiteLink<KlientContract>,
  role: Role,
  request: TerminalRequest,
  viewer: TerminalViewer,
): Promise<AttachedTerminal> {
  const { session, columns, rows } = request;
  const remote = { output: (data: Uint8Array | string) => viewer.output(data), sessionEnded: () => viewer.ended() };
  const terminal = await link.remote.webterm.connect({
    // A session that is asked for by name must be there: making it anew would hide that its programs are gone.
    ...(session === undefined ? { mode: "create" as const } : { session, mode: "shared" as const }),
    sizeX: columns,
    sizeY: rows,
    remote,
  });
  return attached(terminal, role, watchLink(link, viewer));
}

/** Tells the viewer how the connection stands, until the returned function is called or the session is lost; then closes the link. */
function watchLink(link: KiteLink<KlientContract>, viewer: TerminalViewer): () => void {
  const peer = peerOf(link.remote);
  const { closed } = peer.session;
  const forget = peer.onState((state) => !closed.aborted && viewer.connected(state === "open"));
  const leave = () => {
    forget();
    closed.removeEventListener("abort", lose);
    link.close();
  };
  const lose = () => {
    leave();
    viewer.lost(closed.reason);
  };
  closed.addEventListener("abort", lose, { once: true });
  return leave;
}

function attached(terminal: WebtermSession, role: Role, onLeave: () => void): AttachedTerminal {
  return {
    session: terminal.session,
    role,
    input: async (data) => void (await terminal.input(data)),
    binary: async (data) => void (await terminal.controlSequence(data)),
    resize: async (columns, rows) => void (await terminal.setSize(columns, rows)),
    terminate: async () => void (await terminal.terminate()),
    async leave() {
      try {
        await terminal.close();
      } finally {
        onLeave();
      }
    },
  };
}
