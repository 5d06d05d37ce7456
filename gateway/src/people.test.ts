import { type Bus, KiteError, memoryBus } from "@kite-mesh/kite";
import type { ExternalIdentity, NewPerson, Person } from "@kite-mesh/kontrol/contract";
import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { type Database, openDatabase } from "./database.ts";
import type { GitlabEvent } from "./dispatch.ts";
import { followPeople, usernamesFor } from "./people.ts";

const silent = pino({ enabled: false });
let database: Database;
let bus: Bus;
let mesh: ReturnType<typeof smallMesh>;
let people: AsyncDisposable;

beforeAll(async () => {
  database = await openDatabase(await freshDatabase(), silent);
}, 60_000);

afterAll(() => database?.end());

beforeEach(async () => {
  await database.query("truncate gateway.departed_people");
  bus = memoryBus();
  mesh = smallMesh();
  people = followPeople({ bus, database, log: silent, ...mesh });
  return async () => {
    await people[Symbol.asyncDispose]();
    await bus[Symbol.asyncDispose]();
  };
});

const created = { event_name: "user_create", user_id: 41, username: "Js.Smith", name: "John Smith", email: "js@git.example" };
const destroyed = { event_name: "user_destroy", user_id: 41, username: "Js.Smith", name: "John Smith", email: "js@git.example" };

test("user_create makes a person under a name that kontrol takes, known by the lasting id at GitLab", async () => {
  await publish(created);

  expect(mesh.persons).toMatchObject([
    { username: "js.smith", name: "John Smith", email: "js@git.example", external: [{ issuer: "https://git.example", subject: "41" }] },
  ]);
});

test("the same user_create twice makes one person", async () => {
  await publish(created);
  await publish(created);

  expect(mesh.persons).toHaveLength(1);
});

test("a name that is taken gets a number", async () => {
  mesh.take("js.smith");
  mesh.take("js.smith-2");

  await publish(created);

  expect(mesh.persons.at(-1)?.username).toBe("js.smith-3");
});

test("a name that is reserved gets a number", async () => {
  await publish({ ...created, username: "kontrol" });

  expect(mesh.persons).toMatchObject([{ username: "kontrol-2" }]);
});

test("user_destroy ends access, sessions and machines of the person with that id, whatever their names", async () => {
  mesh.take("js.smith");
  await publish(created);

  await publish({ ...destroyed, username: "renamed-since" });

  expect(mesh.persons.find(({ username }) => username === "js.smith-2")?.state).toBe("removed");
  expect(mesh.persons.find(({ username }) => username === "js.smith")?.state).toBe("active");
  expect(mesh.signedOut).toEqual(["js.smith-2"]);
  expect(mesh.released).toEqual(["js.smith-2"]);
});

test("a user_destroy that comes again does no harm", async () => {
  await publish(created);
  await publish(destroyed);

  await publish(destroyed);

  expect(mesh.persons).toMatchObject([{ state: "removed" }]);
  expect(new Set(mesh.released)).toEqual(new Set(["js.smith"]));
});

test("a user_create that comes after the user_destroy resurrects nobody", async () => {
  await publish(destroyed);
  await publish(created);
  expect(mesh.persons).toEqual([]);

  await publish({ ...created, user_id: 42 });
  expect(mesh.persons).toHaveLength(1);
});

test("when kloud was away, the next try releases the machines, though kontrol knows of nobody to remove any more", async () => {
  await publish(created);
  mesh.kloudIsAway = true;
  await expect(publish(destroyed)).rejects.toMatchObject({ code: "unavailable" });
  expect(mesh.persons).toMatchObject([{ state: "removed" }]);

  mesh.kloudIsAway = false;
  await publish(destroyed);

  expect(mesh.released).toEqual(["js.smith"]);
});

test("the same id at another instance is another person", async () => {
  await publish(created);
  await publish(created, "https://other.example");
  expect(mesh.persons.map(({ username }) => username)).toEqual(["js.smith", "js.smith-2"]);

  await publish(destroyed, "https://other.example");

  expect(mesh.persons.map(({ state }) => state)).toEqual(["active", "removed"]);
});

