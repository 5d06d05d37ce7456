import {
  type Call,
  type ContractOf,
  type Identity,
  type IssuedToken,
  KiteError,
  type Logger,
  method,
  type Narrower,
  type PublicJwk,
  type Query,
  type Registered,
} from "@kite-mesh/kite";
import type { Pool } from "pg";
import type { Grant, KontrolContract, NewPerson, SigningKeyInfo } from "./contract.ts";
import { type Actor, audit, listAudit } from "./database/audit.ts";
import type { GrantRecord } from "./database/record.ts";
import type { Fresh } from "./directory/freshness.ts";
import { departed, findKites, findToken, type QueryOptions, why } from "./directory/query.ts";
import type { Watchers } from "./directory/watch.ts";
import { checkThere, whyDespite } from "./directory/why-from-memory.ts";
import { type Asked, keptKites, writeKites } from "./directory/written-answers.ts";
import { roleOf } from "./entry/authenticate.ts";
import { createJoinToken } from "./entry/join-tokens.ts";
import { checkLasting } from "./entry/lasting.ts";
import { loginMethods, setPasswordMethod } from "./entry/login-methods.ts";
import { enter, enterOlder, type SignInServices } from "./entry/sign-in.ts";
import type { OlderRegistrations } from "./older/older-registrations.ts";
import { OlderWatches, type WatchCallback } from "./older/older-watches.ts";
import { addGrant, type NewGrant, removeGrant } from "./people/grants.ts";
import { createPerson, getPerson, listPeople, removePerson } from "./people/people.ts";
import { actor, teamMethods } from "./people/team-methods.ts";
import type { Registrar } from "./presence/registrar.ts";
import * as schemas from "./schemas.ts";
import { issueKiteKey, listKiteKeys, revokeKiteKey } from "./trust/kite-keys.ts";
import type { SigningKey } from "./trust/signing-keys.ts";

export interface Services extends QueryOptions, SignInServices {
  readonly pool: Pool;
  readonly fresh: Fresh;
  readonly registrar: Registrar;
  readonly watchers: Watchers;
  readonly older: OlderRegistrations;
  readonly logger: Logger;
  /** kontrol itself. */
  readonly identity: Identity;
}

/** What is needed where nobody calls: to administer the mesh on its database alone. */
export type Administered = Omit<Services, "registrar" | "watchers" | "older" | "deviceCodes" | "logger" | "random">;

/** What needs neither a session nor a kite that is here; whoever runs kontrol calls it in a process of his own, too. */
export function administrationMethods(services: Administered) {
  return {
    joinTokens: joinTokenMethods(services),
    people: peopleMethods(services),
    grants: grantMethods(services),
    teams: teamMethods(services),
    keys: keyMethods(services),
    audit: { list: method({ role: "owner", input: schemas.audited }, (asked = {}) => listAudit(services.pool, asked)) },
  };
}

/** What kontrol serves. `viewer` is every account, `owner` is an administrator; the rest is about what is one's own. */
export function kontrolMethods(services: Services) {
  return {
    ...registryMethods(services),
    ...entryMethods(services),
    ...administrationMethods(services),
  };
}

/**
 * What is served, for callers. Does not compile when a method of the contract is missing or has another shape.
 *
 * @public
 */
export type ServedContract = Fulfils<ContractOf<ReturnType<typeof kontrolMethods>>>;
type Fulfils<Served extends KontrolContract> = Served;

// Read from memory; 10,000 older kites of one account ask once each when they start.
const KEYS_ASKED = { calls: 6_000, perMs: 60_000, burst: 10_000 };

