import { randomUUID } from "node:crypto";
import { decodeJwt, importSPKI, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { only, startTestKontrol, type TestKontrol, type TestPerson } from "../../kontrol/src/testing.ts";
import { freshDatabase } from "../postgres.ts";
import { until } from "../until.ts";
import { type CallbackKite, functionAt, GoClient, kontrolOfKiteJs, tell } from "./kontrol-clients.ts";

// Clients that exist, as they are, against a kontrol and its database. `kiteKey` is one of alice's that they can read.
const SOON_MS = 10_000;
let mesh: TestKontrol;
let alice: TestPerson;
let kiteKey: string;

beforeAll(async () => {
  mesh = await startTestKontrol(await freshDatabase());
  alice = await mesh.person("alice");
  ({ kiteKey } = await mesh.root.keys.issue({ username: "alice", alg: "RS256" }));
});
afterAll(() => mesh?.[Symbol.asyncDispose]());

describe.each(["WebSocket", "SockJS"] as const)("over %s, kite.js", (transport) => {
  test("fetches kites, and calls them with the tokens that it got", async () => {
    const name = unique("math");
    await registered(name);
    using kontrol = await kontrolOfKiteJs(transport, mesh.kontrol.url, kiteKey);

    const found = await kontrol.fetchKites({ query: { username: "alice", name } });
    const one = await kontrol.fetchKite({ query: { name, version: "~> 1.0" } });

    expect(found.map(({ options }) => options.name)).toEqual([name]);
    expect(await called(one)).toEqual({ username: "alice", role: "owner" });
  });

  test("is told that no kite was found", async () => {
    using kontrol = await kontrolOfKiteJs(transport, mesh.kontrol.url, kiteKey);

    expect(await kontrol.fetchKites({ query: { name: "nobody" } })).toEqual([]);
    await expect(tell(kontrol.kite, "getToken", { name: "nobody" })).rejects.toMatchObject({
      message: expect.stringContaining("no kites found"),
    });
  });

  test("hears of kites that come and go while it watches, and not after it has cancelled that", async () => {
    const name = unique("seen");
    using kontrol = await kontrolOfKiteJs(transport, mesh.kontrol.url, kiteKey);
    const { changes, watcherID } = await kontrol.watchKites({ query: { name } });
    const heard: string[] = [];
    let arrived: CallbackKite | undefined;
    changes.on("register", (kite) => {
      heard.push(`came: ${kite.options.name}`);
      arrived = kite;
    });
    changes.on("deregister", (kite) => heard.push(`went: ${kite.options.name}`));

    const first = await registered(name);
    const kite = await until("the kite to come", SOON_MS, () => arrived);
    const answer = await called(kite);
    await first.close();
    await until("the kite to go", SOON_MS, () => heard.length === 2);
    await new Promise((resolve) => kontrol.kite.tell("cancelWatcher", [watcherID], resolve));
    await registered(name);
    await tell(kontrol.kite, "kite.ping");

    expect(answer).toEqual({ username: "alice", role: "owner" });
    expect(heard).toEqual([`came: ${name}`, `went: ${name}`]);
    await expect(tell(kontrol.kite, "cancelWatcher", watcherID)).rejects.toMatchObject({ code: "not_found" });
  });

  test("renews the token of a kite that it found, and calls with the new one", async () => {
    const name = unique("renewed");
    await registered(name);
    using kontrol = await kontrolOfKiteJs(transport, mesh.kontrol.url, kiteKey);
    const kite = await kontrol.fetchKite({ query: { name } });
    const told = vi.fn();
    kite.on("tokenSet", told);

    kite.expireToken(() => {});
    await until("the new token", SOON_MS, () => told.mock.calls.length === 1);

    expect(told).toHaveBeenCalledWith(kite.getToken());
    expect(decodeJwt(kite.getToken())).toMatchObject({ sub: "alice", iss: "kontrol", aud: expect.stringContaining(`/${name}/`) });
    expect(await called(kite)).toEqual({ username: "alice", role: "owner" });
  });

  test("registers, beats when it is asked to, and leaves when its socket closes", async () => {
    const url = `http://10.0.0.7:3636/${unique("kite")}`;
    const kontrol = await kontrolOfKiteJs(transport, mesh.kontrol.url, kiteKey);
    try {
      expect(await tell(kontrol.kite, "register", { url })).toEqual({ url, heartbeatInterval: 10 });
      expect(await at(url)).toMatchObject([{ kite: { name: "web", username: "alice" } }]);
      expect(await until("its timer", SOON_MS, () => (kontrol.kite as { heartbeatHandle?: object }).heartbeatHandle)).toMatchObject({
        ms: 10_000,
      });
    } finally {
      kontrol[Symbol.dispose]();
    }

    await until("the kite to leave", SOON_MS, async () => (await at(url)).length === 0);
  });
});

describe.each(["WebSocket", "SockJS"] as const)("over %s, a client in Go", (transport) => {
  const open = (kite: object = identity(), auth: { type: string; key: string } | null = { type: "kiteKey", key: kiteKey }) =>
    GoClient.open(transport, mesh.kontrol.url, kite, auth);

  test("registers, is asked to beat before it is answered, and leaves when its socket closes", async () => {
    const kite = identity();
    const url = "http://localhost:6667/kite";
    using client = await open(kite);

    const answer = await client.tell("register", [{ url }]);
    const asked = await client.call("kite.heartbeat");
    client.callBack(functionAt(asked, 0, "withArgs", 1));
    client.callBack(functionAt(asked, 0, "responseCallback"), [{ error: null, result: null }]);
    client.callBack(functionAt(asked, 0, "withArgs", 1));

    expect(answer).toEqual({ error: null, result: { url, heartbeatInterval: 10 } });
    expect(asked.arguments).toMatchObject([
      {
        kite: { name: "kontrol", username: "kontrol" },
        authentication: null,
        withArgs: [10, "[Function]"],
        responseCallback: "[Function]",
      },
    ]);
    expect(client.heard.map(({ method }) => method)).toEqual(["kite.heartbeat", 0]);
    expect(only((await alice.kontrol.getKites({ query: { id: kite.id } })).kites)).toMatchObject({
      url,
      kite: { ...kite, username: "alice" },
    });
    client[Symbol.dispose]();
    await until("the kite to leave", SOON_MS, async () => (await alice.kontrol.getKites({ query: { id: kite.id } })).kites.length === 0);
  });

  test("beats keep its kite, and a beat after it was silent brings it back", async () => {
    await using brisk = await startTestKontrol(await freshDatabase(), { heartbeatMs: 1_000 });
    const carol = await brisk.person("carol");
    const { kiteKey: key } = await brisk.root.keys.issue({ username: "carol", alg: "RS256" });
    const kite = identity();
    using client = await GoClient.open(transport, brisk.kontrol.url, kite, { type: "kiteKey", key });
    const present = async () => (await carol.kontrol.getKites({ query: { id: kite.id } })).kites.length === 1;

    await client.tell("register", [{ url: "http://localhost:6667/kite" }]);
    const beat = functionAt(await client.call("kite.heartbeat"), 0, "withArgs", 1);
    await until("the silent kite to leave", 15_000, async () => !(await present()));
    client.callBack(beat);

    await until("the kite to come back", SOON_MS, present);
  });

  test("finds kites with the request that it was seen to write, and gets a token for each", async () => {
    const name = unique("lab");
    const kite = await registered(name);
    using client = await open();
    const query = { username: "alice", environment: "", name, version: ">= 1.0", region: "", hostname: "", id: "" };

    const answer = await client.tell("getKites", [{ query, watchCallback: null, who: null }]);
    const none = await client.tell("getKites", [{ query: { ...query, version: ">= 2.0" }, watchCallback: null, who: null }]);

    const found = answer.result as { kites: { kite: object; url: string; keyId: string; token: string }[] };
    expect(found.kites).toMatchObject([{ kite: { ...kite.identity }, url: `${kite.url}/kite`, keyId: expect.any(String) }]);
    expect(await callKite(transport, kite.url as string, found.kites[0]?.token as string)).toMatchObject({
      error: null,
      result: { username: "alice", role: "owner" },
    });
    expect(none).toMatchObject({ error: null, result: { kites: [] } });
  });

  test("gets a token for the matched kite's own path when it asks by id alone", async () => {
    const kite = await registered(unique("by-id"));
    using client = await open();
    const { username, environment, name, version, region, hostname, id } = kite.identity;

    const token = await client.tell("getToken", [{ username: "", environment: "", name: "", version: "", region: "", hostname: "", id }]);
    const kites = await client.tell("getKites", [{ query: { id }, watchCallback: null, who: null }]);

    const both = [token.result, (kites.result as { kites: { token: string }[] }).kites[0]?.token] as string[];
    for (const jwt of both) expect(decodeJwt(jwt).aud).toBe(`/${[username, environment, name, version, region, hostname, id].join("/")}`);
    const other = await registered(unique("other"));
    expect(await callKite(transport, other.url as string, both[0] as string)).toMatchObject({ error: { type: "authenticationError" } });
  });

  test("reads kontrol's key as PEM, with which it verifies tokens", async () => {
    const kite = await registered(unique("pem"));
    using client = await open();

    const { result: pem } = await client.tell("getKey", null);
    const { result: token } = await client.tell("getToken", [{ id: kite.identity.id }]);

    const key = await importSPKI(pem as string, "RS256");
    await expect(jwtVerify(token as string, key, { issuer: "kontrol", algorithms: ["RS256"] })).resolves.toMatchObject({
      payload: { sub: "alice" },
    });
    expect(decodeJwt(kiteKey)["kontrolKey"]).toBe(pem);
  });

  test("watches with a function of its own", async () => {
    const name = unique("watched");
    using client = await open();

    const { result } = await client.tell(
      "getKites",
      [{ query: { name }, watchCallback: "[Function]", who: null }],
      [[0, "withArgs", 0, "watchCallback"]],
    );
    const kite = await registered(name);
    const came = await client.call(1);

    expect(result).toEqual(expect.objectContaining({ kites: [], watcherID: expect.any(String) }));
    expect(came.arguments).toMatchObject([{ error: null, result: { action: "REGISTER", kite: kite.identity, url: `${kite.url}/kite` } }]);
  });

  test.each([
    ["no credential", null, "No authentication information is provided"],
    ["a kite.key that is none", { type: "kiteKey", key: "nonsense" }, "kiteKey: token contains an invalid number of segments"],
    ["a credential of another type", { type: "sessionID", key: "x" }, expect.stringMatching(/^Unknown authentication type: sessionID/)],
  ])("is refused with %s, in the original's words", async (_, auth, message) => {
    using client = await open(identity(), auth);

    for (const method of ["register", "getKites", "getKey"]) {
      expect(await client.tell(method, [{ url: "http://localhost:1/kite", query: {} }])).toEqual({
        error: { type: "authenticationError", message, code: "", id: expect.stringMatching(/^[0-9a-f]{16}$/) },
        result: null,
      });
    }
  });

  test("is refused with a kite.key of another kontrol, and with a token when it registers", async () => {
    await using other = await startTestKontrol(await freshDatabase());
    await other.person("alice");
    const { kiteKey: evil } = await other.root.keys.issue({ username: "alice", alg: "RS256" });
    using stranger = await open(identity(), { type: "kiteKey", key: evil });

    expect(await stranger.tell("getKey", null)).toMatchObject({
      error: { type: "authenticationError", message: expect.stringMatching(/^kiteKey: no key pair found/) },
    });
  });
});

/** A kite of ours that is in the directory, and closed with the rest. */
async function registered(name: string) {
  const kite = alice.kite({ name });
  await kite.listen();
  await kite.register();
  return kite;
}

async function called(kite: CallbackKite): Promise<unknown> {
  kite.connect();
  return tell(kite, "who");
}

async function callKite(transport: "WebSocket" | "SockJS", url: string, key: string) {
  using client = await GoClient.open(transport, url, identity(), { type: "token", key });
  return await client.tell("who", null);
}

async function at(url: string) {
  const { kites } = await alice.kontrol.getKites({ query: { name: "web" } });
  return kites.filter((kite) => kite.url === url);
}

function unique(name: string): string {
  return `${name}-${randomUUID().slice(0, 8)}`;
}

function identity() {
  return { name: "math", username: "kite", id: randomUUID(), environment: "dev", region: "eu", version: "1.0.0", hostname: "vm" };
}
