import { type Call, type ContractOf, type Identity, KiteError, method } from "@kite-mesh/kite";
import type { Pool } from "pg";
import { audit } from "./audit.ts";
import { roleOf } from "./authenticate.ts";
import type { Grant, KontrolContract, NewPerson } from "./contract.ts";
import type { Follower } from "./follower.ts";
import { addGrant, removeGrant } from "./grants.ts";
import { createJoinToken, useJoinToken } from "./join-tokens.ts";
import { issueKiteKey, type KiteKeyOptions, revokeKiteKey } from "./kite-keys.ts";
import type { Log } from "./log.ts";
import { createPerson, getPerson, listPeople, removePerson } from "./people.ts";
import { findKites, findToken, type QueryOptions, why } from "./query.ts";
import type { Registrar } from "./registrar.ts";
import * as schemas from "./schemas.ts";
import type { SigningKeys } from "./signing-keys.ts";
import type { Watchers } from "./watch.ts";

export interface Services extends QueryOptions {
  readonly pool: Pool;
  readonly log: Log;
  readonly follower: Follower;
  readonly registrar: Registrar;
  readonly watchers: Watchers;
  readonly keys: SigningKeys;
  readonly kiteKeys: () => KiteKeyOptions;
  /** kontrol itself. */
  readonly identity: Identity;
}

/** What kontrol serves. `viewer` is every account, `owner` is an administrator; the rest is about what is one's own. */
export function kontrolMethods(services: Services) {
  return {
    ...registryMethods(services),
    ...entryMethods(services),
    joinTokens: joinTokenMethods(services),
    people: peopleMethods(services),
    grants: grantMethods(services),
    keys: keyMethods(services),
  };
}

/**
 * What is served, for callers. Does not compile when a method of the contract is missing or has another shape.
 *
 * @public
 */
export type ServedContract = Fulfils<ContractOf<ReturnType<typeof kontrolMethods>>>;
type Fulfils<Served extends KontrolContract> = Served;

function registryMethods(services: Services) {
  const { registrar, watchers, keys } = services;
  return {
    register: method({ role: "viewer", input: schemas.register }, (register, call) => registrar.register(register, call)),
    getKites: method({ role: "viewer", input: schemas.queried }, ({ query }, call) => findKites(query, call, services)),
    watch: method({ role: "viewer", input: schemas.watched }, ({ query, since }, { caller }) =>
      watchers.watch({ query, since, username: caller.username }),
    ),
    getToken: method({ role: "viewer", input: schemas.queried }, ({ query }, call) => findToken(query, call, services)),
    getKey: method({ role: "viewer" }, () => ({ keys: keys.publicKeys(), current: keys.current.kid })),
  };
}

function entryMethods(services: Services) {
  const { log, follower, kiteKeys, directory, registrar } = services;
  return {
    registerMachine: method({ role: "anyone", input: schemas.joinToken }, async ({ joinToken }) => {
      const { kiteKey, revision } = await useJoinToken(log, joinToken, kiteKeys());
      await follower.reached(revision);
      return { kiteKey };
    }),
    whoami: method({ role: "viewer" }, ({ caller }) => {
      const account = directory.account(caller.username);
      if (account === undefined) throw new KiteError("unauthenticated", "the account is gone");
      return { username: account.username, admin: account.admin, kind: account.kind };
    }),
    why: method({ role: "viewer", input: schemas.id }, ({ id }, call) =>
      why(id, call, { ...services, isHeld: (held) => registrar.held(held) !== undefined }),
    ),
  };
}

function joinTokenMethods({ log, now }: Services) {
  return {
    create: method({ role: "owner", input: schemas.newJoinToken }, (request, { caller }) =>
      createJoinToken(log, request, caller.username, now()),
    ),
  };
}

function peopleMethods(services: Services) {
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
      const { result, revision } = await removePerson(log, whom, caller.username, now());
      await follower.reached(revision);
      return result;
    }),
    token: method({ role: "owner", input: schemas.named }, ({ username }, call) => tokenFor(username, call, services)),
  };
}

/** A token for kontrol in the name of a person. Only services get it: an administrator who is a person has no business being another. */
async function tokenFor(username: string, { caller }: Call, { directory, log, tokens, identity }: Services) {
  if (directory.account(caller.username)?.kind !== "service") {
    throw new KiteError("permission_denied", "only a service, such as the gateway, acts on behalf of people");
  }
  const account = directory.account(username);
  if (account?.kind !== "person" || account.state !== "active") throw new KiteError("not_found", `there is no active person "${username}"`);
  await log.write((tx) => audit(tx, caller.username, "people.token", username));
  return tokens.issue({ username, role: roleOf(username, directory), audience: identity, jti: crypto.randomUUID() });
}

function grantMethods({ log, directory, follower, now }: Services) {
  return {
    add: method({ role: "viewer", input: schemas.newGrant }, async ({ expiresAt, ...grant }, { caller }) => {
      if (expiresAt !== undefined && expiresAt <= now()) {
        throw new KiteError("invalid_argument", "expiresAt is in the past; it is in milliseconds since the epoch");
      }
      const { result, revision } = await addGrant(log, caller.username, { ...grant, expiresAt });
      await follower.reached(revision);
      return result;
    }),
    list: method({ role: "viewer" }, ({ caller: { username } }) => {
      const mine = [...directory.grants()].filter((grant) => grant.owner === username || grant.username === username);
      return mine.map(({ id, owner, username, role, query, expiresAt }): Grant => ({ id, owner, username, role, query, expiresAt }));
    }),
    remove: method({ role: "viewer", input: schemas.id }, async ({ id }, { caller }) => {
      const by = { username: caller.username, admin: caller.role === "owner" };
      const { result, revision } = await removeGrant(log, id, by, now());
      await follower.reached(revision);
      return result;
    }),
  };
}

function keyMethods({ log, follower, kiteKeys, now }: Services) {
  return {
    issue: method({ role: "owner", input: schemas.named }, async ({ username }, { caller }) => {
      const { result: kiteKey, revision } = await log.write(async (tx) => {
        const issued = await issueKiteKey(tx, username, kiteKeys());
        await audit(tx, caller.username, "keys.issue", username);
        return issued;
      });
      await follower.reached(revision);
      return { kiteKey };
    }),
    revoke: method({ role: "viewer", input: schemas.jti }, async ({ jti }, { caller }) => {
      const by = { username: caller.username, admin: caller.role === "owner" };
      const { result, revision } = await revokeKiteKey(log, jti, by, now);
      await follower.reached(revision);
      return result;
    }),
  };
}