function registryMethods(services: Services) {
  const { registrar, watchers, older, directory, fresh } = services;
  const olderWatches = new OlderWatches(services);
  const find = async (asked: Asked, call: Call) => {
    await knowing(asked.query, call, services);
    return writeKites(asked, call, services);
  };
  const findAndWatch = async (query: Query, callback: WatchCallback, call: Call) => {
    await knowing(query, call, services);
    const found = await findKites(query, call, services);
    return { ...found, watcherID: olderWatches.start(query, found, callback, call) };
  };
  return {
    register: method({ role: "viewer", input: schemas.register }, (register, call) =>
      "kite" in register ? registrar.register(register, call) : outsideContract<Registered>(older.register(register, call)),
    ),
    updateLabels: method({ role: "viewer", input: schemas.labelChange }, ({ labels }, call) => registrar.updateLabels(labels, call)),
    getKites: method({ role: "viewer", input: schemas.olderGetKites }, ({ query, known, watchCallback, watchHandler }, call) => {
      const callback = watchCallback ?? watchHandler;
      if (callback) return findAndWatch(query, callback, call);
      const asked = { query, known };
      return keptKites(asked, call, services) ?? find(asked, call);
    }),
    cancelWatcher: method({ role: "viewer", input: schemas.watcherId }, (watcherID, call) => olderWatches.cancel(watcherID, call)),
    watch: method({ role: "viewer", input: schemas.watched }, async ({ query, since }, { caller }) => {
      // It was seen at another replica, perhaps: a snapshot from before it would take back what the watcher was told.
      if (since !== undefined && Number(since) > directory.revision) await fresh(directory.revision);
      return watchers.watch({ query, since, username: caller.username, until: caller.expiresAt, written: true });
    }),
    getToken: method({ role: "viewer", input: schemas.getToken }, (asked, call) =>
      "query" in asked ? narrowerToken(asked, call, services) : outsideContract<IssuedToken>(olderToken(asked, call, services)),
    ),
    getKey: method({ role: "viewer", throttle: KEYS_ASKED }, (call) => publicKeys(call, services)),
  };
}

/** Who names a kite by its id was told of it, or of a grant on it, perhaps by another replica and a moment ago. */
async function knowing(query: Query, { caller }: Call, { directory, fresh, now }: Services): Promise<void> {
  if (!query.id || !directory.find(query, caller.username, now())[Symbol.iterator]().next().done) return;
  await fresh(directory.revision);
}

async function narrowerToken(
  { query, renew = false, ...less }: { query: Query; renew?: boolean } & Narrower,
  call: Call,
  services: Services,
): Promise<IssuedToken> {
  await knowing(query, call, services);
  // One with an end of its own is as good as unique, and would only fill what is kept.
  return findToken(query, call, { ...services, less, renew: renew || less.ttlMs !== undefined });
}

/** What an older kite is answered. Only such a kite asks in that form, so the contract knows nothing of it. */
function outsideContract<T>(answer: Promise<unknown>): Promise<T> {
  return answer as Promise<T>;
}

type OlderTokenRequest = { [K in keyof Query]?: Query[K] | undefined } & { force?: boolean | null | undefined };

/** A token as text, for a query that is not wrapped. The sentences are those by which older kites tell what happened. */
async function olderToken({ force, ...query }: OlderTokenRequest, call: Call, services: Services): Promise<string> {
  try {
    const { token } = await findToken(query as Query, call, { ...services, renew: force === true });
    return token;
  } catch (thrown) {
    const error = KiteError.from(thrown);
    const sentence = { not_found: "no kites found", failed_precondition: "query matches more than one kite" }[error.code as string];
    throw sentence === undefined ? error : new KiteError(error.code, `${sentence}: ${error.message}`, { cause: error });
  }
}

/** Every key that verifies; to a kite that can only read RS256, the one that signs for it, as PEM. */
function publicKeys({ caller }: Call, { keys }: Services): { keys: PublicJwk[]; current: string } {
  const own = keys.get(caller.credential?.kid ?? "");
  if (caller.credential?.type !== "kiteKey" || own?.alg !== "RS256") return { keys: keys.publicKeys(), current: keys.current.kid };
  return (keys.currentOf("RS256") ?? own).publicPem as unknown as ReturnType<typeof publicKeys>; // see outsideContract
}

