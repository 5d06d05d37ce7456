import { once } from "node:events";
import { callWith, method } from "@kite-mesh/kite";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openTestWire, startTestKontrol, type TestKontrol, type TestPerson, type WhoContract, whoMethods } from "../testing.ts";

// A caller whose connection was cut dials again, while what allowed it to call is taken back.

vi.setConfig({ testTimeout: 60_000 });
interface HeldContract extends WhoContract {
  /** Answers when its session ends. */
  forever(): Promise<void>;
}
const methods = { ...whoMethods, forever: method({ role: "viewer" }, ({ signal }) => once(signal, "abort")) };
let mesh: TestKontrol;
let alice: TestPerson;
let made = 0;

beforeAll(async () => {
  mesh = await startTestKontrol(await freshDatabase());
  alice = await mesh.person("alice");
}, 60_000);
afterAll(() => mesh[Symbol.asyncDispose]());

test("a caller who dials a relay again after its grant was taken back hears at once that it may not come back", async () => {
  const { bob, id, grant, wire, session } = await calling();
  await using _ = wire;
  const failed = expect(callWith(session, { timeoutMs: 40_000 }).forever()).rejects.toMatchObject({
    code: expect.stringMatching(/^(permission_denied|unauthenticated)$/),
    message: expect.stringContaining("taken back"),
    outcome: "unknown",
  });
  await session.who();

  wire.cut();
  await mesh.root.grants.remove({ id: grant });

  await failed;
  await expect(bob.kontrol.why({ id })).resolves.toEqual({ found: false });
  await expect(session.who()).rejects.toMatchObject({ code: expect.stringMatching(/^(permission_denied|not_found)$/) });
});

/** Somebody with a session through the relay to a kite of alice's, over a wire of its own. */
async function calling() {
  const bob = await mesh.person(`bob-${made++}`);
  const kite = alice.kite({ name: `held-${made}`, id: `held-${made}`, methods });
  await kite.register();
  const { id } = kite.identity;
  const granted = await alice.kontrol.grants.add({ username: bob.username, role: "viewer", query: { id } });
  const wire = await openTestWire(mesh.kontrol.url);
  const route = () => `${wire.url}/relay/${id}`;
  const session = mesh.closing(await bob.kite({ route }).connect<HeldContract>({ id }));
  return { bob, id, grant: granted.id, wire, session };
}
