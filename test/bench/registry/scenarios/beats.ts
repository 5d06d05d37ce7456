import type { Scenario } from "../bench.ts";
import { outcomeOf } from "../outcome.ts";
import { WHAT } from "../targets.ts";

const IN_FLIGHT = 64;
// As many connections as a process of clients keeps busy; in a mesh each kite has its own, and says something every ten seconds.
const SESSIONS = 16;

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
    if (!bench.options.withEtcd) return [kontrol];

    const server = await bench.etcd();
    const client = bench.worker("beats-etcd");
    await client.ask("etcdConnect", { hosts: server.address });
    const etcd = {
      what: WHAT.beat,
      side: "etcd",
      pids: { server: [server.pid], clients: [client.pid] },
      measure: async () => outcomeOf(await client.ask("etcdBeat", { leases: SESSIONS, ...load })),
    };
    return [kontrol, etcd];
  },
};
