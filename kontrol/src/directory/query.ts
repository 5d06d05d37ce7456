import {
  type Call,
  type FoundKite,
  formatQuery,
  type Identity,
  type IssuedToken,
  KiteError,
  matcher,
  type Narrower,
  type Query,
  roleAllows,
} from "@kite-mesh/kite";
import type { Pool } from "pg";
import type { WhyFound } from "../contract.ts";
import { ask } from "../database/connection.ts";
import { type KiteRecord, RECORD } from "../database/record.ts";
import { type Pulse, seconds } from "../presence/pulse.ts";
import type { SigningKey, SigningKeys } from "../trust/signing-keys.ts";
import type { Tokens } from "../trust/tokens.ts";
import type { Access } from "./access.ts";
import type { Directory } from "./directory.ts";
import { describeKite } from "./watch.ts";

export interface QueryOptions {
  readonly directory: Directory;
  readonly tokens: Tokens;
  readonly keys: SigningKeys;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
  /** Between 0 and 1, as `Math.random`. */
  readonly random: () => number;
}

// A token for each is signed; who wants to see a larger mesh watches it, which needs none.
const MOST = 1_000;

/** The kites that match and that the caller may see, in random order, so that callers who take the first spread out. */
export async function findKites(query: Query, { caller }: Call, options: QueryOptions): Promise<{ kites: FoundKite[]; revision: string }> {
  const revision = String(options.directory.revision);
  const kites = matching(query, caller, options).map(async (found) =>
    describeFound(found, await issue(found.record, found.access, caller, options), caller, options),
  );
  return { kites: await Promise.all(kites), revision };
}

export function matching(query: Query, caller: Call["caller"], { directory, now, random }: QueryOptions): Found[] {
  const found: Found[] = [];
  for (const match of directory.find(query, caller.username, now())) {
    if (found.length === MOST) {
      throw new KiteError(
        "limit_exceeded",
        `more than ${MOST} kites match ${formatQuery(query)}; ask for fewer, or use watch, which has no such limit`,
      );
    }
    found.push(match);
  }
  return shuffled(found, random);
}

export function describeFound(
  { record, access }: Found,
  { token, expiresAt }: IssuedToken,
  caller: Call["caller"],
  { keys }: QueryOptions,
): FoundKite {
  const described = describeKite(record, access);
  const url = urlFor(described.url, caller, keys);
  // The name of the key is for older kites, which keep it with the token.
  return { ...described, url, token, tokenExpiresAt: expiresAt, keyId: signerFor(record, caller, keys).kid } as FoundKite;
}

/**
 * A token for the one kite that matches. Its audience is always that kite's own path, whatever was asked.
 *
 * @throws {KiteError} `not_found` when there is none that the caller may see, `failed_precondition` when there are several.
 */
export async function findToken(
  query: Query,
  { caller }: Call,
  options: QueryOptions & { renew?: boolean; less?: Narrower; identity: Identity },
): Promise<IssuedToken> {
  const { directory, now, less = {}, identity } = options;
  const [first, ...others] = directory.key(caller.credential?.jti ?? "")?.machine
    ? ownOfMachine(query, caller, directory)
    : directory.find(query, caller.username, now());
  if (first === undefined) throw new KiteError("not_found", `no kite matches ${formatQuery(query)}`);
  if (others.length > 0) {
    throw new KiteError("failed_precondition", `${others.length + 1} kites match ${formatQuery(query)}; a token is for one: add its id`);
  }
  checkNarrower(less, first, caller, identity);
  const { role = first.access.role, ttlMs, methods } = less;
  const until = ttlMs === undefined ? first.access.until : Math.min(now() + ttlMs, first.access.until ?? Number.POSITIVE_INFINITY);
  return issue(first.record, { role, until }, caller, { ...options, methods });
}

// What kontrol answers with credentials: a token that opens one of these could be made into one without its limits.
const GIVE_TOKENS = [
  "getToken",
  "getKites",
  "people.token",
  "keys.issue",
  "joinTokens.create",
  "registerMachine",
  "login.approve",
  "people.setPassword",
];

