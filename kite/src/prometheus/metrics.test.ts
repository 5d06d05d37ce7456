import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { z } from "zod";
import { callerOf } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import { Kite } from "../kite.ts";
import { type ContractOf, method } from "../method.ts";
import { testCaller, testIdentity, until } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import { metrics } from "./metrics.ts";

const methods = {
  square: method({ role: "viewer", input: z.number() }, (n) => n * n),
  waits: method({ role: "viewer" }, (call) => new Promise((resolve) => call.signal.addEventListener("abort", resolve))),
  keep: method({ role: "viewer", input: z.unknown() }, (fn) => void kept.push(fn)),
  count: method({ role: "viewer" }, async function* (call) {
    yield 1;
    await new Promise((resolve) => call.signal.addEventListener("abort", resolve));
  }),
  asks: method({ role: "viewer", input: z.string() }, async (name, call) => {
    await callerOf<Record<string, () => Promise<void>>>(call)
      [name]?.()
      .catch(() => {});
  }),
};
type Contract = ContractOf<typeof methods>;
const kept: unknown[] = [];

/** A kite that is measured, called by one that is measured elsewhere. */
async function pair() {
  const [ofServer, ofClient] = [new Registry(), new Registry()];
  const server = new Kite({
    name: "math",
    version: "1.0.0",
    methods,
    authenticate: async () => testCaller({ kite: testIdentity({ name: "web" }) }),
    observers: [metrics({ register: ofServer })],
  });
  const client = new Kite({ name: "web", version: "1.0.0", observers: [metrics({ register: ofClient })] });
  const { url } = await server.listen();
  return {
    server,
    client,
    dial: () => client.dial<Contract>({ url }),
    ofServer,
    ofClient,
    [Symbol.asyncDispose]: async () => {
      await client.close();
      await server.close();
    },
  };
}

/** The samples of one metric as Prometheus reads them, without the name. */
async function read(register: Registry, name: string): Promise<string[]> {
  const lines = (await register.metrics()).split("\n");
  return lines.filter((line) => line.startsWith(`${name}{`)).map((line) => line.slice(name.length));
}

test("calls are counted by method and code on the side that serves, and by peer as well on the side that calls", async () => {
  await using kites = await pair();
  const math = kites.dial();

  await Promise.all([math.square(1), math.square(2), math.square("three" as unknown as number).catch(() => {})]);

  expect(await read(kites.ofServer, "kite_calls_served_total")).toEqual([
    '{method="square",code="ok"} 2',
    '{method="square",code="invalid_argument"} 1',
  ]);
  expect(await read(kites.ofClient, "kite_calls_made_total")).toEqual([
    '{peer_name="math",method="square",code="ok"} 2',
    '{peer_name="math",method="square",code="invalid_argument"} 1',
  ]);
});

test("durations are histograms from a tenth of a millisecond to the default deadline", async () => {
  await using kites = await pair();

  await kites.dial().square(1);

  expect(await read(kites.ofServer, "kite_call_served_seconds_count")).toEqual(['{method="square"} 1']);
  expect(await read(kites.ofClient, "kite_call_made_seconds_count")).toEqual(['{peer_name="math",method="square"} 1']);
  const buckets = await read(kites.ofClient, "kite_call_made_seconds_bucket");
  expect(buckets[0]).toContain('le="0.0001"');
  expect(buckets.at(-2)).toContain('le="60"');
  expect(buckets.at(-1)).toMatch(/le="\+Inf".* 1$/);
});

