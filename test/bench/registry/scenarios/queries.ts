import type { Bench, Contender, Scenario } from "../bench.ts";
import { outcomeOf } from "../outcome.ts";
import { WHAT } from "../targets.ts";

const IN_FLIGHT = 64;
const KITES = 1_000;
const SESSIONS = 4;

/** Who is there, asked through the wire. kontrol's answer also has a token for each kite; etcd's keys are only read. */
export const queries: Scenario = {
  name: "queries",
  async open(bench) {
    return [...(await kontrolSides(bench)), ...(bench.options.withEtcd ? await etcdSides(bench) : [])];
  },
};

const SIZES = [
  { what: WHAT.query, wanted: 10 },
  { what: WHAT.single, wanted: 1 },
] as const;

async function kontrolSides(bench: Bench): Promise<Contender[]> {
  const { kiteKey, pids } = await bench.kontrol("queries");
  const kites = bench.worker("queries-kites");
  const asking = bench.worker("queries-asking");
  await asking.ask("ask", { kiteKey, sessions: SESSIONS });
  for (const { wanted } of SIZES) await kites.ask("enter", { kiteKey, names: namesOf(wanted), count: KITES });
  return SIZES.map(({ what, wanted }) => ({
    what,
    side: "kontrol",
    pids: { server: pids.server, clients: [asking.pid] },
    measure: async () =>
      outcomeOf(await asking.ask("find", { names: namesOf(wanted), wanted, inFlight: IN_FLIGHT, forMs: bench.options.forMs })),
  }));
}

async function etcdSides(bench: Bench): Promise<Contender[]> {
  return Promise.all(
    SIZES.map(async ({ what, wanted }) => {
      const server = await bench.etcd();
      const client = bench.worker(`queries-etcd-${wanted}`);
      await client.ask("etcdConnect", { hosts: server.address });
      const names = KITES / wanted;
      await client.ask("etcdFill", { names, count: KITES });
      return {
        what,
        side: "etcd",
        pids: { server: [server.pid], clients: [client.pid] },
        measure: async () => outcomeOf(await client.ask("etcdRange", { names, wanted, inFlight: IN_FLIGHT, forMs: bench.options.forMs })),
      };
    }),
  );
}

function namesOf(wanted: number): string[] {
  return Array.from({ length: KITES / wanted }, (_, index) => `bench-${wanted}-${String(index).padStart(4, "0")}`);
}
