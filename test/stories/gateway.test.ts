import { once } from "node:events";
import { createGateway, type Gateway, type GatewayContract } from "@kite-mesh/gateway";
import { Kite, KiteError, memoryBus, method } from "@kite-mesh/kite";
import { createKontrol, type Kontrol } from "@kite-mesh/kontrol";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { z } from "zod";
import { freshDatabase } from "../postgres.ts";

const TOKEN = "planted-hook-token";
const lines: string[] = [];
const log = Object.fromEntries(
  ["debug", "info", "warn", "error"].map((level) => [
    level,
    (facts: object, message: string) => lines.push(`${level} ${message} ${JSON.stringify(facts)}`),
  ]),
) as never;

let kontrol: Kontrol;
let kloud: Kite;
let gateway: Gateway;
let owner: Kite;
let databaseUrl: string;
const released: string[] = [];

beforeAll(async () => {
  kontrol = await createKontrol({ databaseUrl: await freshDatabase(), log });
  await kontrol.ensureAccount({ username: "owner", kind: "person", admin: true });
  await kontrol.ensureAccount({ username: "gateway", kind: "service", admin: true });
  await kontrol.ensureAccount({ username: "kloud", kind: "service", admin: true });
  const stack = {
    release: method({ role: "owner", input: z.object({ username: z.string() }) }, ({ username }) => ({
      operations: [String(released.push(username))],
    })),
  };
  kloud = new Kite({ name: "kloud", version: "0.1.0", methods: { stack }, kiteKey: await kontrol.issueKey("kloud"), log });
  await kloud.listen();
  await kloud.register({ visibility: "mesh" });
  owner = new Kite({ name: "cli", version: "0.1.0", kiteKey: await kontrol.issueKey("owner") });
  databaseUrl = await freshDatabase();
  gateway = await open();
}, 60_000);

afterAll(async () => {
  await gateway?.close();
  await owner?.close();
  await kloud?.close();
  await kontrol?.close();
});

async function open(port = 0, bus = memoryBus()): Promise<Gateway> {
  return createGateway({
    databaseUrl,
    kontrolUrl: kontrol.url,
    kiteKey: await kontrol.issueKey("gateway"),
    port,
    gitlab: { hookToken: TOKEN },
    log,
    bus,
  });
}

test("user_create makes a person once, user_destroy ends access, sessions and machines", async () => {
  await hook({ event_name: "user_create", user_id: 41, username: "js", name: "John", email: "js@git.example" }, "c1");
  await hook({ event_name: "user_create", user_id: 41, username: "js", name: "John", email: "js@git.example" }, "c1");
  await vi.waitFor(async () =>
    expect((await owner.kontrol<KontrolContract>().people.list()).filter(({ username }) => username === "js")).toHaveLength(1),
  );
  const cookie = await signIn("js");
  const page = await socket("/-/kites/kontrol", cookie);
  const closed = once(page, "close");

  await hook({ event_name: "user_destroy", user_id: 41, username: "js" }, "d1");

  await vi.waitFor(() => expect(released).toEqual(["js"]));
  await closed;
  expect((await fetch(`${gateway.url}/-/session`, { headers: { cookie } })).status).toBe(401);
  expect(await owner.kontrol<KontrolContract>().people.get({ username: "js" })).toMatchObject({ state: "removed" });
  await expect(gateway.signInLink("js")).rejects.toMatchObject({ code: "failed_precondition" });
});

test("a browser's kite calls kontrol and another kite through the gateway, with the person's own token", async () => {
  const cookie = await signIn("owner");
  const session = (await (await fetch(`${gateway.url}/-/session`, { headers: { cookie } })).json()) as { kontrol: { token: string } };

  const { id } = kloud.identity;
  for (const [path, protocols] of [
    ["kontrol", ["kite.v1"]],
    [id, ["kite.v1", "kite.token.x"]],
  ] as const) {
    const page = await socket(`/-/kites/${path}`, cookie, [...protocols]);
    expect(page.protocol).toBe("kite.v1");
    page.close();
  }

  expect(session.kontrol.token.split(".")).toHaveLength(3);
  await expect(socket("/-/kites/nobody", cookie)).rejects.toThrow("404");
});