function checkNarrower({ role, methods }: Narrower, { record, access }: Found, caller: Call["caller"], kontrol: Identity): void {
  if (role !== undefined && !roleAllows(access.role, role))
    throw new KiteError("permission_denied", `you are ${access.role} of ${record.kite.name}; a token gives no higher role, got "${role}"`);
  if (record.kite.id !== kontrol.id || (role === undefined && methods === undefined)) return;
  if (methods === undefined)
    throw new KiteError(
      "invalid_argument",
      "a token for kontrol is narrowed by methods; with a lower role alone it could be exchanged for a full one",
    );
  const beyond = methods.find((name) => caller.methods?.includes(name) === false);
  if (beyond !== undefined)
    throw new KiteError("permission_denied", `your own token does not open ${beyond}, so none that is made from it does`);
  const giving = methods.find((name) => GIVE_TOKENS.includes(name));
  if (giving !== undefined)
    throw new KiteError("invalid_argument", `${giving} gives credentials, so a narrowed token for kontrol cannot be for it`);
}

/** A machine gets tokens for the kites that it entered itself, and only to look: its owner's role is not for who works there. */
function* ownOfMachine(query: Query, { username, credential }: Call["caller"], directory: Directory): Iterable<Found> {
  for (const record of directory.match(query)) {
    if (record.kite.username === username && record.jti === credential?.jti) yield { record, access: { role: "viewer", until: null } };
  }
}

export interface Found {
  readonly record: KiteRecord;
  readonly access: Access;
}

const GONE = `
  select ${RECORD}, round(extract(epoch from date_trunc('milliseconds', gone_at)) * 1000)::float8 as "goneAt", gone_reason as reason`;
const WHY = `${GONE} from kontrol.kites k where id = $1`;
// The newest only, by an index: whoever asks for a name that nobody had must not have a week's departures read.
const DEPARTED = `${GONE}
    from (select * from kontrol.kites where gone_at is not null order by gone_at desc limit 10000) k
   where ($1 = '' or name = $1) and ($2 = '' or username = $2)
     and ($3::text[] is null or visibility = 'mesh' or username = any($3)
          or ($4 and username in (select username from kontrol.accounts where kind = 'service')))
   order by gone_at desc limit 1000`;
const MOST_DEPARTED = 20;

interface GoneRecord extends KiteRecord {
  readonly goneAt: number;
  readonly reason: string;
}

type Present = KiteRecord & { readonly goneAt: null };

/** Why a kite is there, or is not. What the caller could not see, it is not told of; administrators see all. */
export async function why(
  id: string,
  { caller }: Call,
  { pool, pulse, directory, now }: QueryOptions & { pool: Pool; pulse: (id: string) => Pulse | undefined },
) {
  const mayKnow = knowledge(caller, directory, now());
  const present = directory.kite(id);
  // One that the caller may not know of takes the way of one that never was: neither the time nor a database that is away tells of it.
  if (present !== undefined && mayKnow(present)) return explainPresent(present, pulse(id), pool);
  const [last] = (await ask<GoneRecord | Present>(pool, WHY, [id])).rows;
  if (last === undefined || !mayKnow(last)) return { found: false } as const;
  // It has registered again, at another replica, and the log did not bring it here yet.
  return last.goneAt === null ? explainPresent(last, undefined, pool) : explainGone(last);
}

/** Kites that match and left not long ago, the last first; of those that the caller could see. */
export async function departed(
  query: Query,
  { caller }: Call,
  { pool, directory, now }: Pick<QueryOptions, "directory" | "now"> & { pool: Pool },
): Promise<WhyFound[]> {
  // Whose kites they could be. Without that, anybody could have kontrol read ten thousand departures, to be told of none.
  const owners = caller.role === "owner" ? null : ownersFor(caller.username, directory);
  const asAdmin = directory.account(caller.username)?.admin ?? false;
  const { rows } = await ask<GoneRecord>(pool, DEPARTED, [query.name ?? "", query.username ?? "", owners, asAdmin]);
  const [meant, mayKnow] = [matcher(query), knowledge(caller, directory, now())];
  return rows
    .filter((gone) => meant(gone.kite, gone.labels) && mayKnow(gone))
    .slice(0, MOST_DEPARTED)
    .map(explainGone);
}

/** Whose kites somebody may see: his own, and those of who gave him a grant on some. */
function ownersFor(username: string, directory: Directory): string[] {
  const teams = directory.teamsOf(username);
  const given = [...directory.grants()].filter((grant) => grant.username === username || teams.has(grant.team ?? ""));
  return [...new Set([username, ...given.map(({ owner }) => owner)])];
}

