import { Kite } from "@kite-mesh/kite";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol, type TestKontrol, type WhoContract } from "../testing.ts";

vi.setConfig({ testTimeout: 30_000 });
const databaseUrl = await freshDatabase();

test("metrics say what kontrol holds and has done, and of nobody who he is", async () => {
  await using mesh = await startTestKontrol(databaseUrl);
  const secret = await mesh.person("alice-the-curious");
  const kite = secret.kite({ name: "behind" });
  await kite.register();
  for await (const event of secret.kite({ name: "looks" }).watch({})) {
    expect(event.type).toBe("snapshot");
    break;
  }
  const caller = secret.kite({ name: "caller" });
  await (await caller.connect<WhoContract>({ name: "behind" })).who();
  const stranger = mesh.closing(
    new Kite({ name: "stranger", version: "1.0.0", kiteKey: forged(secret.kiteKey), kontrolUrl: mesh.kontrol.url }),
  );
  await expect(stranger.find({})).rejects.toMatchObject({ code: "unauthenticated" });

  const { type, samples, text } = await read(mesh);

  expect(type).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(samples).toMatchObject({
    kontrol_kites: 2,
    kontrol_kites_held: 1,
    kontrol_directory_lag_revisions: 0,
    kontrol_database_connected: 1,
    kontrol_database_waiting: 0,
    kontrol_registrations_total: 1,
    kontrol_relay_links: 1,
    'kontrol_tokens_issued_total{algorithm="EdDSA"}': expect.any(Number),
    'kite_calls_served_total{method="register",code="ok"}': 1,
  });
  for (const name of [
    'kontrol_info{version="0.1.0"}',
    "kontrol_directory_revision",
    'kontrol_relay_bytes_total{direction="to_kite"}',
    'kontrol_relay_bytes_total{direction="to_caller"}',
    'kontrol_logins_refused_total{code="unauthenticated"}',
    "process_resident_memory_bytes",
  ])
    expect(samples[name], name).toBeGreaterThan(0);
  expect(samples).toHaveProperty("nodejs_eventloop_lag_p99_seconds");
  expect(samples).toHaveProperty("kontrol_watchers");
  for (const name of [secret.username, "root", secret.kiteKey]) expect(text).not.toContain(name);
});

test("two kontrols in one process have metrics of their own, and those of the process together", async () => {
  await using mesh = await startTestKontrol(databaseUrl);
  await using other = await startTestKontrol(databaseUrl);

  const [first, second] = [await read(mesh), await read(other)];

  expect(first.samples["kontrol_registrations_total"]).toBe(0);
  expect(second.samples["process_start_time_seconds"]).toBe(first.samples["process_start_time_seconds"]);
});

test.each([
  ["loopback", 200, 403],
  ["open", 200, 200],
  ["off", 404, 404],
] as const)("with metrics %s this machine is answered %i, and whom a proxy on it asks for %i", async (metrics, here, elsewhere) => {
  await using mesh = await startTestKontrol(databaseUrl, { metrics });
  const ask = (headers: Record<string, string>) => fetch(`${mesh.kontrol.url}/metrics`, { headers });

  const answers = await Promise.all([ask({}), ...["x-forwarded-for", "forwarded", "via", "x-real-ip"].map((name) => ask({ [name]: "1" }))]);

  expect(answers.map(({ status }) => status)).toEqual([here, elsewhere, elsewhere, elsewhere, elsewhere]);
  const refused = answers.filter(({ status }) => status !== 200);
  for (const answer of refused) expect(await answer.json()).toEqual({ error: expect.stringContaining("KONTROL_METRICS") });
});

async function read(mesh: TestKontrol): Promise<{ type: string; text: string; samples: Record<string, number> }> {
  const response = await fetch(`${mesh.kontrol.url}/metrics`);
  const text = await response.text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const samples = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]),
  );
  return { type: response.headers.get("content-type") ?? "", text, samples };
}

/** Another signature of the same length. */
function forged(jwt: string): string {
  const [head, claims, signature = ""] = jwt.split(".");
  return [head, claims, [...signature].reverse().join("")].join(".");
}
