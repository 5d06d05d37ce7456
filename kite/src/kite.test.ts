import { expect, test } from "vitest";
import { z } from "zod";
import { callWith, peerOf } from "./calling/remote.ts";
import { KiteError } from "./errors.ts";
import { Kite } from "./kite.ts";
import { type ContractOf, method } from "./method.ts";
import type { BuiltinContract } from "./serving/builtin.ts";
import { testCaller, until } from "./testing.ts";

const methods = {
  square: method({ role: "viewer", input: z.number(), output: z.number() }, (n) => n * n),
  whoami: method({ role: "anyone" }, (call) => call.caller.username),
  echo: method({ role: "viewer", input: z.unknown() }, (value) => value),
};
type Contract = ContractOf<typeof methods>;

function math(): Kite {
  return new Kite({ name: "math", version: "1.0.0", username: "alice", methods, authenticate: async () => testCaller() });
}

test("a kite that listens answers a kite that dials", async () => {
  await using server = math();
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const { url } = await server.listen();

  const remote = client.dial<Contract>({ url });

  expect(await remote.square(12)).toBe(144);
  expect(peerOf(remote).identity).toEqual(server.identity);
});

test.each(["0.0.0.0", "::"])(
  "a kite that listens on %s does not register what others would look for on their own machine",
  async (host) => {
    await using server = math();
    const { url } = await server.listen({ host });

    const registered = server.register();

    await expect(registered).rejects.toMatchObject({
      code: "invalid_argument",
      message: `others who dial ${url} reach their own machine: give register({ url }) the address under which they reach this kite`,
    });
  },
);

test("bytes cross a real socket as they are", async () => {
  await using server = math();
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const remote = client.dial<Contract>(await server.listen());
  const bytes = Uint8Array.from({ length: 300_000 }, (_, index) => index % 251);

  const answer = (await remote.echo({ bytes })) as { bytes: Uint8Array };

  expect(answer.bytes).toBeInstanceOf(Uint8Array);
  // Compared by vitest, this many would take longer than everything else here.
  expect(Buffer.compare(answer.bytes, bytes)).toBe(0);
});

test("a kite without a kite.key verifies nobody, and says why", async () => {
  await using server = new Kite({ name: "math", version: "1.0.0", methods });
  await using client = new Kite({ name: "client", version: "1.0.0" });

  const call = client.dial<Contract>({ ...(await server.listen()), auth: { type: "token", key: "x" } }).square(1);

  await expect(call).rejects.toMatchObject({
    code: "unauthenticated",
    message: expect.stringContaining("no kite.key"),
    outcome: "not_run",
  });
});

test("a kite that is not there is reported at once", async () => {
  await using server = math();
  const { url } = await server.listen();
  await server.close();
  await using client = new Kite({ name: "client", version: "1.0.0" });

  await expect(client.dial<Contract>({ url }).square(1)).rejects.toMatchObject({ code: "unavailable", outcome: "not_run" });
});

test("a port that is taken is named", async () => {
  await using first = math();
  await using second = math();
  const { port } = await first.listen();

  await expect(second.listen({ port })).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining(String(port)) });
});

test("closing a kite tells its callers, and leaves nothing open", async () => {
  const server = math();
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const remote = client.dial<Contract>(await server.listen());
  await remote.square(1);

  await server.close();
  await until(() => peerOf(remote).state === "suspended");

  expect([...server.sessions]).toEqual([]);
});

test("after a restart at the same address the next call works", async () => {
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const first = math();
  const { url, port } = await first.listen();
  const remote = client.dial<Contract>({ url });
  await remote.square(1);
  await first.close();

  await using second = math();
  await second.listen({ port });

  expect(await remote.square(3)).toBe(9);
});

test("sessions of a revoked caller end, and the others go on", async () => {
  const callers = [testCaller({ username: "alice" }), testCaller({ username: "bob" })];
  await using server = new Kite({ name: "math", version: "1.0.0", methods, authenticate: async () => callers.shift() ?? testCaller() });
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const { url } = await server.listen();
  const [alice, bob] = [client.dial<Contract>({ url }), client.dial<Contract>({ url })];
  await alice.whoami();
  await bob.whoami();

  const ended = server.endSessions(({ username }) => username === "alice", new KiteError("unauthenticated", "revoked"));
  await until(() => peerOf(alice).state !== "open");

  expect(ended).toBe(1);
  expect(await bob.whoami()).toBe("bob");
});

test("a plain HTTP request is told what this is", async () => {
  await using server = math();
  const { url } = await server.listen();

  const response = await fetch(url);

  expect(response.status).toBe(404);
  expect(await response.text()).toContain("kite.v1");
});

test("a caller may give up while it connects", async () => {
  await using client = new Kite({ name: "client", version: "1.0.0" });

  const call = callWith(client.dial<Contract>({ url: "http://127.0.0.1:1" }), { signal: AbortSignal.abort() }).square(1);

  await expect(call).rejects.toMatchObject({ code: "cancelled" });
});

test("a kite describes itself to whoever may look, and keeps the words of plain errors to itself", async () => {
  const failing = method({ role: "viewer", description: "Fails." }, () => {
    throw new TypeError("password=secret");
  });
  const options = { name: "math", version: "1.0.0", username: "alice", methods: { failing }, authenticate: async () => testCaller() };
  await using server = new Kite(options);
  await using open = new Kite({ ...options, exposeErrors: true });
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const remote = client.dial<BuiltinContract & ContractOf<{ failing: typeof failing }>>(await server.listen());
  const other = client.dial<ContractOf<{ failing: typeof failing }>>(await open.listen());

  const description = await remote.kite.describe();

  expect(description).toMatchObject({ kite: server.identity, dialects: expect.arrayContaining(["kite.v1"]) });
  expect(description.methods.map(({ name }) => name)).toEqual(["failing"]);
  await expect(remote.failing()).rejects.toMatchObject({ code: "internal", message: expect.not.stringContaining("secret") });
  await expect(other.failing()).rejects.toMatchObject({ code: "internal", message: "password=secret" });
});

test("closing a kite tells keyed calls to stop, which a lost session would not", async () => {
  let signal: AbortSignal | undefined;
  const order = method({ role: "viewer", repetition: "keyed" }, (call) => {
    signal = call.signal;
    return new Promise<never>(() => {});
  });
  const server = new Kite({ name: "shop", version: "1.0.0", methods: { order }, authenticate: async () => testCaller() });
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const remote = callWith(client.dial<ContractOf<{ order: typeof order }>>(await server.listen()), { meta: { key: "k" } });
  const lost = expect(remote.order()).rejects.toBeInstanceOf(KiteError);
  await until(() => signal !== undefined);

  await server.close();

  expect(signal?.reason).toMatchObject({ message: "shop has closed" });
  await client.close();
  await lost;
});
