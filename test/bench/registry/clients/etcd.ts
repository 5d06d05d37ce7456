import { Etcd3, type Lease } from "etcd3";
import { type Measured, measure } from "../../in-flight.ts";
import { nowMs, untilTrue } from "../clock.ts";
import type { Load } from "../outcome.ts";
import { tell } from "./watchers.ts";

let address = "";
let etcd: Etcd3 | undefined;
/** What a directory keeps of a kite. */
const RECORD = JSON.stringify({
  kite: {
    username: "bench",
    environment: "local",
    name: "bench-017",
    version: "1.0.0",
    region: "local",
    hostname: "bench-17.example.org",
    id: "0b54f6e0-2f6c-4b0e-9f39-0f4c42a27a3c",
  },
  url: "http://127.0.0.1:3636",
  visibility: "mesh",
  labels: { zone: "eu-1", load: "0.2" },
  role: "owner",
  registeredAt: 1_700_000_000_000,
});
// Longer than any run: that a lease ends is measured elsewhere.
const TTL_SECONDS = 3600;

export async function etcdConnect({ hosts }: { hosts: string }): Promise<void> {
  address = hosts;
  etcd = new Etcd3({ hosts });
  await etcd.get("nothing").exec();
}

/** A lease and a key under it, through the client of this process. */
export function etcdRegister({ inFlight, forMs }: Load): Promise<Measured> {
  return measure(() => enter(client(), `registered/${Math.random()}`), inFlight, forMs);
}

const clients: Etcd3[] = [];

/** The same, each from a client of its own with a connection of its own. */
export function etcdRegisterAnew({ inFlight, forMs }: Load): Promise<Measured> {
  return measure(
    () => {
      const own = new Etcd3({ hosts: address });
      clients.push(own);
      return enter(own, `anew/${Math.random()}`);
    },
    inFlight,
    forMs,
  );
}

export async function etcdLeaveAll(): Promise<void> {
  for (const own of clients.splice(0)) own.close();
}

async function enter(from: Etcd3, key: string): Promise<Lease> {
  const lease = from.lease(TTL_SECONDS, { autoKeepAlive: false });
  await lease.put(key).value(RECORD).exec();
  return lease;
}

/** Beats of so many leases on one keep-alive stream, which is how etcd's own clients do it; the library would open a stream for each. */
export async function etcdBeat({ leases, inFlight, forMs }: Load & { leases: number }): Promise<Measured> {
  const ids: string[] = [];
  for (let index = 0; index < leases; index++) ids.push(await client().lease(TTL_SECONDS, { autoKeepAlive: false }).grant());
  const stream = await client().leaseClient.leaseKeepAlive();
  const waiting: (() => void)[] = [];
  stream.on("data", () => waiting.shift()?.());
  let turn = 0;
  const measured = await measure(
    () =>
      new Promise<void>((resolve) => {
        waiting.push(resolve);
        stream.write({ ID: ids[turn++ % ids.length] as string });
      }),
    inFlight,
    forMs,
  );
  stream.cancel();
  return measured;
}

/** Puts `count` records, evenly under the names. */
export async function etcdFill({ names, count }: { names: number; count: number }): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const operations = [];
      // As many as etcd takes in one transaction.
      for (; next < count && operations.length < 128; next++)
        operations.push(
          client()
            .put(`kites/${next % names}/${next}`)
            .value(RECORD),
        );
      await client()
        .if("nothing", "Create", "==", 0)
        .then(...operations)
        .commit();
    }
  };
  await Promise.all(Array.from({ length: 8 }, lane));
}

/** All records of one name, each as what it is. */
export function etcdRange({ names, wanted, inFlight, forMs }: Load & { names: number; wanted: number }): Promise<Measured> {
  let turn = 0;
  const call = async () => {
    const { kvs } = await client()
      .getAll()
      .prefix(`kites/${turn++ % names}/`)
      .exec();
    if (kvs.length !== wanted) throw new Error(`expected ${wanted} keys, found ${kvs.length}`);
    for (const { value } of kvs) JSON.parse(value.toString());
  };
  return measure(call, inFlight, forMs);
}

/** Watches of one key over so many connections. */
export async function etcdWatch({ watches, connections }: { watches: number; connections: number }): Promise<void> {
  let opened = 0;
  for (let connection = 0; connection < connections; connection++) {
    const own = new Etcd3({ hosts: address });
    for (let index = 0; index < watches / connections; index++) {
      void own
        .watch()
        .key("watched")
        .create()
        .then((watcher) => {
          watcher.on("put", tell);
          watcher.on("delete", tell);
          opened++;
        });
    }
  }
  await untilTrue(() => opened >= watches);
}

/** Puts the watched key; answers with when it was asked for. */
export async function etcdChange(): Promise<number> {
  const at = nowMs();
  await client().put("watched").value(RECORD).exec();
  return at;
}

let held: Lease | undefined;

/** Holds the watched key with the shortest lease that etcd gives, kept alive by the library, until this process ends. */
export async function etcdHold(): Promise<void> {
  held = client().lease(2);
  await held.put("watched").value(RECORD).exec();
}

/** Gives the watched key back; answers with when that was asked for. */
export async function etcdRelease(): Promise<number> {
  const at = nowMs();
  await held?.revoke();
  return at;
}

function client(): Etcd3 {
  if (etcd === undefined) throw new Error("etcdConnect comes first");
  return etcd;
}
