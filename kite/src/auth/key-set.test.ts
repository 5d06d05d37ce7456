import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, exportSPKI, generateKeyPair } from "jose";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { PublicJwk } from "../registry/registry.ts";
import { KeySet, publishedKeys, type TrustedKey } from "./key-set.ts";

let first: TrustedKey;
let published: PublicJwk;
let leaked: PublicJwk;

beforeAll(async () => {
  const [old, current] = await Promise.all([
    generateKeyPair("EdDSA", { extractable: true }),
    generateKeyPair("EdDSA", { extractable: true }),
  ]);
  first = { kid: "first", alg: "EdDSA", pem: await exportSPKI(old.publicKey) };
  published = { ...(await exportJWK(current.publicKey)), kid: "second", alg: "EdDSA" };
  leaked = { ...(await exportJWK(current.privateKey)), kid: "leaked", alg: "EdDSA" };
});

test("a trusted key is known without asking", async () => {
  const fetchKeys = vi.fn(async () => [published]);
  const keys = new KeySet({ trusted: [first], fetchKeys });

  expect(await keys.find("first", "EdDSA")).toBeDefined();
  expect(await keys.find("first", "RS256")).toBeUndefined();
  expect(fetchKeys).not.toHaveBeenCalled();
});

test("an unknown key is asked for once, however many wait for it", async () => {
  const fetchKeys = vi.fn(async () => [published]);
  const keys = new KeySet({ trusted: [first], fetchKeys });

  const found = await Promise.all(Array.from({ length: 10 }, () => keys.find("second", "EdDSA")));

  expect(found.every((key) => key !== undefined)).toBe(true);
  expect(fetchKeys).toHaveBeenCalledTimes(1);
});

test("invented key ids make the kite ask at most once in a few seconds", async () => {
  let now = 0;
  const fetchKeys = vi.fn(async () => [published]);
  const keys = new KeySet({ fetchKeys, now: () => now });

  for (let guess = 0; guess < 100; guess++) expect(await keys.find(`guess-${guess}`, "EdDSA")).toBeUndefined();
  expect(fetchKeys).toHaveBeenCalledTimes(1);

  now += 5_000;
  await keys.find("guess", "EdDSA");
  expect(fetchKeys).toHaveBeenCalledTimes(2);
});

test("of what is published no more than 32 keys are kept", async () => {
  const named = Array.from({ length: 40 }, (_, index) => ({ ...published, kid: `key-${index}` }));
  const keys = new KeySet({ fetchKeys: async () => named });

  expect(await keys.find("key-31", "EdDSA")).toBeDefined();
  expect(await keys.find("key-32", "EdDSA")).toBeUndefined();
});

test("a key that kontrol no longer publishes is not trusted for longer than a token lives", async () => {
  let now = 0;
  const keys = new KeySet({ trusted: [first], fetchKeys: async () => [published], now: () => now });

  now += 11 * 60_000;
  await keys.find("first", "EdDSA");

  await vi.waitFor(async () => expect(await keys.find("first", "EdDSA")).toBeUndefined());
  expect(await keys.find("second", "EdDSA")).toBeDefined();
});

test.each<[string, () => Promise<PublicJwk[]>]>([
  ["cannot be reached", () => Promise.reject(new Error("connect ECONNREFUSED"))],
  ["publishes nothing", async () => []],
  ["publishes only keys of other kinds", async () => [{ kid: "x", alg: "HS256", kty: "oct", k: "c2VjcmV0" }]],
])("known keys stay trusted when kontrol %s", async (_title, fetchKeys) => {
  const keys = new KeySet({ trusted: [first], fetchKeys });

  expect(await keys.find("unknown", "EdDSA")).toBeUndefined();
  expect(await keys.find("first", "EdDSA")).toBeDefined();
});

test("of a private key that was published by mistake only the public half is used", async () => {
  const keys = new KeySet({ fetchKeys: async () => [leaked] });

  expect(await keys.find("leaked", "EdDSA")).toMatchObject({ type: "public" });
});

test("a key that cannot be read is not trusted, and harms no other", async () => {
  const keys = new KeySet({ trusted: [first, { ...first, kid: "broken", pem: "not a key" }] });

  expect(await keys.find("broken", "EdDSA")).toBeUndefined();
  expect(await keys.find("first", "EdDSA")).toBeDefined();
});

test("closing ends the request that is on its way", async () => {
  const keys = new KeySet({
    fetchKeys: (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("ended")))),
  });
  const finding = keys.find("unknown", "EdDSA");

  keys.close();

  expect(await finding).toBeUndefined();
});

describe("kontrol's published keys", () => {
  let server: Server | undefined;

  afterEach(async () => {
    server?.closeAllConnections();
    await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  });

  test("are read from beside the address that kites dial", async () => {
    const asked: string[] = [];
    const url = await answering(JSON.stringify({ keys: [published] }), asked);

    const keys = new KeySet({ fetchKeys: publishedKeys(`${url.replace("http", "ws")}/kite`) });

    expect(await keys.find("second", "EdDSA")).toBeDefined();
    expect(asked).toEqual(["/.well-known/jwks.json"]);
  });

  test.each([
    ["is no key set", '{"keys":"none"}', 'must answer {"keys": […]}'],
    ["is too large", " ".repeat(100_000), "more than 65536 bytes"],
  ])("are not read from an answer that %s", async (_title, body, reason) => {
    const url = await answering(body, []);

    await expect(publishedKeys(url)(AbortSignal.timeout(5_000))).rejects.toThrow(reason);
  });

  async function answering(body: string, asked: string[]): Promise<string> {
    server = createServer((request, response) => {
      asked.push(request.url ?? "");
      response.end(body);
    });
    await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
});
