import type { Bench, Contender, Scenario } from "../bench.ts";
import { outcomeOf } from "../outcome.ts";
import { WHAT } from "../targets.ts";

const IN_FLIGHT = 64;

/** How fast kites get into the directory; at etcd a lease and a key under it. Both write to a disk. */
export const registrations: Scenario = {
  name: "registrations",
  async open(bench) {
    return [...(await kontrolSides(bench)), ...(bench.options.withEtcd ? await etcdSides(bench) : [])];
  },
};

async function kontrolSides(bench: Bench): Promise<Contender[]> {
  const load = { inFlight: IN_FLIGHT, forMs: bench.options.forMs };
  const { kiteKey, pids } = await bench.kontrol("registrations");
  const kites = bench.worker("registrations-kites");
  await kites.ask("enter", { kiteKey, names: ["bench"], count: IN_FLIGHT });
  const all = { ...pids, clients: [kites.pid] };
  return [
    { what: WHAT.registration, side: "kontrol", pids: all, measure: async () => outcomeOf(await kites.ask("registerAgain", load)) },
    {
      what: WHAT.newcomer,
      side: "kontrol",
      pids: all,
      measure: async () => outcomeOf(await kites.ask("registerAnew", { kiteKey, ...load })),
      tidy: () => kites.ask("leaveAll"),
    },
  ];
}

async function etcdSides(bench: Bench): Promise<Contender[]> {
  const load = { inFlight: IN_FLIGHT, forMs: bench.options.forMs };
  const server = await bench.etcd();
  const client = bench.worker("registrations-etcd");
  await client.ask("etcdConnect", { hosts: server.address });
  const pids = { server: [server.pid], clients: [client.pid] };
  return [
    { what: WHAT.registration, side: "etcd", pids, measure: async () => outcomeOf(await client.ask("etcdRegister", load)) },
    {
      what: WHAT.newcomer,
      side: "etcd",
      pids,
      measure: async () => outcomeOf(await client.ask("etcdRegisterAnew", load)),
      tidy: () => client.ask("etcdLeaveAll"),
    },
  ];
}
