import { createHash } from "node:crypto";
import { type Bus, KiteError, type Logger, type Subscription } from "@kite-mesh/kite";
import type { ExternalIdentity, NewPerson, Person } from "@kite-mesh/kontrol/contract";
import { z } from "zod";
import type { Database } from "./database.ts";
import type { GitlabEvent } from "./dispatch.ts";

export interface PeopleOptions {
  bus: Bus;
  database: Database;
  log: Logger;
  /** kontrol's `people.create`. */
  createPerson: (person: NewPerson) => Promise<{ person: Person; created: boolean }>;
  /** The name of the person whom kontrol knows by this identity, also after they were removed. */
  findUsername: (external: ExternalIdentity) => Promise<string | undefined>;
  /** kontrol's `people.remove`, by the identity at GitLab. */
  removePerson: (external: ExternalIdentity) => Promise<{ removed: boolean; username?: string }>;
  /** kloud's `stack.release`. */
  releaseStacks: (username: string) => Promise<unknown>;
  /** Ends what the person has open at the gateway itself. */
  signOut: (username: string) => Promise<unknown>;
}

/**
 * Keeps the mesh's people like GitLab's: `user_create` makes a person, `user_destroy` ends their access and their
 * machines. Both may come twice, and in any order: who was destroyed once stays away, as GitLab never gives a user's id
 * to another one. Only system hooks count; a project's hook could say anything.
 */
export function followPeople(options: PeopleOptions): AsyncDisposable {
  const subscriptions: Subscription[] = [
    options.bus.subscribe("gitlab.*.system.user_create", (event) => onCreated(event as GitlabEvent, options)),
    options.bus.subscribe("gitlab.*.system.user_destroy", (event) => onDestroyed(event as GitlabEvent, options)),
  ];
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(subscriptions.map((subscription) => subscription[Symbol.asyncDispose]()));
    },
  };
}

/**
 * Names for a person in the order in which they are tried: as at GitLab, in small letters, lest "Alice" passes for an
 * "alice" who was here before. It may be taken; the last one has the person's id in it, and cannot be.
 */
export function usernamesFor(gitlabUsername: string, external: ExternalIdentity): string[] {
  const plain = gitlabUsername
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "");
  const base = plain.slice(0, MAX_BASE).replace(/[^a-z0-9]+$/, "") || "user";
  const numbered = Array.from({ length: NUMBERED }, (_, index) => `${base}-${index + 2}`);
  const place = createHash("sha256").update(external.issuer).digest("hex").slice(0, 6);
  return [base, ...numbered, `${base}-${external.subject}-${place}`];
}

// kontrol takes 128 characters, and what is put behind the name needs its share.
const MAX_BASE = 64;
const NUMBERED = 8;

const UserId = z.union([z.int().positive(), z.string().regex(/^\d{1,20}$/)]).transform(String);

const Destroyed = z.looseObject({ user_id: UserId });
const Created = z.looseObject({
  user_id: UserId,
  username: z.string().min(1).max(255),
  name: z.string().optional(),
  email: z.string().optional(),
});

async function onCreated(event: GitlabEvent, options: PeopleOptions): Promise<void> {
  const { log, database } = options;
  const user = read(Created, event);
  const external = { issuer: event.instance, subject: user.user_id };
  if (await hasDeparted(database, external)) {
    log.info({ ...external, delivery: event.deliveryId }, "a user_create came after the user_destroy of the same user; nobody was made");
    return;
  }
  const { person, created } = await createUnderFreeName(user, external, options);
  log.info({ ...external, username: person.username, created, delivery: event.deliveryId }, "a GitLab user is a person of the mesh");
}

async function createUnderFreeName(user: z.infer<typeof Created>, external: ExternalIdentity, { createPerson }: PeopleOptions) {
  const about = { name: user.name?.trim() || user.username, ...(user.email?.includes("@") ? { email: user.email } : {}), external };
  const names = usernamesFor(user.username, external);
  for (const username of names) {
    try {
      return await createPerson({ username, ...about });
    } catch (thrown) {
      // Taken, or reserved by kontrol; the last one is neither.
      const { code } = KiteError.from(thrown);
      if ((code !== "already_exists" && code !== "invalid_argument") || username === names.at(-1)) throw thrown;
    }
  }
  throw new KiteError("internal", `there was no name to try for GitLab user ${external.subject}`);
}

async function onDestroyed(event: GitlabEvent, options: PeopleOptions): Promise<void> {
  const { database, log, findUsername, removePerson, releaseStacks, signOut } = options;
  const external = { issuer: event.instance, subject: read(Destroyed, event).user_id };
  // First, so that nothing which comes late can bring the person back, whatever happens below.
  await database.query(REMEMBER_DEPARTED, [external.issuer, external.subject]);
  // Before the removal: a try that comes after it must still know whose machines to release.
  const username = await findUsername(external);
  await removePerson(external);
  if (username === undefined) {
    log.info({ ...external, delivery: event.deliveryId }, "a GitLab user was destroyed who has never been a person of the mesh");
    return;
  }
  await signOut(username);
  await releaseStacks(username);
  log.info({ ...external, username, delivery: event.deliveryId }, "a person has left; their access and their machines are ended");
}

const REMEMBER_DEPARTED = "insert into gateway.departed_people (issuer, subject) values ($1, $2) on conflict do nothing";

async function hasDeparted(database: Database, { issuer, subject }: ExternalIdentity): Promise<boolean> {
  const { rowCount } = await database.query("select from gateway.departed_people where issuer = $1 and subject = $2", [issuer, subject]);
  return rowCount === 1;
}

function read<T>(schema: z.ZodType<T>, event: GitlabEvent): T {
  const result = schema.safeParse(event.body);
  if (result.success) return result.data;
  const issues = result.error.issues.map((issue) => `${issue.path.join(".") || "the body"}: ${issue.message}`).join("; ");
  throw new KiteError("invalid_argument", `${event.kind} of ${event.instance} cannot be read (${issues})`);
}
