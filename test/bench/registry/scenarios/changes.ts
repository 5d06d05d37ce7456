import { percentile } from "../../in-flight.ts";
import type { Bench, Contender, Scenario } from "../bench.ts";
import type { Outcome } from "../outcome.ts";
import { WHAT } from "../targets.ts";
import type { Worker } from "../worker.ts";

// One is what a mesh sees; some, because a p99 of one change says little about the next.
const CHANGES = 5;

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
  const [watching, changing] = [bench.worker(`changes-${sessions}-watching`), bench.worker(`changes-${sessions}-changing`)];
  await changing.ask("enterWatched", { kiteKey });
  await watching.ask("watch", { kiteKey, name: "watched", watches, sessions });
  const all = { ...pids, clients: [watching.pid, changing.pid] };
  return { what, side: "kontrol", pids: all, measure: () => changesTo(watching, watches, () => changing.ask("changeWatched")) };
}

async function etcdSide(bench: Bench, { what, sessions }: Spread): Promise<Contender> {
  const watches = bench.options.watchers;
  const server = await bench.etcd();
  const [watching, changing] = [bench.worker(`changes-${sessions}-etcd-watching`), bench.worker(`changes-${sessions}-etcd-changing`)];
  for (const worker of [watching, changing]) await worker.ask("etcdConnect", { hosts: server.address });
  await watching.ask("etcdWatch", { watches, connections: sessions });
  const pids = { server: [server.pid], clients: [watching.pid, changing.pid] };
  return { what, side: "etcd", pids, measure: () => changesTo(watching, watches, () => changing.ask("etcdChange")) };
}

async function changesTo(watching: Worker, watches: number, change: () => Promise<number>): Promise<Outcome> {
  const took: number[] = [];
  const last: number[] = [];
  for (let made = 0; made < CHANGES; made++) {
    await watching.ask("expectEvents", { events: watches });
    const changedAt = await change();
    const times = (await watching.ask("heardEvents")).map((at) => at - changedAt).sort((a, b) => a - b);
    took.push(...times);
    last.push(times.at(-1) ?? Number.NaN);
  }
  took.sort((a, b) => a - b);
  const slowest = Math.max(...last);
  return { calls: CHANGES * watches, p50Ms: percentile(took, 0.5), p99Ms: percentile(took, 0.99), more: { "last ms": slowest } };
}