test("a hook that is not a system hook makes and removes nobody", async () => {
  await publish(created);
  await bus.publish("gitlab.git_example.project.user_destroy", event(destroyed));
  await bus.publish("gitlab.git_example.group.user_create", event({ ...created, user_id: 7 }));

  expect(mesh.persons).toMatchObject([{ state: "active" }]);
});

test.each([
  ["no user_id", { ...created, user_id: undefined }],
  ["a user_id that is no id", { ...created, user_id: "me" }],
  ["a user_id of no use", { ...created, user_id: -1 }],
  ["no username", { ...created, username: "" }],
  ["no object", []],
])("a user_create with %s is refused for good, with what is wrong", async (_what, body) => {
  await expect(bus.publish("gitlab.git_example.system.user_create", event(body))).rejects.toMatchObject({
    code: "invalid_argument",
    message: expect.stringContaining("user_create of https://git.example cannot be read"),
  });
});

test("a redacted mail address is not taken for one", async () => {
  await publish({ ...created, email: "[REDACTED]" });

  expect(mesh.persons).toMatchObject([{ email: null }]);
});

test("without a name, the person is called as at GitLab", async () => {
  await publish({ event_name: "user_create", user_id: 41, username: "js" });

  expect(mesh.persons).toMatchObject([{ username: "js", name: "js" }]);
});

test.each([
  ["root", "root"],
  ["Js.Smith_2", "js.smith_2"],
  ["Żółć ążą", "zo-c-aza"],
  ["42", "42"],
  ["---", "user"],
  ["张伟", "user"],
  ["_under_", "under"],
  ["../etc/passwd", "etc-passwd"],
  ["x".repeat(255), "x".repeat(64)],
  [`${"x".repeat(63)}.y`, "x".repeat(63)],
])("for %s the first name tried is %s", (gitlab, name) => {
  const names = usernamesFor(gitlab, { issuer: "https://git.example", subject: "41" });

  expect(names[0]).toBe(name);
  expect(names[1]).toBe(`${name}-2`);
  expect(names.at(-1)).toMatch(/-41-[0-9a-f]{6}$/);
  for (const candidate of names) expect(candidate).toMatch(/^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$/);
});

function publish(body: object, instance = "https://git.example"): Promise<void> {
  const { event_name } = body as { event_name: string };
  return bus.publish(`gitlab.x.system.${event_name}`, event(body, instance));
}

function event(body: unknown, instance = "https://git.example"): GitlabEvent {
  const kind = (body as { event_name?: string }).event_name ?? "user_create";
  return {
    deliveryId: "1",
    instance,
    webhookId: "w",
    scope: "system",
    kind,
    action: null,
    receivedAt: "2030-01-01T00:00:00Z",
    replayed: false,
    body,
  };
}

/** As much of kontrol and kloud as their contracts promise about people. */
function smallMesh() {
  const persons: Person[] = [];
  const find = ({ issuer, subject }: ExternalIdentity) =>
    persons.find((one) => one.external.some((is) => is.issuer === issuer && is.subject === subject));
  const state = {
    persons,
    released: [] as string[],
    signedOut: [] as string[],
    kloudIsAway: false,
    take: (username: string) => persons.push(personOf({ username })),
    async createPerson(request: NewPerson) {
      if (request.username === "kontrol") throw new KiteError("invalid_argument", "this username is reserved");
      const known = request.external && find(request.external);
      if (known) return { person: known, created: false };
      if (persons.some(({ username }) => username === request.username))
        throw new KiteError("already_exists", `${request.username} is taken`);
      const person = personOf(request);
      persons.push(person);
      return { person, created: true };
    },
    findUsername: async (external: ExternalIdentity) => find(external)?.username,
    async removePerson(external: ExternalIdentity) {
      const person = find(external);
      if (person === undefined || person.state === "removed") return { removed: false };
      person.state = "removed";
      return { removed: true, username: person.username };
    },
    async releaseStacks(username: string) {
      if (state.kloudIsAway) throw new KiteError("unavailable", "kloud is away");
      state.released.push(username);
    },
    async signOut(username: string) {
      state.signedOut.push(username);
    },
  };
  return state;
}

function personOf({ username, name = username, email, external }: NewPerson): Person {
  const about = { username, name, email: email ?? null, external: external ? [external] : [] };
  return { ...about, kind: "person", admin: false, state: "active", createdAt: "2030-01-01T00:00:00Z" };
}