function knowledge({ role, username }: Call["caller"], directory: Directory, now: number): (record: KiteRecord) => boolean {
  return (record) => role === "owner" || directory.access(record, username, now) !== undefined;
}

function explainGone({ kite, reason, goneAt }: GoneRecord): WhyFound {
  return { found: true, kite, state: "gone", reason, at: new Date(goneAt).toISOString() };
}

const HOLDER = `
  select (extract(epoch from now() - beat_at) * 1000)::float8 as "agoMs" from kontrol.replicas where id = $1 and url is not null`;

async function explainPresent({ kite, registeredAt, jti, holder }: KiteRecord, pulse: Pulse | undefined, pool: Pool): Promise<WhyFound> {
  const answer = { found: true, kite, state: "present", at: new Date(registeredAt).toISOString() } as const;
  if (jti === null) return { ...answer, reason: "it is kontrol itself" };
  if (pulse !== undefined) {
    const nowMs = performance.now();
    const beat = { agoMs: Math.round(nowMs - pulse.lastBeatMs), ...pulse.loop };
    return { ...answer, reason: `it registered, and its session is open; ${pulse.describe(nowMs)}`, beat };
  }
  const [other] = (await ask<{ agoMs: number }>(pool, HOLDER, [holder])).rows;
  const reason =
    other === undefined
      ? "it registered before kontrol restarted, and has two beats to come back"
      : `it registered, and its session is with another kontrol, which was heard ${seconds(other.agoMs)} ago`;
  return { ...answer, reason };
}

/** What comes from a token ends with it: a stolen one cannot renew itself. */
export function issue(
  record: KiteRecord,
  { role, until }: Access,
  caller: Call["caller"],
  {
    tokens,
    keys,
    renew = false,
    methods,
  }: Pick<QueryOptions, "tokens" | "keys"> & { renew?: boolean; methods?: readonly string[] | undefined },
): IssuedToken | Promise<IssuedToken> {
  const ends = Math.min(until ?? Number.POSITIVE_INFINITY, caller.expiresAt ?? Number.POSITIVE_INFINITY);
  const { username, credential } = caller;
  if (credential?.jti === undefined) throw new KiteError("unauthenticated", "tokens are for callers who showed a credential");
  return tokens.issue({
    username,
    role,
    audience: record.kite,
    jti: credential.jti,
    until: ends === Number.POSITIVE_INFINITY ? undefined : ends,
    signingKey: signerFor(record, caller, keys),
    reader: signerOf(record, keys)?.alg === "RS256" ? "older" : "ours",
    // At kontrol, whose entry has no key: what opens a few of its methods must not become what opens all.
    methods: methods ?? (record.jti === null ? caller.methods : undefined),
    renew,
  });
}

/**
 * The key that a token is signed with. A kite whose kite.key is by an RS256 key verifies with that one, and knows no other;
 * a caller of that kind reads the tokens that it carries, and can read no other.
 */
export function signerFor(record: KiteRecord, { credential }: Call["caller"], keys: SigningKeys): SigningKey {
  const target = signerOf(record, keys);
  if (target?.alg === "RS256") return target;
  const asking = keys.get(credential?.kid ?? "");
  return asking?.alg === "RS256" ? (keys.currentOf("RS256") ?? asking) : keys.current;
}

/**
 * Where a caller dials a kite. Kites in Go and kite.js put their SockJS paths behind what they are given, and find them under
 * `/kite` alone; a kite of today listens at the root of its port, and takes every dialect under that path as well.
 */
export function urlFor(url: string, { credential }: Call["caller"], keys: SigningKeys): string {
  if (keys.get(credential?.kid ?? "")?.alg !== "RS256" || new URL(url).pathname !== "/") return url;
  return `${url.replace(/\/$/, "")}/kite`;
}

function signerOf({ kid }: KiteRecord, keys: SigningKeys): SigningKey | undefined {
  return keys.get(kid ?? "");
}

/** Fisher and Yates. */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const shuffled = [...items];
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [shuffled[last], shuffled[other]] = [shuffled[other] as T, shuffled[last] as T];
  }
  return shuffled;
}
