import { percentile } from "../../in-flight.ts";
import type { Bench, Contender, Scenario } from "../bench.ts";
import type { Outcome } from "../outcome.ts";
import { WHAT } from "../targets.ts";
import type { Worker } from "../worker.ts";

const DEPARTURES = 5;

/** How long somebody who watches believes in a kite that is gone. At etcd a lease of two seconds, the shortest it gives. */
export const departures: Scenario = {
  name: "departures",
  async open(bench) {
    return [...(await kontrolSides(bench)), ...(bench.options.withEtcd ? await etcdSides(bench) : [])];
  },
};

async function kontrolSides(bench: Bench): Promise<Contender[]> {
  const { kiteKey, pids } = await bench.kontrol("departures");
  const watching = bench.worker("departures-watching");
  await watching.ask("watch", { kiteKey, name: "watched", watches: 1, sessions: 1 });
  const all = { ...pids, clients: [watching.pid] };
  const open = async (leaving: Worker) => {
    await watching.ask("expectEvents", { events: 1 });
    await leaving.ask("enterWatched", { kiteKey });
    await watching.ask("heardEvents");
  };
  const closed = (leaving: Worker) => leaving.ask("leaveWatched");
  return [
    { what: WHAT.closed, side: "kontrol", pids: all, measure: () => departuresFrom(bench, watching, open, closed) },
    { what: WHAT.killed, side: "kontrol", pids: all, measure: () => departuresFrom(bench, watching, open, killed) },
  ];
}

async function etcdSides(bench: Bench): Promise<Contender[]> {
  const server = await bench.etcd();
  const watching = bench.worker("departures-etcd-watching");
  await watching.ask("etcdConnect", { hosts: server.address });
  await watching.ask("etcdWatch", { watches: 1, connections: 1 });
  const pids = { server: [server.pid], clients: [watching.pid] };
  const open = async (leaving: Worker) => {
    await watching.ask("expectEvents", { events: 1 });
    await leaving.ask("etcdConnect", { hosts: server.address });
    await leaving.ask("etcdHold");
    await watching.ask("heardEvents");
  };
  const closed = (leaving: Worker) => leaving.ask("etcdRelease");
  return [
    { what: WHAT.closed, side: "etcd", pids, measure: () => departuresFrom(bench, watching, open, closed) },
    { what: WHAT.killed, side: "etcd", pids, measure: () => departuresFrom(bench, watching, open, killed) },
  ];
}

async function departuresFrom(
  bench: Bench,
  watching: Worker,
  open: (leaving: Worker) => Promise<void>,
  leave: (leaving: Worker, watching: Worker) => Promise<number>,
): Promise<Outcome> {
  const took: number[] = [];
  for (let left = 0; left < DEPARTURES; left++) {
    const leaving = bench.worker("departures-leaving");
    await open(leaving);
    await watching.ask("expectEvents", { events: 1 });
    const leftAt = await leave(leaving, watching);
    const [goneAt = Number.NaN] = await watching.ask("heardEvents");
    took.push(goneAt - leftAt);
    await leaving.close();
  }
  took.sort((a, b) => a - b);
  return { calls: DEPARTURES, p50Ms: percentile(took, 0.5), p99Ms: percentile(took, 0.99) };
}

/** Of two processes' clocks only the watcher's is at hand when the other is gone; it is the same one. */
async function killed(leaving: Worker, watching: Worker): Promise<number> {
  const at = await watching.ask("now");
  await leaving.kill();
  return at;
}
