import { readFileSync } from "node:fs";
import { type NatsConnection, RequestStrategy, type ServiceInfo, type ServiceStats } from "nats";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { describeWith } from "../../../test/services.ts";
import type { Remote } from "../calling/remote.ts";
import { Kite } from "../kite.ts";
import { type ContractOf, method } from "../method.ts";
import { testCaller, until } from "../testing.ts";
import { PROTOCOL } from "../wire/v1.ts";
import { natsDialer } from "./dial.ts";
import { type ListenNatsOptions, listenNats } from "./listen.ts";
import { acceptSubject, addressOf, linkSubject } from "./subjects.ts";
import { TestNatsServer } from "./test-nats-server.ts";

// Real servers on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

const LIMIT_MS = 30_000;
const ran: number[] = [];
const release = new Set<() => void>();
const methods = {
  square: method({ role: "viewer", input: z.number() }, (n) => n * n),
  slow: method({ input: z.number() }, async (n) => {
    ran.push(n);
    await new Promise<void>((resolve) => release.add(resolve));
    return n;
  }),
};

describeWith("nats-server", "a kite on NATS", (program) => {
  let server: TestNatsServer;
  beforeAll(async () => {
    server = await TestNatsServer.start(program);
  }, LIMIT_MS);
  afterAll(() => server[Symbol.asyncDispose]());

  test("is called at its id, whatever characters that has", async () => {
    await using mesh = await open(server, { id: "math.eu*1" });

    expect(mesh.url).toBe("nats://math%2Eeu%2A1");
    expect(await mesh.math.square(12)).toBe(144);
  });

  test("that does not listen is unavailable at once", async () => {
    const dial = natsDialer(await server.connect(), { timeoutMs: 600_000 });
    const { signal } = new AbortController();

    const dialled = dial({ url: "nats://nobody", protocols: [PROTOCOL], maxFrameBytes: 1_000, signal });

    await expect(dialled).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("nobody listens") });
  });

  test("that does not answer is unavailable in time, and the dial can be cancelled before", async () => {
    const deaf = await server.connect();
    deaf.subscribe(acceptSubject("deaf"), { callback: () => {} });
    await deaf.flush();
    const dial = natsDialer(await server.connect(), { timeoutMs: 300 });
    const cancel = new AbortController();

    const dialled = dial({ url: "nats://deaf", protocols: [PROTOCOL], maxFrameBytes: 1_000, signal: new AbortController().signal });
    const cancelled = dial({ url: "nats://deaf", protocols: [PROTOCOL], maxFrameBytes: 1_000, signal: cancel.signal });
    cancel.abort();

    await expect(cancelled).rejects.toMatchObject({ code: "cancelled" });
    await expect(dialled).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("within 300 ms") });
  });

  test("takes no more links when its listener was disposed, and goes on with those it has", async () => {
    await using mesh = await open(server);
    await mesh.math.square(2);

    await mesh.dispose();

    const dialled = natsDialer(mesh.connection)({
      url: mesh.url,
      protocols: [PROTOCOL],
      maxFrameBytes: 1_000,
      signal: new AbortController().signal,
    });
    await expect(dialled).rejects.toMatchObject({ code: "unavailable" });
    expect(await mesh.math.square(3)).toBe(9);
  });

  test("answers $SRV.PING, INFO and STATS", async () => {
    await using mesh = await open(server, { name: "math.v2é", id: "srv-1" }, { methods });
    const call = mesh.math.slow(815);
    await until(() => ran.includes(815), LIMIT_MS);
    // By itself it waits 2 s for the first answer.
    const client = mesh.connection.services.client({ strategy: RequestStrategy.JitterTimer, maxWait: LIMIT_MS });

    const pings = await collect(await client.ping("math_v2_"));
    const infos = await collect<ServiceInfo>(await client.info("math_v2_"));
    const stats = await collect<ServiceStats>(await client.stats("math_v2_"));

    expect(pings).toMatchObject([{ name: "math_v2_", version: "1.0.0", metadata: { id: "srv-1", url: "nats://srv-1" } }]);
    expect(infos[0]?.endpoints).toMatchObject([
      { subject: "kite.srv-1.accept", metadata: { protocol: "kite.v1", methods: "slow square" } },
    ]);
    expect(stats[0]?.endpoints).toMatchObject([{ name: "accept", num_requests: 1, data: { links: 1, sessions: 1, calls: 1 } }]);
    for (const finish of release) finish();
    await call;
  });

  test("answers nobody on a subject that a stranger chose, and survives his garbage", async () => {
    await using mesh = await open(server, {}, { maxLinks: 3 });
    await mesh.math.square(1);
    const stranger = await server.connect();
    const answers: string[] = [];
    const deputy = linkSubject("victim").replace("link", "accept");
    for (const subject of [deputy, "victim.>"]) stranger.subscribe(subject, { callback: (_, { subject: got }) => void answers.push(got) });
    const accept = acceptSubject(addressOf(mesh.url));

    for (const reply of [deputy, "victim.inbox", "$SRV.PING"]) stranger.publish(accept, PROTOCOL, { reply });
    stranger.publish(accept, PROTOCOL);
    for (const junk of ["", "kite.v9", "x".repeat(100_000)]) stranger.publish(accept, junk, { reply: linkSubject("stranger") });
    await stranger.flush();

    expect(await mesh.math.square(5)).toBe(25);
    await stranger.flush();
    expect(answers).toEqual([]);
    expect(mesh.links()).toBe(1);
  });

  test("has no more links than its limit, however many strangers ask", async () => {
    await using mesh = await open(server, {}, { maxLinks: 3 });
    await mesh.math.square(1);
    const stranger = await server.connect();
    stranger.subscribe("kite.stranger.link.*", { callback: () => {} });

    for (let n = 0; n < 100; n++) stranger.publish(acceptSubject(addressOf(mesh.url)), PROTOCOL, { reply: linkSubject("stranger") });
    await stranger.flush();

    expect(await mesh.math.square(5)).toBe(25);
    expect(mesh.links()).toBe(3);
  });

  test("and its caller lose a link to whoever writes into it, and go on over the next one", async () => {
    await using mesh = await open(server);
    const vandal = await server.connect();
    const subjects = new Set<string>();
    vandal.subscribe("kite.*.link.*", { callback: (_, { subject }) => void subjects.add(subject) });
    await vandal.flush();
    const call = mesh.math.slow(4711);
    await until(() => ran.includes(4711), LIMIT_MS);

    for (const subject of subjects) vandal.publish(subject, "garbage");
    const before = subjects.size;
    await until(() => subjects.size > before, LIMIT_MS);
    for (const finish of release) finish();

    expect(await call).toBe(4711);
    expect(ran.filter((n) => n === 4711)).toHaveLength(1);
  });
});