// A row by its id, of six connections that everything else needs, too; `kite why` asks for 20 at once.
const WHY = { concurrency: { running: 3, waiting: 500 }, throttle: { calls: 3_000, perMs: 60_000 } };
// Ten thousand rows are read for one, in some tens of milliseconds.
const DEPARTED = { concurrency: { running: 2, waiting: 50 }, throttle: { calls: 300, perMs: 60_000 } };

function entryMethods(services: Services) {
  const { directory, registrar } = services;
  return {
    registerMachine: method({ role: "anyone", input: schemas.registerMachine }, async (asked, call) =>
      "authType" in asked
        ? outsideContract<{ kiteKey: string }>(enterOlder(asked, call, services))
        : { kiteKey: await enter(asked, call, services) },
    ),
    login: loginMethods(services),
    whoami: method({ role: "viewer" }, ({ caller }) => {
      const account = directory.account(caller.username);
      if (account === undefined) throw new KiteError("unauthenticated", "the account is gone");
      return { username: account.username, admin: account.admin, kind: account.kind };
    }),
    why: method({ role: "viewer", input: schemas.id, ...WHY }, ({ id }, call) =>
      whyDespite(() => why(id, call, { ...services, pulse: (held) => registrar.held(held)?.pulse }), id, call, {
        ...services,
        isHere: (held) => registrar.held(held) !== undefined,
      }),
    ),
    departed: method({ role: "viewer", input: schemas.queried, ...DEPARTED }, async ({ query }, call) => {
      checkThere(services.follower);
      return departed(query, call, services);
    }),
  };
}

function joinTokenMethods({ log, directory, guard, now }: Administered) {
  return {
    create: method({ role: "owner", input: schemas.newJoinToken }, (request, call) => {
      checkLasting(call, directory);
      guard.spend("joinTokensPerAccount", request.username);
      return createJoinToken(log, request, call.caller.username, now());
    }),
  };
}

function peopleMethods(services: Administered) {
  const { pool, log, follower, now } = services;
  return {
    list: method({ role: "owner" }, () => listPeople(pool)),
    get: method({ role: "viewer", input: schemas.named }, ({ username }, { caller }) => {
      if (username !== caller.username && caller.role !== "owner")
        throw new KiteError("permission_denied", "others are shown to administrators only");
      return getPerson(pool, username);
    }),
    create: method({ role: "owner", input: schemas.newPerson }, async (person, { caller }) => {
      const { result, revision } = await createPerson(log, person as NewPerson, caller.username);
      await follower.reached(revision);
      return result;
    }),
    remove: method({ role: "owner", input: schemas.whom }, async (whom, { caller }) => {
      const { result, revision } = await removePerson(log, whom, caller.username, now);
      await follower.reached(revision);
      return result;
    }),
    hasPassword: method({ role: "viewer" }, ({ caller }) => services.passwords.has(caller.username)),
    setPassword: setPasswordMethod(services),
    token: method({ role: "owner", input: schemas.onBehalf }, (asked, call) => tokenFor(asked, call, services)),
  };
}

/** A token for kontrol in the name of a person. Only services get it: an administrator who is a person has no business being another. */
async function tokenFor(
  { username, methods }: { username: string; methods?: string[] | undefined },
  { caller }: Call,
  { directory, log, tokens, identity }: Administered,
) {
  if (directory.account(caller.username)?.kind !== "service") {
    throw new KiteError("permission_denied", "only a service, such as the gateway, acts on behalf of people");
  }
  const account = directory.account(username);
  if (account?.kind !== "person" || account.state !== "active") throw new KiteError("not_found", `there is no active person "${username}"`);
  await log.write((tx) => audit(tx, caller.username, "people.token", username, methods === undefined ? {} : { methods }));
  return tokens.issue({ username, role: roleOf(username, directory), audience: identity, jti: crypto.randomUUID(), methods });
}

