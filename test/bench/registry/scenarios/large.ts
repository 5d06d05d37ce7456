import pg from "pg";
import type { Bench, Contender, Scenario } from "../bench.ts";
import { outcomeOf } from "../outcome.ts";
import { WHAT } from "../targets.ts";
import { residentBytes } from "../usage.ts";

const EACH = 10;
const MIB = 1024 * 1024;

/**
 * A large mesh: how long a server needs to start with it, what it takes in memory, and what a query costs. kontrol's kites
 * are held by another replica, so what is measured is the directory; sessions are measured by the other suite.
 */
export const large: Scenario = {
  name: "large",
  async open(bench) {
    return [await kontrolSide(bench), ...(bench.options.withEtcd ? [await etcdSide(bench)] : [])];
  },
};

async function kontrolSide(bench: Bench): Promise<Contender> {
  const { kites, forMs } = bench.options;
  const databaseUrl = await bench.database();
  // The schema is made by a kontrol; it is gone before the kites come.
  const { worker: first } = await bench.kontrol("large-first", { databaseUrl });
  const empty = await first.ask("memory");
  await first.close();
  await fill(databaseUrl, kites);
  const worker = bench.worker("large-kontrol");
  const { kiteKey, startMs } = await worker.ask("startKontrol", { databaseUrl });
  const { heap, rss } = await worker.ask("memory");
  const asking = bench.worker("large-asking");
  await asking.ask("ask", { kiteKey, sessions: 1 });
  const more = { "start ms": startMs, "RSS MiB": rss / MIB, "heap MiB": heap / MIB, "heap bytes/kite": (heap - empty.heap) / kites };
  return {
    what: WHAT.many(kites),
    side: "kontrol",
    pids: { server: [worker.pid], clients: [asking.pid] },
    measure: async () => ({
      ...outcomeOf(await asking.ask("find", { names: namesOf(kites / EACH), wanted: EACH, inFlight: 1, forMs })),
      more,
    }),
  };
}

async function etcdSide(bench: Bench): Promise<Contender> {
  const { kites, forMs } = bench.options;
  const server = await bench.etcd();
  const client = bench.worker("large-etcd");
  await client.ask("etcdConnect", { hosts: server.address });
  const names = kites / EACH;
  await client.ask("etcdFill", { names, count: kites });
  const startMs = await server.restart();
  const more = { "start ms": startMs, "RSS MiB": (await residentBytes(server.pid)) / MIB };
  return {
    what: WHAT.many(kites),
    side: "etcd",
    pids: { server: [server.pid], clients: [client.pid] },
    measure: async () => ({ ...outcomeOf(await client.ask("etcdRange", { names, wanted: EACH, inFlight: 1, forMs })), more }),
  };
}

// As replicas would have written them. The replica that holds them beats as if it were a day ahead, so nobody takes them out.
const FILL = `
  with holder as (
    insert into kontrol.replicas (id, beat_at) values (gen_random_uuid(), now() + interval '1 day') returning id
  )
  insert into kontrol.kites (id, username, environment, name, version, region, hostname, url, visibility, labels, generation, holder)
  select gen_random_uuid()::text, 'bench', 'local', 'bench-' || lpad((number % $2)::text, 5, '0'), '1.0.0', 'local',
         'bench-' || number || '.example.org', 'http://127.0.0.1:3636', 'mesh', '{"zone": "eu-1", "load": "0.2"}', number + 1, holder.id
    from generate_series(0, $1 - 1) as number, holder`;
const HEAD = "update kontrol.head set revision = revision + $1";

async function fill(databaseUrl: string, kites: number): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(FILL, [kites, kites / EACH]);
    await client.query(HEAD, [kites]);
    await client.query("vacuum analyze kontrol.kites");
  } finally {
    await client.end();
  }
}

function namesOf(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `bench-${String(index).padStart(5, "0")}`);
}
