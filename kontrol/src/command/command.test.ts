import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import type { AuditEntry, Grant, KiteKeyInfo, Person, SigningKeyInfo } from "../contract.ts";
import { createProgram, runProgram } from "./program.ts";

vi.setConfig({ testTimeout: 30_000 });
const databaseUrl = await freshDatabase();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kontrol-command-"));
  vi.stubEnv("KONTROL_DATABASE_URL", databaseUrl);
  await said("init", "root", "--home", folder, "--port", "4711");
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

test("an account is made, shown, listed and removed", async () => {
  expect(await said("person", "add", "bob", "--name", "Bob", "--email", "bob@example.org")).toBe(
    "bob was added: a person, member; kontrol key issue bob makes a kite.key\n",
  );
  expect(await said("person", "show", "bob")).toMatch(/^bob \(Bob, bob@example\.org\), person, member, active, made .*, from here\n$/);
  expect(await said("person", "add", "kloud", "--service", "--admin")).toContain("a service, administrator");
  const people = await read<Person[]>("person", "list");
  expect(people.map(({ username, kind, admin }) => [username, kind, admin])).toEqual([
    ["bob", "person", false],
    ["kloud", "service", true],
    ["kontrol", "service", true],
    ["root", "person", true],
  ]);
  expect(await read("person", "remove", "bob")).toEqual({ removed: true });
  expect(await said("person", "list")).toMatch(/^USERNAME +NAME +KIND +RANK +STATE +FROM\nbob +Bob +person +member +removed +here\n/);
});

test("who is there already is made an administrator, and nothing is taken for new", async () => {
  await said("person", "add", "olga");

  expect(await said("person", "add", "olga", "--admin")).toMatch(/^olga was there, and is now a person, administrator; /);
  expect(await read("person", "add", "olga", "--admin")).toMatchObject({ created: false, person: { admin: true } });
  expect(await read("person", "add", "gateway", "--service")).toMatchObject({ created: true });
  expect(await said("person", "add", "gateway", "--service", "--admin")).toMatch(
    /^gateway was there, and is now a service, administrator; /,
  );
  expect(await run("person", "add", "olga", "--admin", "--email", "olga@example.org")).toMatchObject({
    code: 1,
    stderr: 'kontrol: the username "olga" is taken; choose another\n',
  });
});

test("who is an administrator stays one unless that is taken away in so many words", async () => {
  await said("person", "add", "gitlab", "--service", "--admin");
  await said("person", "add", "nina", "--admin");

  const refused = await run("person", "add", "gitlab", "--service", "--name", "GitLab");
  const [service, person] = [
    await said("person", "add", "gitlab", "--service", "--no-admin"),
    await said("person", "add", "nina", "--no-admin"),
  ];

  expect(refused).toMatchObject({
    code: 1,
    stderr: 'kontrol: "gitlab" is an administrator, and is left one: say so with --admin, or take that away with --no-admin\n',
  });
  expect(service).toMatch(/^gitlab was there, and is now a service, member; /);
  expect(person).toMatch(/^nina was there, and is now a person, member; /);
});

test("a kite.key that init cannot write is not left behind as a good one", async () => {
  const open = join(folder, "open");
  await mkdir(open);
  await chmod(open, 0o777);

  const answer = await run("init", "mira", "--home", open);

  expect(answer).toMatchObject({ code: 1, stderr: expect.stringContaining("others may write to it, so no kite.key is put there") });
  expect(await read<KiteKeyInfo[]>("key", "issued", "mira")).toMatchObject([{ revokedAt: expect.any(String) }]);
});

test("the name that a person gave himself steers no administrator's terminal", async () => {
  await said("person", "add", "eve", "--name", "Eve\x1b]0;root\x07\x1b[2J\u009b1A\u202Etxt.exe");

  for (const shown of [await said("person", "show", "eve"), await said("person", "list")]) {
    expect(shown).toContain("Eve ]0;root [2J 1A txt.exe");
    expect(shown.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Bidi_Control}]/u);
  }
});

