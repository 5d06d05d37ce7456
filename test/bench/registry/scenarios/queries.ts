import type { Bench, Contender, Scenario } from "../bench.ts";
import { outcomeOf } from "../outcome.ts";
import { WHAT } from "../targets.ts";

const IN_FLIGHT = 64;
const KITES = 1_000;
const SESSIONS = 4;

/**
 * Who is there, asked through the wire. kontrol's answer also has a token for each kite; etcd's keys are only read. Whoever asks the
 * same again is told by kontrol that nothing has changed, so there is the question of somebody who has no answer yet beside it.
 */
export const queries: Scenario = {
  name: "queries",
  async open(bench) {
    return [...(await kontrolSides(bench)), ...(bench.options.withEtcd ? await etcdSides(bench) : [])];
  },
};

const SIZES = [10, 1] as const;
const QUESTIONS = [
  { what: WHAT.query, wanted: 10, task: "find" },
  { what: WHAT.full, wanted: 10, task: "findInFull" },
  { what: WHAT.single, wanted: 1, task: "find" },
] as const;

async function kontrolSides(bench: Bench): Promise<Contender[]> {
  const { kiteKey, pids } = await bench.kontrol("queries");
  const kites = bench.worker("queries-kites");
  const asking = bench.worker("queries-asking");
  await asking.ask("ask", { kiteKey, sessions: SESSIONS });
  for (const wanted of SIZES) await kites.ask("enter", { kiteKey, names: namesOf(wanted), count: KITES });
  return QUESTIONS.map(({ what, wanted, task }) => ({
    what,
    side: "kontrol",
    pids: { server: pids.server, clients: [asking.pid] },
    measure: async () =>
      outcomeOf(await asking.ask(task, { names: namesOf(wanted), wanted, inFlight: IN_FLIGHT, forMs: bench.options.forMs })),
  }));
}

async function etcdSides(bench: Bench): Promise<Contender[]> {
  const sides = await Promise.all(
    SIZES.map(async (wanted) => {
      const server = await bench.etcd();
      const client = bench.worker(`queries-etcd-${wanted}`);
      await client.ask("etcdConnect", { hosts: server.address });
      const names = KITES / wanted;
      await client.ask("etcdFill", { names, count: KITES });
      return QUESTIONS.filter((question) => question.wanted === wanted).map(({ what }) => ({
        what,
        side: "etcd",
        pids: { server: [server.pid], clients: [client.pid] },
        measure: async () => outcomeOf(await client.ask("etcdRange", { names, wanted, inFlight: IN_FLIGHT, forMs: bench.options.forMs })),
      }));
    }),
  );
  return sides.flat();
}

function namesOf(wanted: number): string[] {
  return Array.from({ length: KITES / wanted }, (_, index) => `bench-${wanted}-${String(index).padStart(4, "0")}`);
}