test("what is open is counted when the metrics are read", async () => {
  await using kites = await pair();
  const math = kites.dial();
  const stream = (await math.count()) as AsyncIterable<number>;
  await math.keep(() => {});
  const waiting = math.waits().catch(() => {});
  await until(() => [...kites.server.sessions].some(({ counts }) => counts.serving === 1));

  expect(await read(kites.ofServer, "kite_sessions")).toEqual([
    '{direction="accepted",state="connecting"} 0',
    '{direction="accepted",state="open"} 1',
    '{direction="accepted",state="suspended"} 0',
    '{direction="dialled",state="connecting"} 0',
    '{direction="dialled",state="open"} 0',
    '{direction="dialled",state="suspended"} 0',
  ]);
  expect(await read(kites.ofClient, "kite_sessions")).toContain('{direction="dialled",state="open"} 1');
  expect(await read(kites.ofServer, "kite_calls_pending")).toEqual(['{direction="served"} 1', '{direction="made"} 0']);
  expect(await read(kites.ofClient, "kite_calls_pending")).toEqual(['{direction="served"} 0', '{direction="made"} 1']);
  expect(await read(kites.ofServer, "kite_callbacks")).toEqual(['{direction="exported"} 0', '{direction="imported"} 1']);
  expect(await read(kites.ofClient, "kite_callbacks")).toEqual(['{direction="exported"} 1', '{direction="imported"} 0']);
  expect(await read(kites.ofServer, "kite_streams")).toEqual(['{direction="sending"} 1', '{direction="receiving"} 0']);
  expect(await read(kites.ofClient, "kite_streams")).toEqual(['{direction="sending"} 0', '{direction="receiving"} 1']);

  await kites.client.close();
  await waiting;
  expect(stream).toBeDefined();
});

test("a session that waits for its peer is counted as suspended, on both sides", async () => {
  await using kites = await pair();
  let sever = () => {};
  let reachable = true;
  const dial = async () => {
    if (!reachable) throw new KiteError("unavailable", "the test keeps it away");
    const link = memoryLink();
    sever = link.sever;
    kites.server.serve(link.ends[1]);
    return link.ends[0];
  };
  const register = new Registry();
  await using client = new Kite({ name: "web", version: "1.0.0", observers: [metrics({ register })], dialers: { memory: dial } });
  await client.dial<Contract>({ url: "memory:math" }).square(1);

  reachable = false;
  sever();
  await until(() => [...kites.server.sessions].every(({ state }) => state === "suspended"));

  expect(await read(kites.ofServer, "kite_sessions")).toContain('{direction="accepted",state="suspended"} 1');
  expect(await read(kites.ofServer, "kite_sessions")).toContain('{direction="accepted",state="open"} 0');
  expect(await read(register, "kite_sessions")).toContain('{direction="dialled",state="suspended"} 1');
});

test("a call that reached nobody is counted, for a peer without a name", async () => {
  const register = new Registry();
  await using client = new Kite({ name: "web", version: "1.0.0", observers: [metrics({ register })] });
  const nobody = client.dial<Contract>({ url: "memory:nobody", retry: false });

  await expect(nobody.square(1)).rejects.toMatchObject({ outcome: "not_run" });

  expect(await read(register, "kite_calls_made_total")).toEqual(['{peer_name="unreached",method="square",code="failed_precondition"} 1']);
});

test("several kites share one set of metrics, and one that has closed has nothing open", async () => {
  const register = new Registry();
  const observers = [metrics({ register })];
  const authenticate = async () => testCaller();
  const first = new Kite({ name: "first", version: "1.0.0", methods, authenticate, observers });
  await using second = new Kite({ name: "second", version: "1.0.0", methods, authenticate, observers });
  await using client = new Kite({ name: "client", version: "1.0.0" });
  await client.dial<Contract>(await first.listen()).square(1);
  await client.dial<Contract>(await second.listen()).square(2);

  expect(await read(register, "kite_calls_served_total")).toEqual(['{method="square",code="ok"} 2']);
  expect(await read(register, "kite_sessions")).toContain('{direction="accepted",state="open"} 2');
  await first.close();

  expect(await read(register, "kite_sessions")).toContain('{direction="accepted",state="open"} 1');
});

test("names that callers invent do not make series without end", async () => {
  await using kites = await pair();
  const math = kites.dial();
  const stranger = math as unknown as Record<string, () => Promise<void>>;

  await Promise.all(Array.from({ length: 600 }, (_, index) => math.asks(`name${index}`)));
  await stranger.nonsense?.().catch(() => {});

  expect(await read(kites.ofServer, "kite_calls_served_total")).toEqual([
    '{method="asks",code="ok"} 600',
    '{method="other",code="method_not_found"} 1',
  ]);
  const made = await read(kites.ofServer, "kite_calls_made_total");
  expect(made).toHaveLength(501);
  expect(made.at(-1)).toBe('{peer_name="other",method="other",code="permission_denied"} 100');
});