test("signing keys are listed, added and retired, and the last one stays", async () => {
  const [first] = await read<SigningKeyInfo[]>("key", "list");
  const added = await read<SigningKeyInfo>("key", "add");
  expect(await said("key", "retire", String(first?.kid))).toContain("signs no more; what it signed is believed until");

  const keys = await read<SigningKeyInfo[]>("key", "list");
  expect(keys.map(({ kid, state }) => [kid, state])).toEqual([
    [added.kid, "active"],
    [first?.kid, "retired"],
  ]);
  expect(await said("key", "list")).toMatch(/^KEY +ALGORITHM +STATE +MADE +RETIRED\n\S+ +EdDSA +signs .*\n\S+ +EdDSA +retired .*\n$/);
  expect(await run("key", "retire", added.kid)).toMatchObject({ code: 1, stderr: expect.stringContaining("the only active EdDSA key") });
});

test("a signing key that others may have is ended at once, and the kite.keys that it signed with it", async () => {
  await said("person", "add", "vera");
  const [stolen] = await read<SigningKeyInfo[]>("key", "list");
  await said("key", "issue", "vera", "--print");
  await said("key", "add");

  const ended = await said("key", "retire", String(stolen?.kid), "--now");

  expect(ended).toBe(
    `nothing that ${stolen?.kid} signed is believed any more; one kite.key has ended with it: kontrol key issued lists it, kontrol key issue makes a new one\n`,
  );
  expect((await read<SigningKeyInfo[]>("key", "list")).find(({ kid }) => kid === stolen?.kid)).toMatchObject({ state: "revoked" });
  expect(await read("key", "issued", "vera")).toMatchObject([{ revokedAt: expect.any(String) }]);
});

test("a kite.key goes into a file for its owner alone, and is printed only when that is asked for", async () => {
  await said("person", "add", "carol");
  const file = join(folder, "carol.key");

  const answer = await run("key", "issue", "carol", "--out", file, "--url", "https://kontrol.example.org");
  const printed = await said("key", "issue", "carol", "--print", "--alg", "RS256", "--url", "https://kontrol.example.org");

  const written = await readFile(file, "utf8");
  expect((await stat(file)).mode & 0o777).toBe(0o400);
  expect(answer.stdout).toBe(`the kite.key of carol is at ${file}, and sends its bearer to https://kontrol.example.org\n`);
  expect(answer.stdout + answer.stderr).not.toContain(written.trim());
  expect(claimsOf(written)).toMatchObject({ sub: "carol", kontrolURL: "https://kontrol.example.org" });
  expect(claimsOf(printed)).toMatchObject({ sub: "carol", kontrolURL: "https://kontrol.example.org/kite" });
  const issued = await read<KiteKeyInfo[]>("key", "issued", "carol");
  expect(issued.map(({ jti }) => jti)).toEqual([claimsOf(printed)["jti"], claimsOf(written)["jti"]]);
  expect(await read("key", "revoke", String(issued[0]?.jti))).toEqual({ revoked: true });
  expect((await read<KiteKeyInfo[]>("key", "issued"))[0]).toMatchObject({ username: "carol", revokedAt: expect.any(String) });
});

test("a key that has no place is not made, and one that cannot be made leaves no file", async () => {
  const file = join(folder, "taken.key");
  await writeFile(file, "mine");

  const taken = await run("key", "issue", "root", "--out", file);
  const nobody = await run("key", "issue", "nobody", "--out", join(folder, "nobody.key"));

  expect(taken).toMatchObject({ code: 1, stderr: expect.stringContaining("there is a file") });
  expect(await readFile(file, "utf8")).toBe("mine");
  expect(await read<KiteKeyInfo[]>("key", "issued", "root")).toHaveLength(1);
  expect(nobody).toMatchObject({ code: 1, stderr: 'kontrol: there is no active account "nobody"\n' });
  await expect(stat(join(folder, "nobody.key"))).rejects.toMatchObject({ code: "ENOENT" });
});

test("a grant is given for somebody, listed by either side, and removed", async () => {
  await said("person", "add", "dora");
  await said("person", "add", "emil");

  const grant = await read<Grant>("grant", "add", "dora", "klient", "emil", "--role", "operator", "--until", "8h");

  expect(grant).toMatchObject({ owner: "dora", username: "emil", role: "operator", query: { username: "dora", name: "klient" } });
  expect(Number(grant.expiresAt) - Date.now()).toBeLessThanOrEqual(8 * 60 * 60_000);
  expect(await read("grant", "list", "--owner", "dora")).toEqual([grant]);
  expect(await read("grant", "list", "--to", "emil")).toEqual([grant]);
  expect(await read("grant", "list", "--to", "dora")).toEqual([]);
  expect(await said("grant", "list")).toMatch(/^ID +OWNER +TO +ROLE +KITES +UNTIL\n.* dora +emil +operator /);
  expect(await read("grant", "remove", grant.id)).toEqual({ removed: true });
});

