import type { Bench, Contender, Scenario } from "../bench.ts";
import { outcomeOf } from "../outcome.ts";
import { WHAT } from "../targets.ts";

const IN_FLIGHT = 64;
// As many connections as a process of clients keeps busy; in a mesh each kite has its own, and says something every ten seconds.
const SESSIONS = 16;
// Each beats three times in a heartbeat: enough for what one beat costs to be seen.
const OWN_SOCKETS = 2_000;
const OWN_HEARTBEAT_MS = 5_000;

/** How many kites can say that they live; at etcd leases that are kept alive. */
export const beats: Scenario = {
  name: "beats",
  async open(bench) {
    const load = { inFlight: IN_FLIGHT, forMs: bench.options.forMs };
    const { kiteKey, pids } = await bench.kontrol("beats");
    const kites = bench.worker("beats-kites");
    await kites.ask("enter", { kiteKey, names: ["bench"], count: SESSIONS });
    const kontrol = {
      what: WHAT.beat,
      side: "kontrol",
      pids: { server: pids.server, clients: [kites.pid] },
      measure: async () => outcomeOf(await kites.ask("beat", load)),
    };
    const own = await ownSockets(bench);
    if (!bench.options.withEtcd) return [kontrol, own];

    const server = await bench.etcd();
    const client = bench.worker("beats-etcd");
    await client.ask("etcdConnect", { hosts: server.address });
    const etcd = {
      what: WHAT.beat,
      side: "etcd",
      pids: { server: [server.pid], clients: [client.pid] },
      measure: async () => outcomeOf(await client.ask("etcdBeat", { leases: SESSIONS, ...load })),
    };
    return [kontrol, etcd, own];
  },
};

/** How often a kite beats is kontrol's word, so here the figure is what one beat costs, and not how many there are. */
async function ownSockets(bench: Bench): Promise<Contender> {
  const { kiteKey, url, pids } = await bench.kontrol("own-beats", { heartbeatMs: OWN_HEARTBEAT_MS });
  const kites = bench.worker("own-beats-kites");
  await kites.ask("openBeatSockets", { kiteKey, url, count: OWN_SOCKETS });
  return {
    what: WHAT.ownBeat,
    side: "kontrol",
    pids: { server: pids.server, clients: [kites.pid] },
    measure: async () => outcomeOf(await kites.ask("countBeats", { forMs: bench.options.forMs })),
  };
}