/** Gives a grant on the kites of `owner`; `done` says who did it when that was whoever runs kontrol. */
export async function giveGrant(grant: NewGrant, owner: Actor, { log, follower, guard, now }: Administered, done = owner.username) {
  if (grant.expiresAt !== undefined && grant.expiresAt <= now()) {
    throw new KiteError("invalid_argument", "expiresAt is in the past; it is in milliseconds since the epoch");
  }
  guard.spend("grantsPerAccount", owner.username);
  const { result, revision } = await addGrant(log, owner, grant, done);
  await follower.reached(revision);
  return result;
}

function grantMethods(services: Administered) {
  const { log, directory, follower, now } = services;
  return {
    add: method({ role: "viewer", input: schemas.newGrant }, (grant, { caller }) => giveGrant(grant, actor(caller), services)),
    list: method({ role: "viewer" }, ({ caller: { username } }) => {
      const teams = directory.teamsOf(username);
      const mine = [...directory.grants()].filter(
        (grant) => grant.owner === username || grant.username === username || teams.has(grant.team ?? ""),
      );
      return mine.map(describeGrant);
    }),
    remove: method({ role: "viewer", input: schemas.id }, async ({ id }, { caller }) => {
      const { result, revision } = await removeGrant(log, id, actor(caller), now);
      await follower.reached(revision);
      return result;
    }),
  };
}

export function describeGrant({ id, owner, username, team, role, query, expiresAt }: GrantRecord): Grant {
  return { id, owner, ...(team === undefined ? { username } : { team }), role, query, expiresAt };
}

function keyMethods({ pool, log, directory, follower, keys, kiteKeys, now }: Administered) {
  return {
    issue: method({ role: "owner", input: schemas.newKey }, async ({ username, alg }, call) => {
      checkLasting(call, directory);
      const more = alg === "RS256" ? { signingKey: await keys.ensure(alg, log) } : {};
      const { result: kiteKey, revision } = await log.write(async (tx) => {
        const issued = await issueKiteKey(tx, username, { ...kiteKeys(), ...more });
        await audit(tx, call.caller.username, "keys.issue", username, { alg });
        return issued;
      });
      await follower.reached(revision);
      return { kiteKey };
    }),
    issued: method({ role: "viewer", input: schemas.issuedKeys }, (asked = {}, { caller }) => {
      if (caller.role === "owner") return listKiteKeys(pool, asked);
      if ((asked.username ?? caller.username) === caller.username) return listKiteKeys(pool, { ...asked, username: caller.username });
      throw new KiteError("permission_denied", "the kite.keys of others are shown to administrators only");
    }),
    list: method({ role: "owner" }, async () => (await keys.list()).map(describeKey)),
    add: method({ role: "owner", input: schemas.newSigningKey }, async ({ alg = "EdDSA" } = {}, { caller }) =>
      describeKey(await keys.add(alg, log, caller.username)),
    ),
    retire: method({ role: "owner", input: schemas.retiredKey }, async ({ kid, now: atOnce = false }, { caller }) => {
      if (!atOnce) return { ...(await keys.retire(kid, log, caller.username)), kiteKeys: 0 };
      const { revoked: retired, kiteKeys, revision } = await keys.revoke(kid, log, caller.username);
      await follower.reached(revision);
      return { retired, refusedAfter: retired ? now() : null, kiteKeys };
    }),
    revoke: method({ role: "viewer", input: schemas.jti }, async ({ jti }, { caller }) => {
      const by = { username: caller.username, admin: caller.role === "owner" };
      const { result, revision } = await revokeKiteKey(log, jti, by, now);
      await follower.reached(revision);
      return result;
    }),
  };
}

function describeKey({ kid, alg, state, createdAt, retiredAt, revokedAt }: SigningKey): SigningKeyInfo {
  return { kid, alg, state: revokedAt === null ? state : "revoked", createdAt, retiredAt };
}