test("a kite behind the relay is reached through the gateway", async () => {
  await using hidden = new Kite({
    name: "hidden",
    version: "1.0.0",
    kiteKey: await kontrol.issueKey("owner"),
    methods: { ping: method({ role: "viewer" }, () => "pong") },
  });
  await hidden.register();
  const cookie = await signIn("owner");
  const [found] = await owner.find({ id: hidden.identity.id });
  expect(found?.url).toContain("/relay/");

  const page = await socket(`/-/kites/${hidden.identity.id}`, cookie, ["kite.v1", `kite.token.${found!.token}`]);

  expect(page.protocol).toBe("kite.v1");
  page.close();
});

test("administrators see and replay deliveries, others may not", async () => {
  await using calls = await owner.connect<GatewayContract>({ name: "gateway" });
  await hook({ event_name: "user_create", username: "nobody" }, "broken");
  await vi.waitFor(async () => expect(await calls.deliveries.list({ state: "dead" })).toHaveLength(1));
  const [dead] = await calls.deliveries.list({ state: "dead" });
  expect(dead).toMatchObject({ kind: "user_create", webhookId: "broken", tries: 1, lastError: expect.stringContaining("user_id") });

  expect(await calls.deliveries.replay({ id: dead!.id })).toMatchObject({ state: "pending" });
  expect((await calls.signInLink({ username: "owner" })).url).toContain("/sign-in?t=");
  await expect(calls.signInLink({ username: "nobody" })).rejects.toMatchObject({ code: "not_found" });

  await kontrol.ensureAccount({ username: "bob", kind: "person", admin: false });
  await using bob = new Kite({ name: "cli", version: "0.1.0", kiteKey: await kontrol.issueKey("bob") });
  await using bobs = await bob.connect<GatewayContract>({ name: "gateway" });
  await expect(bobs.deliveries.list()).rejects.toMatchObject({ code: "permission_denied" });
});

test("a port that is taken is told by the setting's name, and nothing is left open", async () => {
  const port = Number(new URL(gateway.url).port);

  await expect(open(port)).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringMatching(new RegExp(`port ${port} .*GATEWAY_PORT`)),
  });
});

test("what was in hand when the gateway ended is finished by the next one", async () => {
  const bus = memoryBus();
  const seen: unknown[] = [];
  bus.subscribe("gitlab.>", (event) => seen.push(event));
  await gateway.close();
  gateway = await open(0, bus);

  await hook({ event_name: "user_create", user_id: 77, username: "late" }, "late-1");

  await vi.waitFor(async () =>
    expect((await owner.kontrol<KontrolContract>().people.list()).some(({ username }) => username === "late")).toBe(true),
  );
  expect(seen).toHaveLength(1);
});

test("the dashboard is there", async () => {
  const page = await fetch(gateway.url);
  expect([page.status, page.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
  const script = await fetch(`${gateway.url}/assets/main.js`);
  expect([script.status, script.headers.get("content-type")]).toEqual([200, "text/javascript; charset=utf-8"]);
  expect((await fetch(`${gateway.url}/assets/main.css`)).status).toBe(200);
  expect((await fetch(`${gateway.url}/main.ts`)).status).toBe(404);
}, 30_000);

test("no secret is in the log", () => {
  expect(lines.join("\n")).not.toMatch(/planted|sign-in\?t=|kite\.token\.|eyJ/);
});

async function hook(body: object, id: string): Promise<void> {
  const headers = { "x-gitlab-token": TOKEN, "x-gitlab-event": "System Hook", "idempotency-key": id, "content-type": "application/json" };
  const answer = await fetch(`${gateway.url}/-/api/gitlab`, { method: "POST", headers, body: JSON.stringify(body) });
  if (answer.status !== 200) throw new KiteError("internal", `${answer.status} ${await answer.text()}`);
}

async function signIn(username: string): Promise<string> {
  const { url } = await gateway.signInLink(username);
  const t = new URL(url).searchParams.get("t")!;
  const answer = await fetch(`${gateway.url}/sign-in`, {
    method: "POST",
    redirect: "manual",
    body: new URLSearchParams({ t }),
    headers: { origin: gateway.url },
  });
  return answer.headers.get("set-cookie")!.split(";")[0]!;
}

async function socket(path: string, cookie: string, protocols = ["kite.v1"]): Promise<WebSocket> {
  const page = new WebSocket(gateway.url + path, protocols, { headers: { cookie, origin: gateway.url } });
  await once(page, "open");
  return page;
}
