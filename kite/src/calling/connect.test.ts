import { afterEach, expect, test } from "vitest";
import { z } from "zod";
import { breaker } from "../breaker/breaker.ts";
import type { ClientOptions } from "../client-options.ts";
import type { KiteError } from "../errors.ts";
import { Kite } from "../kite.ts";
import { type Methods, method } from "../method.ts";
import { registryMethods, TestRegistry } from "../registry/test-registry.ts";
import { connectedPair, testCaller, until } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import { callerOf, callWith, peerOf } from "./remote.ts";

const opened: Kite[] = [];
afterEach(async () => {
  for (const kite of opened.splice(0).reverse()) await kite.close();
});

interface MathContract {
  whoami(): Promise<string>;
}

test("calls go to all kites that match, and to those that come later", async () => {
  const mesh = await startMesh();
  await mesh.math("one");
  await mesh.math("two");
  const math = await mesh.client.connect<MathContract>({ name: "math" }, { balance: "round-robin" });
  expect(new Set([await math.whoami(), await math.whoami()])).toEqual(new Set(["one", "two"]));

  await mesh.math("three");
  const answers = new Set<string>();
  const end = Date.now() + 10_000;
  while (answers.size < 3 && Date.now() < end) answers.add(await math.whoami());

  expect(answers).toEqual(new Set(["one", "two", "three"]));
  await math[Symbol.asyncDispose]();
  await until(() => mesh.registry.watchers === 0);
});

test("calls of a kite that dies go on to the next one, and none fails", async () => {
  const mesh = await startMesh();
  const first = await mesh.math("one");
  await mesh.math("two");
  const math = await mesh.client.connect<MathContract>({ name: "math" }, { balance: "round-robin", retry: { idempotent: ["whoami"] } });
  await Promise.all([math.whoami(), math.whoami()]);

  await first.close();
  const answers = await Promise.all(Array.from({ length: 40 }, () => math.whoami()));

  expect(new Set(answers)).toEqual(new Set(["two"]));
});

test("while kontrol is away, what was found is called", async () => {
  const mesh = await startMesh();
  await mesh.math("one");
  await mesh.math("two");
  const math = await mesh.client.connect<MathContract>({ name: "math" }, { balance: "round-robin" });
  await math.whoami();

  await mesh.kontrol.close();

  expect(new Set([await math.whoami(), await math.whoami(), await math.whoami()])).toEqual(new Set(["one", "two"]));
});

test("calls with the same key stay with one kite", async () => {
  const mesh = await startMesh();
  for (const id of ["one", "two", "three"]) await mesh.math(id);
  const stickyBy = (_: string, args: readonly unknown[]) => String(args[0]);
  const math = await mesh.client.connect<{ read(user: string): Promise<string> }>({ name: "math" }, { balance: { stickyBy } });

  const answers = await Promise.all(["ada", "bob", "ada", "bob", "ada"].map((user) => math.read(user)));

  expect(answers[2]).toBe(answers[0]);
  expect(answers[4]).toBe(answers[0]);
  expect(answers[3]).toBe(answers[1]);
});

test("a kite that nobody is, and a pool that is no one kite, are said", async () => {
  const mesh = await startMesh();

  await expect(mesh.client.connect({ name: "math" }, { balance: "round-robin" })).rejects.toMatchObject({ code: "not_found" });
  await mesh.math("one");
  const math = await mesh.client.connect<MathContract>({ name: "math" }, { balance: "nearest" });

  expect(() => peerOf(math)).toThrow("balanced");
});

test("closing a kite ends its pools, also in the middle of a call", async () => {
  const mesh = await startMesh();
  const one = await mesh.math("one");
  const math = await mesh.client.connect<{ wait(): Promise<void> }>({ name: "math" }, { balance: "least-pending" });
  const call = math.wait().catch((error: KiteError) => error.code);
  await until(() => [...one.sessions].some(({ counts }) => counts.serving === 1));

  await mesh.client.close();

  expect(await call).toBe("disconnected");
  await until(() => [...one.sessions].length === 0);
  await until(() => mesh.registry.watchers === 0);
});

test("a guard sees the path of the kite that is called, and another kite takes what it refuses", async () => {
  const mesh = await startMesh();
  const first = await mesh.math("one");
  const second = await mesh.math("two");
  const opened: string[] = [];
  const guard = breaker({ failures: 1, onChange: ({ peer, state }) => opened.push(`${peer} ${state}`) });
  const math = await mesh.client.connect<MathContract>({ name: "math" }, { balance: "round-robin", guard });
  await Promise.all([math.whoami(), math.whoami()]);

  await first.close();
  const answers = [await math.whoami(), await math.whoami(), await math.whoami(), await math.whoami()];

  expect(answers).toEqual(["two", "two", "two", "two"]);
  expect(opened).toEqual([expect.stringMatching(new RegExp(`/${first.identity.id} open$`))]);
  expect(second.sessions).toHaveLength(1);
});

