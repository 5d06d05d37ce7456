import type { Large } from "./process.ts";
import type { SidePair } from "./side-pair.ts";
import type { SideName } from "./sides.ts";

// Enough that what is made once does not show, and below the usual limit of open files.
const SESSIONS = 400;
const CALLBACKS = 1_000_000;
const LARGE_BYTES = 100_000_000;
const KIB = 1024;
// What is told as reached: a session with its state for resuming, and a heap that a million functions have not left their mark on.
const MOST_KIB = 12;
const FLAT_KIB = 4096;
const MOST_P99_MS = 20;

/** What idle connections cost a server, and whether callbacks leave anything behind. */
export interface MemoryFigures {
  /** Bytes per idle connection at the server: of its heap and buffers, and as the system sees it. */
  sessions: { side: SideName; heap: number; rss: number }[];
  /** Bytes that both processes have grown by after a million functions were sent, called and released. */
  churned: { side: SideName; functions: number; grownBytes: number }[];
  /** Small calls beside a value of 100 MB. */
  large: ({ side: SideName } & Large)[];
}

/** Measures the pairs one after the other. */
export async function measureMemory(pairs: readonly SidePair[]): Promise<MemoryFigures> {
  const figures: MemoryFigures = { sessions: [], churned: [], large: [] };
  for (const pair of pairs) {
    if (!SESSION_SIDES.has(pair.side)) continue;
    figures.sessions.push({ side: pair.side, ...(await pair.idleSession(SESSIONS)) });
    if (pair.side !== "kite") continue;
    figures.large.push({ side: pair.side, ...(await pair.large(LARGE_BYTES)) });
    figures.churned.push({ side: pair.side, functions: CALLBACKS, grownBytes: await pair.churn(CALLBACKS) });
  }
  return figures;
}

// Those whose connections are WebSockets; the others share one for all callers.
const SESSION_SIDES: ReadonlySet<SideName> = new Set<SideName>(["ws", "capnweb", "socket.io", "kite"]);

export function printMemory({ sessions, churned, large }: MemoryFigures): void {
  console.log(`\nidle connection, memory at the server (of ${SESSIONS})`);
  console.table(
    Object.fromEntries(
      sessions.map(({ side, heap, rss }) => [side, { "heap KiB": (heap / KIB).toFixed(1), "RSS KiB": (rss / KIB).toFixed(1) }]),
    ),
  );
  for (const { side, heap } of sessions.filter((each) => each.side === "kite"))
    console.log(
      `${said(heap <= MOST_KIB * KIB)} ${side}: an idle session keeps ${(heap / KIB).toFixed(1)} KiB, to reach ≤ ${MOST_KIB} KiB`,
    );
  for (const { side, transferMs, besideP99Ms, idleP99Ms } of large) {
    console.log(
      `${said(besideP99Ms <= MOST_P99_MS)} ${side}: 100 MB in one value took ${Math.round(transferMs)} ms; a small call's p99 was ${besideP99Ms.toFixed(1)} ms beside it, ${idleP99Ms.toFixed(1)} ms before, to reach ≤ ${MOST_P99_MS} ms`,
    );
  }
  for (const { side, functions, grownBytes } of churned) {
    const grown = Math.round(grownBytes / KIB);
    console.log(
      `${said(grown <= FLAT_KIB)} ${side}: ${functions} functions sent, called and released; both processes grew by ${grown} KiB, to reach ≤ ${FLAT_KIB} KiB`,
    );
  }
}

/** As the targets above them. */
function said(met: boolean): string {
  return met ? "met   " : "MISSED";
}