test("a team is made for somebody, gets members and a grant, and ends with it", async () => {
  for (const username of ["gina", "hugo", "ines"]) await said("person", "add", username);

  expect(await read("team", "create", "night-shift", "--maintainer", "gina")).toEqual({
    name: "night-shift",
    members: [{ username: "gina", role: "maintainer" }],
  });
  expect(await said("team", "add", "night-shift", "hugo", "--role", "maintainer")).toBe("hugo is maintainer of night-shift\n");
  await said("team", "add", "night-shift", "ines");
  expect(await read("team", "remove-member", "night-shift", "ines")).toEqual({ removed: true });
  const grant = await read<Grant>("grant", "add", "ines", "/ines", "--team", "night-shift");

  expect(await said("team", "show", "night-shift")).toMatch(/^USERNAME +ROLE\ngina +maintainer\nhugo +maintainer\n$/);
  expect(await said("team", "list")).toMatch(/^TEAM +MEMBERS\nnight-shift +2\n$/);
  expect(await read("grant", "list", "--team", "night-shift")).toEqual([grant]);
  expect(await said("team", "remove", "night-shift")).toBe("the team night-shift has ended, and what was given to it\n");
  expect(await read("grant", "list", "--team", "night-shift")).toEqual([]);
});

test.each<[string[], string]>([
  [["person", "remove", "bbo"], "there is nobody called bbo; kontrol person list shows everybody"],
  [["team", "remove", "osp"], "there is no team osp; kontrol team list shows those that there are"],
  [["team", "remove-member", "osp", "bbo"], "bbo is in no team osp; kontrol team list shows those that there are"],
  [["grant", "remove", "g1"], "there is no grant g1; kontrol grant list shows those that there are"],
  [["key", "revoke", "j1"], "there is no kite.key j1 that could be revoked; kontrol key issued shows those that were issued"],
  [["key", "retire", "k1"], "there is no active key k1; kontrol key list shows those that there are"],
  [["key", "retire", "k1", "--now"], "there is no key k1 that could be ended; kontrol key list shows those that there are"],
])("%j fails where there is nothing to end, so that a script with a misspelt id does not go on", async (command, sentence) => {
  const failed = { code: 1, stdout: "", stderr: `kontrol: ${sentence}\n` };

  expect(await run(...command)).toEqual(failed);
  expect(await run(...command, "--json")).toEqual(failed);
});

test("the audit log names who ran the command, page by page", async () => {
  await said("person", "add", "fred");

  const page = await read<{ entries: AuditEntry[]; next: number | null }>("audit", "--subject", "fred", "--limit", "1");
  const more = await run("audit", "--limit", "1");

  expect(page.entries).toMatchObject([{ actor: `kontrol (${userInfo().username})`, action: "people.create", subject: "fred" }]);
  expect(more.stdout).toMatch(/^WHEN +WHO +DID +TO +DETAILS\n.*people\.create +fred +\{\}\n$/);
  expect(more.stderr).toMatch(/^there is more: --before \d+\n$/);
});

