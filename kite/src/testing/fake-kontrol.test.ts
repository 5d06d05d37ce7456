import { expect, test, vi } from "vitest";
import { Kite } from "../kite.ts";
import { type ContractOf, method } from "../method.ts";
import { until } from "../testing.ts";
import { type FakeKontrol, fakeKontrol } from "./fake-kontrol.ts";

const methods = {
  who: method({ role: "viewer" }, ({ caller }) => `${caller.username} is ${caller.role}`),
  owned: method({}, () => "owned"),
};
type Who = ContractOf<typeof methods>;

async function kiteOf(kontrol: FakeKontrol, username: string, name = "caller"): Promise<Kite> {
  return new Kite({ name, version: "1.0.0", kiteKey: await kontrol.kiteKey(username), methods });
}

/** Alice's, registered. */
async function served(kontrol: FakeKontrol, name = "who"): Promise<Kite> {
  const kite = await kiteOf(kontrol, "alice", name);
  await kite.listen();
  await kite.register({ labels: { gpu: "true" } });
  return kite;
}

test("kites register, find each other and believe each other's tokens, each with its own role", async () => {
  await using kontrol = await fakeKontrol();
  await using who = await served(kontrol);
  await using alice = await kiteOf(kontrol, "alice");
  await using bob = await kiteOf(kontrol, "bob");

  const answers = [
    await (await alice.connect<Who>({ name: "who", labels: ["gpu=true"] })).who(),
    await (await bob.connect<Who>({ name: "who", version: "^1.0" })).who(),
  ];

  expect(answers).toEqual(["alice is owner", "bob is viewer"]);
  expect(kontrol.kites).toEqual([who.identity]);
  await expect((await bob.connect<Who>({ name: "who" })).owned()).rejects.toMatchObject({ code: "permission_denied" });
  await expect(bob.connect({ name: "who", labels: ["!gpu"] })).rejects.toMatchObject({ code: "not_found" });
});

test("a test says who may do what, and who finds nothing", async () => {
  await using kontrol = await fakeKontrol({ access: (username) => (username === "bob" ? "operator" : undefined) });
  await using _who = await served(kontrol);
  await using bob = await kiteOf(kontrol, "bob");
  await using carol = await kiteOf(kontrol, "carol");

  expect(await (await bob.connect<Who>({ name: "who" })).who()).toBe("bob is operator");
  await expect(carol.connect({ name: "who" })).rejects.toMatchObject({ code: "not_found" });
});

test("a watcher sees a kite come, change its labels and go", async () => {
  await using kontrol = await fakeKontrol();
  await using alice = await kiteOf(kontrol, "alice");
  const events = alice.watch({ name: "who" })[Symbol.asyncIterator]();
  const next = async () => (await events.next()).value;

  expect(await next()).toMatchObject({ type: "snapshot", kites: [] });
  const who = await served(kontrol);
  expect(await next()).toMatchObject({ type: "registered", kite: { kite: who.identity, role: "owner" } });
  await who.updateLabels({ load: "0.5" });
  expect(await next()).toMatchObject({ type: "registered", kite: { labels: { gpu: "true", load: "0.5" } } });
  await who.close();
  expect(await next()).toMatchObject({ type: "gone", kite: { id: who.identity.id } });
  await events.return?.();
});

test("a token of the test's own opens what it says, and one that has expired nothing", async () => {
  await using kontrol = await fakeKontrol();
  await using who = await served(kontrol);
  await using caller = new Kite({ name: "caller", version: "1.0.0" });
  const dial = async (token: { expiresAt?: number; methods?: string[] }) => {
    const key = await kontrol.token({ username: "dora", audience: who.identity, role: "owner", ...token });
    return caller.dial<Who>({ url: who.url ?? "", auth: { type: "token", key }, retry: false });
  };

  expect(await (await dial({})).owned()).toBe("owned");
  await expect((await dial({ methods: ["who"] })).owned()).rejects.toMatchObject({ code: "permission_denied" });
  await expect((await dial({ expiresAt: Date.now() - 60_000 })).owned()).rejects.toMatchObject({ code: "token_expired" });
});

test.each([
  ["ten minutes", {}, 600_000],
  ["as long as the test says", { tokenMs: 20_000 }, 20_000],
])("tokens last %s", async (_, options, lifeMs) => {
  await using kontrol = await fakeKontrol(options);
  await using _who = await served(kontrol);
  await using bob = await kiteOf(kontrol, "bob");
  const before = Date.now();

  const [found] = await bob.find({ name: "who" });

  expect(found?.tokenExpiresAt).toBeGreaterThanOrEqual(before + lifeMs);
  expect(found?.tokenExpiresAt).toBeLessThanOrEqual(Date.now() + lifeMs);
});

test("what is revoked ends the sessions that were opened with it", async () => {
  await using kontrol = await fakeKontrol();
  await using who = await served(kontrol);
  await using bob = await kiteOf(kontrol, "bob");
  await using remote = await bob.connect<Who>({ name: "who" });
  await remote.who();
  // Times in credentials are whole seconds: what is given later in the same one counts as given before.
  expect([...who.sessions]).toHaveLength(1);

  kontrol.revoke("bob");

  await until(() => [...who.sessions].length === 0);
});

test("while it is away nothing is found, what is open goes on, and afterwards the kites are there again", async () => {
  await using kontrol = await fakeKontrol();
  await using _who = await served(kontrol);
  await using bob = await kiteOf(kontrol, "bob");
  await using remote = await bob.connect<Who>({ name: "who" });

  kontrol.goAway();
  await until(() => kontrol.kites.length === 0);
  const during = await remote.who();
  await expect(bob.find({ name: "other" })).rejects.toMatchObject({ code: "unavailable" });
  kontrol.comeBack();

  expect(during).toBe("bob is viewer");
  await vi.waitFor(() => expect(kontrol.kites).toHaveLength(1), 10_000);
});

test("a kite that cannot be dialled is told that nothing is relayed here", async () => {
  await using kontrol = await fakeKontrol();
  await using alice = await kiteOf(kontrol, "alice");

  await expect(alice.register()).rejects.toMatchObject({ code: "failed_precondition", message: expect.stringContaining("relays nothing") });
});
