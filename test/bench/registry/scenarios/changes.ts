import { percentile } from "../../in-flight.ts";
import type { Bench, Contender, Scenario } from "../bench.ts";
import type { Outcome } from "../outcome.ts";
import { WHAT } from "../targets.ts";
import type { Worker } from "../worker.ts";

// One is what a mesh sees; some, because a p99 of one change says little about the next.
const CHANGES = 5;
// Reading ten thousand events is more work than sending them; nobody has all his watchers in one process.
const PROCESSES = 2;

/** How long it takes until everybody who watches has heard of a change. */
export const changes: Scenario = {
  name: "changes",
  async open(bench) {
    const { watchers, withEtcd } = bench.options;
    const few = { what: WHAT.change(watchers), sessions: 10 };
    const many = { what: WHAT.changeApart(watchers), sessions: 1_000 };
    const sides: Contender[] = [await kontrolSide(bench, few)];
    if (withEtcd) sides.push(await etcdSide(bench, few));
    sides.push(await kontrolSide(bench, many));
    if (withEtcd) sides.push(await etcdSide(bench, many));
    return sides;
  },
};

interface Spread {
  readonly what: string;
  readonly sessions: number;
}

async function kontrolSide(bench: Bench, { what, sessions }: Spread): Promise<Contender> {
  const watches = bench.options.watchers;
  const { kiteKey, pids } = await bench.kontrol(`changes-${sessions}`);
  const changing = bench.worker(`changes-${sessions}-changing`);
  const watching = workersOf(bench, `changes-${sessions}-watching`);
  await changing.ask("enterWatched", { kiteKey });
  for (const worker of watching)
    await worker.ask("watch", { kiteKey, name: "watched", watches: watches / PROCESSES, sessions: sessions / PROCESSES });
  const all = { ...pids, clients: [changing.pid, ...watching.map(({ pid }) => pid)] };
  return { what, side: "kontrol", pids: all, measure: () => changesTo(watching, watches, () => changing.ask("changeWatched")) };
}

async function etcdSide(bench: Bench, { what, sessions }: Spread): Promise<Contender> {
  const watches = bench.options.watchers;
  const server = await bench.etcd();
  const changing = bench.worker(`changes-${sessions}-etcd-changing`);
  const watching = workersOf(bench, `changes-${sessions}-etcd-watching`);
  for (const worker of [...watching, changing]) await worker.ask("etcdConnect", { hosts: server.address });
  for (const worker of watching) await worker.ask("etcdWatch", { watches: watches / PROCESSES, connections: sessions / PROCESSES });
  const pids = { server: [server.pid], clients: [changing.pid, ...watching.map(({ pid }) => pid)] };
  return { what, side: "etcd", pids, measure: () => changesTo(watching, watches, () => changing.ask("etcdChange")) };
}

function workersOf(bench: Bench, name: string): Worker[] {
  return Array.from({ length: PROCESSES }, (_, index) => bench.worker(`${name}-${index}`));
}

async function changesTo(watching: readonly Worker[], watches: number, change: () => Promise<number>): Promise<Outcome> {
  const took: number[] = [];
  const last: number[] = [];
  for (let made = 0; made < CHANGES; made++) {
    await Promise.all(watching.map((worker) => worker.ask("expectEvents", { events: watches / PROCESSES })));
    const changedAt = await change();
    const heard = await Promise.all(watching.map((worker) => worker.ask("heardEvents")));
    const times = heard
      .flat()
      .map((at) => at - changedAt)
      .sort((a, b) => a - b);
    took.push(...times);
    last.push(times.at(-1) ?? Number.NaN);
  }
  took.sort((a, b) => a - b);
  const slowest = Math.max(...last);
  return { calls: CHANGES * watches, p50Ms: percentile(took, 0.5), p99Ms: percentile(took, 0.99), more: { "last ms": slowest } };
}