describeWith("nats-server", "when nats-server is killed and started again", (program) => {
  test("calls in flight go on, and nothing happens twice", { timeout: 3 * LIMIT_MS }, async () => {
    await using server = await TestNatsServer.start(program);
    await using mesh = await open(server);
    const numbers = Array.from({ length: 50 }, (_, n) => 10_000 + n);
    const calls = numbers.map((n) => mesh.math.slow(n));
    await until(() => ran.includes(10_049), LIMIT_MS);

    await server.kill();
    for (const finish of release) finish();
    const meanwhile = mesh.math.square(7);
    await server.start();

    expect(await Promise.all(calls)).toEqual(numbers);
    expect(await meanwhile).toBe(49);
    expect(ran.filter((n) => n >= 10_000)).toEqual(numbers);
  });
});

describeWith("nats-server", "with the permissions of NATS.md", (program) => {
  const page = readFileSync(new URL("../../NATS.md", import.meta.url), "utf8");
  const [, shown = ""] = /^```text\n(authorization \{.*?)^```$/ms.exec(page) ?? [];
  // Its passwords are variables, which a configuration may give; and users that the page has no need of.
  const config = `MATH: m, WEB: w\n${shown.replace(
    "users = [",
    `users = [
    { user: "bare", password: "b", permissions: { subscribe: ["kite.bare.>"], publish: ["kite.*.accept", "kite.*.link.*"] } }
    { user: "poor", password: "p", permissions: { subscribe: ["kite.poor.>"], publish: ["kite.elsewhere.>"] } }`,
  )}`;

  test("the page shows them", () => {
    expect(shown).toMatch(/user: "math".*user: "web"/s);
  });

  test("a kite that may not answer $SRV is called all the same", { timeout: LIMIT_MS }, async () => {
    await using server = await TestNatsServer.start(program, { config });
    const kite = newKite();
    await using listener = await listenNats(kite, await server.connect({ user: "bare", pass: "b" }), { address: "bare" });
    const web = natsDialer(await server.connect({ user: "web", pass: "w" }), { address: "web" });
    await using client = new Kite({ name: "web", version: "1.0.0", dialers: { nats: web } });

    expect(await client.dial<ContractOf<typeof methods>>({ url: listener.url }).square(3)).toBe(9);
    await kite.close();
  });

  test("kites talk, and who may not ask is told so at once", { timeout: LIMIT_MS }, async () => {
    await using server = await TestNatsServer.start(program, { config });
    const kite = newKite();
    await using listener = await listenNats(kite, await server.connect({ user: "math", pass: "m" }), { address: "math" });
    const web = natsDialer(await server.connect({ user: "web", pass: "w" }), { address: "web" });
    const poor = natsDialer(await server.connect({ user: "poor", pass: "p" }), { address: "poor", timeoutMs: 600_000 });
    await using client = new Kite({ name: "web", version: "1.0.0", dialers: { nats: web } });

    expect(await client.dial<ContractOf<typeof methods>>({ url: listener.url }).square(3)).toBe(9);

    const dialled = poor({ url: listener.url, protocols: [PROTOCOL], maxFrameBytes: 1_000, signal: new AbortController().signal });
    await expect(dialled).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("does not allow to publish") });
    await kite.close();
  });
});

interface Mesh extends AsyncDisposable {
  readonly url: string;
  readonly math: Remote<ContractOf<typeof methods>>;
  /** The caller's. */
  readonly connection: NatsConnection;
  links(): number;
  dispose(): Promise<void>;
}

function newKite(identity: { name?: string; id?: string } = {}): Kite {
  return new Kite({ name: "math", version: "1.0.0", username: "alice", methods, authenticate: async () => testCaller(), ...identity });
}

async function open(server: TestNatsServer, identity = {}, options: ListenNatsOptions = {}): Promise<Mesh> {
  const [here, there] = await Promise.all([server.connect(), server.connect()]);
  const kite = newKite(identity);
  const listener = await listenNats(kite, there, options);
  const client = new Kite({ name: "web", version: "1.0.0", dialers: { nats: natsDialer(here) } });
  return {
    url: listener.url,
    math: client.dial({ url: listener.url }),
    connection: here,
    links: () => listener.links,
    dispose: () => listener[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: async () => {
      await client.close();
      await kite.close();
      await listener[Symbol.asyncDispose]();
      await Promise.all([here.close(), there.close()]);
    },
  };
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