test.each<[string, string[], number, string]>([
  ["a role that is none", ["grant", "add", "root", "math", "kontrol", "--role", "admin"], 2, "Allowed choices are viewer, operator, owner"],
  [
    "a time that is none",
    ["grant", "add", "root", "math", "kontrol", "--until", "soon"],
    2,
    '--until is a time such as 30m, 8h, 7d or 2030-01-31T18:00, got "soon"',
  ],
  ["a time that is over", ["grant", "add", "root", "math", "kontrol", "--until", "2020-01-01"], 2, '--until is in the past: "2020-01-01"'],
  ["a grant on what a variable should have named", ["grant", "add", "root", "", "kontrol"], 2, "which kites is empty"],
  ["a grant for nobody", ["grant", "add", "root", "math"], 2, "a grant is for one"],
  ["a grant for two", ["grant", "add", "root", "math", "a", "--team", "b"], 2, "a grant is for one"],
  ["a team of nobody", ["team", "create", "ops", "--maintainer", "nobody"], 1, 'there is nobody called "nobody"'],
  ["two places for one key", ["key", "issue", "root", "--print", "--out", "x"], 2, "--print and --out are two places"],
  ["a username that is a path", ["key", "issue", "../root"], 2, "is no name of a file"],
  ["a reserved username", ["person", "add", "anonymous"], 1, "this username is reserved"],
  ["a username that is taken", ["person", "add", "root"], 1, 'the username "root" is taken'],
  ["somebody else's name for a service", ["person", "add", "root", "--service"], 1, 'there is a person called "root" already'],
  ["an algorithm that is none", ["key", "add", "--alg", "HS256"], 2, "Allowed choices are EdDSA, RS256"],
  ["a limit that is none", ["audit", "--limit", "many"], 2, '--limit is a whole number from 1 to 1000, got "many"'],
  ["a limit that is too large", ["key", "issued", "--limit", "1001"], 2, '--limit is a whole number from 1 to 1000, got "1001"'],
  ["a limit that was not filled in", ["key", "issued", "--limit", ""], 2, '--limit is a whole number from 1 to 1000, got ""'],
  ["a page that is none", ["audit", "--before", "-1"], 2, '--before is a whole number from 1, got "-1"'],
  ["a grant on the kites of nobody", ["grant", "add", "nobody", "math", "root"], 1, 'there is nobody called "nobody"'],
  ["a misspelt command", ["person", "lst"], 2, "unknown command 'lst' (Did you mean list?)"],
  ["a misspelt flag", ["serve", "--prot", "1"], 2, "unknown option '--prot' (Did you mean --port?)"],
  ["a flag without a value", ["serve", "--port"], 2, "option '--port <port>' argument missing"],
  ["a flag before another's place", ["serve", "--host", "--port=1"], 2, "--host stands there without a value"],
])("%s is refused with a sentence", async (_title, args, code, sentence) => {
  const answer = await run(...args);

  expect(answer).toMatchObject({ code, stdout: "", stderr: expect.stringContaining(sentence) });
  expect(answer.stderr).toMatch(/^kontrol: [^\n]+\n$/);
});

test("a database without a mesh is left as it is", async () => {
  const empty = await freshDatabase();

  const answer = await run("person", "list", "--database-url", empty);

  expect(answer).toMatchObject({ code: 1, stderr: expect.stringContaining("there is no mesh in this database; kontrol init makes one") });
  const client = new pg.Client({ connectionString: empty });
  await client.connect();
  const { rows } = await client.query("select 1 from pg_namespace where nspname = 'kontrol'");
  await client.end();
  expect(rows).toEqual([]);
});

test("a command is no kontrol: it enters neither a lease nor a beat", async () => {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const { rows } = await client.query(
    "select (select count(*)::int from kontrol.kites) as kites, (select count(*)::int from kontrol.replicas) as replicas",
  );
  await client.end();

  expect(rows).toEqual([{ kites: 0, replicas: 0 }]);
});

test("every command says what it does, and every setting which variable it is", () => {
  const commands = all(createProgram());

  expect(commands.length).toBeGreaterThan(15);
  for (const command of commands) {
    expect(command.description(), command.name()).not.toBe("");
    for (const option of command.options) expect(option.description, `${command.name()} ${option.flags}`).not.toBe("");
  }
});

function all(command: Command): Command[] {
  return command.commands.flatMap((inner) => [inner, ...all(inner)]);
}

/** What a command prints that has to succeed. */
async function said(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(...args);
  expect([code, stderr.startsWith("kontrol:") ? stderr : ""]).toEqual([0, ""]);
  return stdout;
}

async function read<T>(...args: string[]): Promise<T> {
  return JSON.parse(await said(...args, "--json")) as T;
}

/** Runs a command in this process. */
async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const streams = { stdout: "", stderr: "" };
  const spies = (["stdout", "stderr"] as const).map((name) =>
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      streams[name] += String(text);
      return true;
    }),
  );
  const before = process.exitCode;
  try {
    process.exitCode = 0;
    await runProgram(["node", "kontrol", ...args]);
    return { code: Number(process.exitCode), ...streams };
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.exitCode = before;
  }
}

function claimsOf(jwt: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(jwt.trim().split(".")[1] ?? "", "base64url").toString("utf8")) as Record<string, unknown>;
}