test("a kite calls back the methods that its caller offers to it, as their owner", async () => {
  const mesh = await startMesh();
  await mesh.math("one");
  const methods = {
    name: method(
      { input: z.string() },
      (prompt, call) => `${prompt} ${call.caller.kite?.name}, ${call.caller.username}, ${call.caller.role}`,
    ),
  };

  const math = await mesh.client.connect<{ ask(): Promise<string> }>({ name: "math" }, { methods });

  expect(await math.ask()).toBe("Who? math, alice, owner");
});

test("to methods offered at an address, whoever answers there is nobody by name", async () => {
  const mesh = await startMesh();
  const { url = "" } = await mesh.math("one");
  const methods = { name: method({ input: z.string() }, (_, call) => `${call.caller.username}, ${call.caller.role}`) };

  expect(await mesh.client.dial<{ ask(): Promise<string> }>({ url, methods }).ask()).toBe("anonymous, owner");
});

test("who offers nothing is not called back", async () => {
  const mesh = await startMesh();
  await mesh.math("one");

  const math = await mesh.client.connect<{ ask(): Promise<string> }>({ name: "math" });

  await expect(math.ask()).rejects.toMatchObject({ code: "permission_denied", message: expect.stringContaining("serves no methods") });
});

test("a kite is dialled by the scheme of its url", async () => {
  const mesh = await startMesh();
  const one = await mesh.math("one");
  const client = mesh.connectAs({
    route: ({ kite }) => `memory:${kite.id}`,
    dialers: {
      memory: async ({ url }) => {
        const [here, there] = memoryLink().ends;
        if (url === "memory:one") one.serve(there);
        return here;
      },
    },
  });

  expect(await (await client.connect<MathContract>({ name: "math" })).whoami()).toBe("one");
});

test("a kite with a url that cannot be dialled is passed over for one that can", async () => {
  const mesh = await startMesh();
  await mesh.math("far");
  const near = await mesh.math("near");
  const client = mesh.connectAs({ route: ({ kite }) => (kite.id === "near" ? (near.url ?? "") : "nats://mesh/far") });

  for (const balance of ["one", "round-robin"] as const) {
    const math = await client.connect<MathContract>({ name: "math" }, { balance });
    expect(await math.whoami()).toBe("near");
  }
});

test("when nothing that matches can be dialled, the schemes that can be are named", async () => {
  const mesh = await startMesh();
  await mesh.math("far");
  const client = mesh.connectAs({ route: () => "nats://mesh/far" });

  const connecting = client.connect<MathContract>({ name: "math" });

  await expect(connecting).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringMatching(/nats:\/\/mesh\/far .* http, https, ws, wss; .* `dialers` with one for nats/),
  });
});

/** A registry and a client, and as many kites named math as are asked for. */
async function startMesh() {
  const registry = new TestRegistry();
  const kontrol = keep(new Kite({ name: "kontrol", version: "1.0.0", methods: registryMethods(registry) as Methods }));
  const { url: kontrolUrl } = await kontrol.listen();
  const urls = new Map<string, string>();
  const connectAs = (options: Partial<ClientOptions> = {}) =>
    keep(new Kite({ name: "client", version: "1.0.0", kontrolUrl, route: ({ kite }) => urls.get(kite.id) ?? "", ...options }));
  const math = async (id: string) => {
    const anyone = { role: "anyone" } as const;
    const methods = {
      whoami: method(anyone, () => id),
      read: method({ ...anyone, input: z.string() }, () => id),
      wait: method(anyone, () => new Promise<void>(() => {})),
      ask: method(anyone, (call) => callerOf<{ name(prompt: string): Promise<string> }>(call).name("Who?")),
    };
    const kite = keep(new Kite({ name: "math", version: "1.0.0", id, username: "alice", methods, authenticate: async () => testCaller() }));
    urls.set(id, (await kite.listen()).url);
    registry.enter(kite.identity);
    return kite;
  };
  return { registry, kontrol, math, client: connectAs(), connectAs };
}

function keep(kite: Kite): Kite {
  opened.push(kite);
  return kite;
}

test.each([0, -1, Number.NaN, "5"])("a call that would wait for %s milliseconds is not made", async (timeoutMs) => {
  await using pair = await connectedPair({ square: method({ input: z.number() }, (n) => n * n) });

  expect(() => callWith(pair.client, { timeoutMs: timeoutMs as number })).toThrow("timeoutMs is a number of milliseconds above 0");
});
