import type { Row } from "./outcome.ts";

/** What kontrol promises. Undefined when it was not measured. */
export interface Target {
  readonly what: string;
  readonly wanted: string;
  find(rows: readonly Row[]): number | undefined;
  show(found: number): string;
  isMet(found: number): boolean;
}

/** What rows are called, in the one place where scenarios and targets meet. */
export const WHAT = {
  registration: "registration in an open session, 64 in flight",
  newcomer: "registration with a session of its own, 64 in flight",
  beat: "beat over sessions, 64 in flight",
  ownBeat: "beats over sockets of their own, as many as come",
  query: "query for 10 of 1,000 kites, 64 in flight",
  full: "query for 10 of 1,000 kites, each answer in full, 64 in flight",
  single: "query for 1 of 1,000 kites, 64 in flight",
  change: (watchers: number) => `change to ${watchers} watchers in 10 sessions`,
  changeApart: (watchers: number) => `change to ${watchers} watchers in 1,000 sessions`,
  many: (kites: number) => `${kites} registered kites, query for 10 of them, 1 in flight`,
  cached: (alg: string) => `${alg} tokens given out again, 64 in flight`,
  fresh: (alg: string) => `${alg} tokens signed, 64 in flight`,
  verified: (alg: string) => `${alg} tokens verified by a kite`,
  echo: "a few bytes there and back, one after the other",
  stream: "stream of 32 MiB",
  closed: "a kite that closes is gone from a watcher",
  killed: "a kite that is killed is gone from a watcher",
  revoked: "a revoked credential's sessions are closed",
} as const;

export const TARGETS: readonly Target[] = [
  atLeast("registrations per second", 3_000, rate(WHAT.registration)),
  atLeast("heartbeats per second", 50_000, rate(WHAT.beat)),
  atLeast("queries per second", 20_000, rate(WHAT.query)),
  {
    what: "queries against etcd's range",
    wanted: "> 1 ×",
    find: (rows) => find(rows, WHAT.full)?.rateRatio["etcd"],
    show: (found) => `${found.toFixed(2)} ×`,
    isMet: (found) => found > 1,
  },
  below("change to all watchers in 10 sessions, p99", 250, p99("watchers in 10 sessions")),
  below("change to all watchers in 1,000 sessions, p99", 250, p99("watchers in 1,000 sessions")),
  below("a dead kite leaves discovery after its socket closed, p99", 1_000, p99(WHAT.killed)),
  below("revocation closes sessions, p99", 1_000, p99(WHAT.revoked)),
  below("a keystroke's way through the relay and back, added p50", 1, (rows) => {
    const [relay, direct] = ["relay", "direct"].map((side) => find(rows, WHAT.echo, side)?.p50Ms);
    return relay === undefined || direct === undefined ? undefined : relay - direct;
  }),
];

function atLeast(what: string, limit: number, findIn: Target["find"]): Target {
  const number = (value: number) => Math.round(value).toLocaleString("en");
  return { what, wanted: `≥ ${number(limit)}`, find: findIn, show: number, isMet: (found) => found >= limit };
}

function below(what: string, limitMs: number, findIn: Target["find"]): Target {
  return { what, wanted: `< ${limitMs} ms`, find: findIn, show: (found) => `${found.toFixed(2)} ms`, isMet: (found) => found < limitMs };
}

function rate(what: string): Target["find"] {
  return (rows) => find(rows, what)?.perSecond;
}

function p99(what: string): Target["find"] {
  return (rows) => find(rows, what)?.p99Ms;
}

function find(rows: readonly Row[], what: string, side = "kontrol"): Row | undefined {
  return rows.find((row) => row.what.includes(what) && row.side === side);
}
