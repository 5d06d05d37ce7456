import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportSPKI, generateKeyPair, SignJWT } from "jose";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { KeySet } from "./key-set.ts";
import { parseKiteKey, verifyKiteKey } from "./kite-key.ts";
import { readKiteKey, writeKiteKey } from "./kite-key-file.ts";

type Pair = Awaited<ReturnType<typeof generateKeyPair>>;
let kontrol: Pair;
let evil: Pair;
let pem: string;
let keys: KeySet;

beforeAll(async () => {
  [kontrol, evil] = await Promise.all([generateKeyPair("EdDSA", { extractable: true }), generateKeyPair("EdDSA", { extractable: true })]);
  pem = await exportSPKI(kontrol.publicKey);
  keys = new KeySet({ trusted: [{ kid: "k1", alg: "EdDSA", pem }] });
});

describe("a kite.key", () => {
  test("says whose it is, who issued it and where its kontrol is", async () => {
    const jwt = await sign({});

    expect(await parseKiteKey(`\n${jwt}  \n`)).toEqual({
      jwt,
      username: "alice",
      issuer: "kontrol",
      id: "key-1",
      issuedAt: 1_760_000_000_000,
      machine: false,
      kontrolUrl: "http://127.0.0.1:4000",
      kontrolKey: { kid: "k1", alg: "EdDSA", pem },
    });
  });

  test("that was changed is refused", async () => {
    const [header, , signature] = (await sign({})).split(".");
    const [, payload] = (await sign({ sub: "root" })).split(".");

    await expect(parseKiteKey([header, payload, signature].join("."))).rejects.toMatchObject({ code: "unauthenticated" });
  });

  test.each<[string, Record<string, unknown>, string]>([
    ["without kontrol's key", { kontrolKey: undefined }, "has no kontrolKey"],
    ["with a key that is none", { kontrolKey: "MIIB" }, "is not a public key in PEM"],
    ["without a user", { sub: undefined }, "has no sub"],
    ["with an address that is none", { kontrolURL: "kontrol:4000" }, 'got "kontrol:4000"'],
    ["with an end", { exp: 4_000_000_000 }, "this is a token"],
    ["with an audience", { aud: "/alice/dev/math/1.0.0/eu/h/1" }, "this is a token"],
  ])("%s is refused", async (_title, claims, reason) => {
    await expect(parseKiteKey(await sign(claims))).rejects.toMatchObject({
      code: "unauthenticated",
      message: expect.stringContaining(reason),
    });
  });

  test.each(["", "nonsense", "a.b.c", "eyJhbGciOiJFZERTQSIsImtpZCI6ImsxIn0.!.x"])("is not read from %j", async (text) => {
    await expect(parseKiteKey(text)).rejects.toMatchObject({ code: "unauthenticated" });
  });

  test("that a stranger signed for himself is whole, but not trusted by kontrol", async () => {
    const own = await sign({ kontrolKey: await exportSPKI(evil.publicKey) }, evil);

    await expect(parseKiteKey(own)).resolves.toMatchObject({ username: "alice" });
    await expect(verifyKiteKey(own, { keys, issuer: "kontrol" })).rejects.toMatchObject({ code: "unauthenticated" });
  });

  test("of this kontrol is trusted by it, one by another name is not", async () => {
    await expect(verifyKiteKey(await sign({}), { keys, issuer: "kontrol" })).resolves.toMatchObject({ id: "key-1" });
    await expect(verifyKiteKey(await sign({ iss: "staging" }), { keys, issuer: "kontrol" })).rejects.toThrow(
      'the kite.key is by "staging"',
    );
  });
});

describe("the file of a kite.key", () => {
  let folder: string;
  let home: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "kite-key-"));
    home = join(folder, "home");
  });

  afterEach(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  test("is written for its owner only, and read back", async () => {
    const jwt = await sign({});

    await writeKiteKey(home, jwt);

    expect(await readKiteKey(home)).toMatchObject({ jwt, username: "alice" });
    expect((await stat(join(home, "kite.key"))).mode & 0o777).toBe(0o400);
    expect((await stat(home)).mode & 0o777).toBe(0o700);
  });

  test("is replaced as a whole, with nothing left beside it", async () => {
    await writeKiteKey(home, await sign({}));
    const rotated = await sign({ jti: "key-2" });

    await writeKiteKey(home, rotated);

    expect(await readKiteKey(home)).toMatchObject({ id: "key-2" });
    expect(await readdir(home)).toEqual(["kite.key"]);
  });

  test("stays as it was when the new key is broken", async () => {
    const jwt = await sign({});
    await writeKiteKey(home, jwt);

    await expect(writeKiteKey(home, `${jwt.slice(0, -8)}AAAAAAAA`)).rejects.toMatchObject({ code: "unauthenticated" });

    expect(await readFile(join(home, "kite.key"), "utf8")).toBe(`${jwt}\n`);
  });

  test.each([0o440, 0o404, 0o600 | 0o040])("is not used when others may read it: %o", async (mode) => {
    await writeKiteKey(home, await sign({}));
    await chmod(join(home, "kite.key"), mode);

    await expect(readKiteKey(home)).rejects.toMatchObject({ code: "failed_precondition", message: expect.stringContaining("chmod 400") });
  });

  test("is not put where others may write", async () => {
    await mkdir(home);
    await chmod(home, 0o777);

    await expect(writeKiteKey(home, await sign({}))).rejects.toMatchObject({
      code: "failed_precondition",
      message: expect.stringContaining("chmod 700"),
    });
    expect(await readdir(home)).toEqual([]);
  });

  test("that is not there is explained", async () => {
    await expect(readKiteKey(home)).rejects.toMatchObject({ code: "not_found", message: expect.stringContaining("KITE_HOME") });
  });

  test("that is not a key is explained with its path, without its content", async () => {
    await mkdir(home);
    await writeFile(join(home, "kite.key"), "secret.rubbish", { mode: 0o400 });

    const error: Error = await readKiteKey(home).catch((thrown) => thrown);

    expect(error).toMatchObject({ code: "unauthenticated", message: expect.stringContaining(join(home, "kite.key")) });
    expect(error.message).not.toContain("rubbish");
  });

  test("cannot be written below a file, and the error says what to set", async () => {
    await writeFile(home, "");

    await expect(writeKiteKey(home, await sign({}))).rejects.toMatchObject({
      code: "failed_precondition",
      message: expect.stringContaining("set KITE_HOME"),
    });
  });
});

function sign(claims: Record<string, unknown>, pair = kontrol): Promise<string> {
  const usual = { iss: "kontrol", sub: "alice", iat: 1_760_000_000, jti: "key-1", kontrolURL: "http://127.0.0.1:4000", kontrolKey: pem };
  const all = Object.fromEntries(Object.entries({ ...usual, ...claims }).filter(([, value]) => value !== undefined));
  return new SignJWT(all).setProtectedHeader({ alg: "EdDSA", kid: "k1" }).sign(pair.privateKey);
}
