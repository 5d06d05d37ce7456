import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import {
  type Caller,
  type Identity,
  isIssuedBefore,
  Kite,
  KiteError,
  type Logger,
  REVOCATIONS_KEPT_MS,
  sourceOfAddress,
} from "@kite-mesh/kite";
import { metrics } from "@kite-mesh/kite/prometheus";
import type { Pool } from "pg";
import { Registry } from "prom-client";
import { audit } from "./database/audit.ts";
import { type MeshUse, openDatabase } from "./database/database.ts";
import { Log } from "./database/log.ts";
import { type Applied, Directory, type PastRevocation, revokedBy } from "./directory/directory.ts";
import { Follower } from "./directory/follower.ts";
import { freshness } from "./directory/freshness.ts";
import { Watchers } from "./directory/watch.ts";
import { kontrolAuthenticator, verifyOwnToken, withNewest } from "./entry/authenticate.ts";
import { DeviceCodes } from "./entry/device-codes.ts";
import { EntryGuard, type EntryLimits } from "./entry/entry-guard.ts";
import { Passwords } from "./entry/passwords.ts";
import { behindProxies, type SourceOf } from "./entry/proxies.ts";
import { announcedBy } from "./entry/proxy-protocol.ts";
import { kontrolMethods } from "./methods.ts";
import { OlderRegistrations } from "./older/older-registrations.ts";
import { kontrolHttp } from "./operation/http.ts";
import { countLogins, exposition, measure } from "./operation/metrics.ts";
import { Readiness } from "./operation/readiness.ts";
import { openStartingPort } from "./operation/starting-port.ts";
import type { MetricsReaders } from "./options.ts";
import { ensureAccount, type NewAccount } from "./people/people.ts";
import { BEATS_PATH, Beats } from "./presence/beats.ts";
import { Leases } from "./presence/leases.ts";
import { Registrar } from "./presence/registrar.ts";
import { Replicas, reachableUrl } from "./presence/replicas.ts";
import { SessionSigns } from "./presence/signs.ts";
import { Slots } from "./presence/slots.ts";
import type { NewLease } from "./presence/standing.ts";
import { Upkeep } from "./presence/upkeep.ts";
import { FORWARDED, Forwarder } from "./relay/forwarding.ts";
import { Relay } from "./relay/relay.ts";
import type { LinkLimits } from "./relay/relay-link.ts";
import { refuseUpgrade, type Upgrade } from "./relay/upgrade.ts";
import { issueKiteKey, type KiteKeyOptions, renewKiteKey } from "./trust/kite-keys.ts";
import { SigningKeys } from "./trust/signing-keys.ts";
import { Tokens } from "./trust/tokens.ts";

export interface KontrolOptions {
  readonly databaseUrl: string;
  /** Default `127.0.0.1`. */
  readonly host?: string | undefined;
  /** 0, the default, picks a free one. */
  readonly port?: number | undefined;
  /** Where others reach this kontrol. Default: where it listens. */
  readonly publicUrl?: string | undefined;
  /** Where the other replicas reach this one. Default: where it listens, or the first outward address of the machine. */
  readonly replicaUrl?: string | undefined;
  readonly log: Logger;
  /** Milliseconds, as `Date.now`. */
  readonly clock?: (() => number) | undefined;
  /** How often kites beat. Default 10,000. */
  readonly heartbeatMs?: number | undefined;
  /** For how long the event loop of a kite may be blocked before it counts as dead. Default 30 s, and at least three beats. */
  readonly hungMs?: number | undefined;
  /** How long tokens live. Default ten minutes. */
  readonly tokenTtlMs?: number | undefined;
  /** For how long what a retired signing key signed is still believed. Default a week. */
  readonly keyGraceMs?: number | undefined;
  /** Who may read `/metrics`: this machine (the default), everybody, or nobody. */
  readonly metrics?: MetricsReaders | undefined;
  readonly relayLimits?: Partial<LinkLimits> | undefined;
  /** Ranges of addresses whose X-Forwarded-For is believed. Default: none. */
  readonly trustedProxies?: readonly string[] | undefined;
  /** Ranges of addresses of balancers that say with the PROXY protocol who connected to them; they must. Default: none. */
  readonly proxyProtocol?: readonly string[] | undefined;
  readonly entryLimits?: Partial<EntryLimits> | undefined;
  /** What a password costs to guess: the logarithm of scrypt's N, for passwords that are set from now on. Default 15. */
  readonly passwordCost?: number | undefined;
}

/** A running kontrol. Whoever created it closes it. */
export interface Kontrol extends AsyncDisposable {
  /** Where others reach it, such as `http://127.0.0.1:4000`. */
  readonly url: string;
  readonly kite: Kite;
  /** Makes sure that an account is there and is as described. For whoever runs this kontrol; the mesh calls `people`. */
  ensureAccount(account: NewAccount): Promise<void>;
  /** A new kite.key for an account that exists. For whoever runs this kontrol. */
  issueKey(username: string): Promise<string>;
  close(): Promise<void>;
}

const VERSION = "0.1.0";
const HEARTBEAT_MS = 10_000;
// A stolen token is good for this long at most, and a kite that calls renews it a few times an hour.
export const TOKEN_TTL_MS = 10 * 60_000;
// A machine that is switched on once in a week gets its kite.key signed anew; one that slept longer needs a new one.
const KEY_GRACE_MS = 7 * 24 * 60 * 60_000;
// A kite whose socket closed leaves discovery within a second: it has this long to come back to its session,
// then a moment for the database. Who is late registers and watches again, from the revision it had.
const GRACE_MS = 750;
export const NAME = "kontrol";

/**
 * Starts kontrol: brings the database up to date, builds the directory and listens.
 *
 * @throws {KiteError} naming the setting or the port that is in the way; nothing is left running then.
 */
export async function createKontrol(options: KontrolOptions): Promise<Kontrol> {
  const opened: (() => unknown)[] = [];
  const close = async () => {
    for (const end of opened.splice(0).reverse()) await end();
  };
  try {
    return await start(options, opened, close);
  } catch (cause) {
    await close();
    throw explain(cause, options);
  }
}

export type Closers = (() => unknown)[];

/** Opens one thing after the other; what is opened is put on the list, and closed from its end. */
async function start(options: KontrolOptions, opened: Closers, close: () => Promise<void>): Promise<Kontrol> {
  const { host = "127.0.0.1", port = 0, log: logger, clock: now = Date.now, heartbeatMs = HEARTBEAT_MS } = options;
  // A port that is left to chance is known to nobody who could ask there.
  const starting = port === 0 ? undefined : await openStartingPort(port, host);
  opened.push(() => starting?.close());
  const memory = await openMemory(options, opened);
  const { pool, keys, directory, follower, log, leases, replicas, fresh, holder, identity } = memory;
  const tokens = new Tokens({ keys, directory, follower, issuer: NAME, ttlMs: options.tokenTtlMs ?? TOKEN_TTL_MS, now });
  const watchers = new Watchers(directory, now);
  let url = options.publicUrl?.replace(/\/+$/, "") ?? "";
  const kiteKeys = () => ({ keys, issuer: NAME, kontrolUrl: url, now });
  const renewKey = (caller: Caller) => renewKiteKey(log, caller, kiteKeys());
  const relayUrl = () => `${url}/relay`;
  const slots = new Slots({ nowMs: () => performance.now() });
  const { hungMs } = options;
  const registrar = new Registrar({ directory, leases, slots, holder, relayUrl, heartbeatMs, hungMs, logger, now, renewKey });
  const beats = new Beats({ registrar, signs: new SessionSigns({ heartbeatMs, logger }), logger });
  const door = openDoor(options, memory);
  const { guard, sourceOf, announced, logins, verify, check } = door;
  const { authenticate } = logins;
  const holds = (id: string) => registrar.held(id) !== undefined;
  const admits = (asking: IncomingMessage) => relay.admits(asking);
  const forwarder = new Forwarder({ directory, replicas, holder, holds, fresh, logger, admits, onTaken: door.admitted });
  const beatElsewhere = (id: string, source: string) => door.sought(source, () => forwarder.beat(id));
  const older = new OlderRegistrations({ directory, registrar, authenticate, beatElsewhere, heartbeatMs, logger });
  const spend = (username: string) => guard.spend("kiteKeysPerAccount", username);
  const counted = { kiteKeys: () => ({ ...kiteKeys(), spend }) };
  const methods = kontrolMethods({ ...memory, ...door, ...counted, tokens, now, random: Math.random, registrar, watchers, older, logger });
  const register = new Registry();
  const observers = [metrics({ register })];
  const kite: Kite = new Kite({ ...identity, methods, authenticate, graceMs: GRACE_MS, observers, log: logger });
  opened.push(() => kite.close());
  const relay = new Relay({ directory, registrar, verify, check, sourceOf, logger, now, limits: options.relayLimits });
  // In this order at the end: nothing that closes may take kites out of the directory, which are to survive a restart.
  for (const each of [forwarder, relay, beats]) opened.push(() => each.close());
  opened.push(() => watchers.close(new KiteError("disconnected", "kontrol is stopping")));
  opened.push(() => registrar.close());
  opened.push(directory.listen((applied) => endRevoked(applied, { kite, tokens, watchers, directory, now })));
  opened.push(directory.listen((applied) => void renewRetired(applied, keys, registrar)));

  const readiness = new Readiness({ follower, keys, heartbeatMs });
  measure(register, { version: VERSION, directory, follower, registrar, leases, watchers, relay, tokens, logins, pool });
  const state = { missing: () => readiness.missing(), metrics: () => exposition(register), readers: options.metrics ?? "loopback" };
  const http = kontrolHttp({ publicKeys: () => keys.publicKeys(), ...state, older, guard, sourceOf, announced, logger });
  await starting?.close();
  const upgrade = limitUpgrades(
    { guard, sourceOf, beats },
    forwarder.around((...asked) => beats.upgrade(...asked) || relay.upgrade(...asked)),
  );
  const listening = await kite.listen({ host, port, http, upgrade, sourceOf, prelude: announced?.prelude });
  url ||= listening.url;
  const replicaUrl = options.replicaUrl ?? reachableUrl(listening.url);
  const self: NewLease = { kite: identity, url, visibility: "mesh", labels: {}, jti: null, holder, registeredAt: now() };
  const isExpected = (id: string) => slots.isExpected(id);
  const clocks = { heartbeatMs, logger, now };
  const upkeep = await Upkeep.start({ ...memory, isExpected, replicaUrl, self, ...clocks });
  opened.push(() => upkeep.close());
  opened.push(() => readiness.stopping());
  readiness.started(upkeep);
  logger.info({ url, replicaUrl, kites: directory.size, revision: directory.revision }, "kontrol is up");
  return { url, kite, ...administration(memory, kiteKeys), close, [Symbol.asyncDispose]: close };
}

/** Who is let in, by what, and how often somebody may be wrong. */
function openDoor(options: KontrolOptions, { pool, log, keys, directory, fresh, identity }: Memory) {
  const { clock: now = Date.now } = options;
  const trust = { keys, issuer: NAME, directory, now };
  const guard = new EntryGuard(options.entryLimits);
  const { trustedProxies = [], proxyProtocol = [] } = options;
  const announced = proxyProtocol.length === 0 ? undefined : announcedBy(proxyProtocol);
  const check = (token: string, audience: Identity) => withNewest(() => verifyOwnToken(token, audience, trust), { directory, fresh });
  const sourceOf = behindProxies(trustedProxies, announced?.sourceOf);
  return {
    guard,
    check,
    announced,
    sourceOf,
    sought: <T>(source: string, beat: () => Promise<T>) => guard.unlessFailing("beats", source, beat, (answer) => answer === "pong"),
    admitted: (asking: IncomingMessage) => guard.admitted(sourceOfAddress(sourceOf(asking))),
    passwords: new Passwords(pool, log, options.passwordCost),
    deviceCodes: new DeviceCodes({ pool, log, directory, now }),
    logins: countLogins(kontrolAuthenticator({ ...trust, audience: identity, fresh, guard })),
    verify: (token: string, audience: Identity, source: string) => guard.credential(token, source, () => check(token, audience)),
  };
}

/** What is needed to know and to change the mesh, without being one of its processes. */
export type MemoryOptions = Pick<KontrolOptions, "databaseUrl" | "log" | "heartbeatMs" | "keyGraceMs" | "clock"> & {
  readonly mesh?: MeshUse | undefined;
};

/** A connection that has one too many before it from the same source is refused before anything is made for it. */
function limitUpgrades({ guard, sourceOf, beats }: { guard: EntryGuard; sourceOf: SourceOf; beats: Beats }, upgrade: Upgrade): Upgrade {
  return (request, socket, head) => {
    // A good ticket is no stranger's. A wrong one costs nothing where no other replica is asked for its kite; those that one
    // passed on come from its address, and counted there already.
    const isBeat = request.url?.startsWith(BEATS_PATH) === true;
    if (isBeat && (FORWARDED in request.headers || beats.isOpenedBy(request))) return upgrade(request, socket, head);
    try {
      guard.attempt({ handshakes: sourceOfAddress(sourceOf(request)) });
    } catch (thrown) {
      refuseUpgrade(socket, "429 Too Many Requests", KiteError.from(thrown).message);
      return true;
    }
    return upgrade(request, socket, head);
  };
}

/** The database, and the directory that follows it. */
export async function openMemory(options: MemoryOptions, opened: Closers) {
  const { databaseUrl, log: logger, keyGraceMs = KEY_GRACE_MS, clock = Date.now } = options;
  const holder = randomUUID();
  const lost = (cause: Error) => logger.warn({ error: cause.message }, "a database connection was lost");
  const pool = await openDatabase(databaseUrl, lost, { mesh: options.mesh });
  opened.push(() => pool.end());
  const keys = await SigningKeys.open(pool, { graceMs: keyGraceMs, now: clock });
  const identity: Identity = {
    username: NAME,
    environment: "local",
    name: NAME,
    version: VERSION,
    region: "local",
    hostname: NAME,
    id: await meshId(pool),
  };
  await ensureAccount(new Log(pool), { username: NAME, kind: "service", admin: true });

  // As long as kites remember them, and as any setting lets a token live: one that comes back must know what it would know if it had
  // stayed, and another replica, or this one before it was restarted, may have given tokens that live longer than its own.
  const revocationsMs = REVOCATIONS_KEPT_MS;
  const directory = new Directory({ revocationsMs, now: clock });
  const follower = await Follower.start({ databaseUrl, directory, revocationsMs, log: logger });
  opened.push(() => follower.close());
  directory.listen((applied) => {
    for (const { kid, at } of revokedBy(applied, directory, clock())) if (kid !== undefined) keys.takeBack(kid, at);
    if (applied === "reset" || applied.change.kind === "signing-keys.changed") keys.changed();
  });
  const log = new Log(
    pool,
    (entries) => follower.offer(entries),
    () => directory.revision,
  );
  const leases = new Leases({ log, present: directory, logger, onWritten: (revision) => follower.reached(revision) });
  opened.push(() => leases.close());
  const replicas = new Replicas({ pool, holder, heartbeatMs: options.heartbeatMs ?? HEARTBEAT_MS });
  const fresh = freshness({ pool, directory, follower });
  return { pool, keys, directory, follower, log, leases, replicas, fresh, holder, identity };
}

type Memory = Awaited<ReturnType<typeof openMemory>>;

function administration({ log, follower }: Memory, kiteKeys: () => KiteKeyOptions): Pick<Kontrol, "ensureAccount" | "issueKey"> {
  return {
    ensureAccount: async (account) => {
      const { revision } = await ensureAccount(log, account, { now: kiteKeys().now });
      await follower.reached(revision);
    },
    issueKey: async (username) => {
      const { result, revision } = await log.write(async (tx) => {
        const kiteKey = await issueKiteKey(tx, username, kiteKeys());
        await audit(tx, NAME, "keys.issue", username);
        return kiteKey;
      });
      await follower.reached(revision);
      return result;
    },
  };
}

/** One for the whole life of a database, so that tokens for kontrol outlast a restart. */
async function meshId(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ mesh_id: string }>("select mesh_id from kontrol.head");
  const [head] = rows;
  if (head === undefined) throw new KiteError("failed_precondition", "the table kontrol.head is empty; restore the database from a backup");
  return head.mesh_id;
}

async function renewRetired(applied: Applied | "reset", keys: SigningKeys, registrar: Registrar): Promise<void> {
  if (applied === "reset" || applied.change.kind !== "signing-keys.changed") return;
  const retired = (await keys.list()).filter(({ state }) => state === "retired");
  registrar.renew(new Set(retired.map(({ kid }) => kid)));
}

interface Revoked {
  readonly kite: Kite;
  readonly tokens: Tokens;
  readonly watchers: Watchers;
  readonly directory: Directory;
  readonly now: () => number;
}

/** Ends what a revoked credential opened at kontrol itself; kites hear of it from their registration. */
function endRevoked(applied: Applied | "reset", { kite, tokens, watchers, directory, now }: Revoked): void {
  if (applied !== "reset" && applied.change.kind === "account.changed") {
    const { username, admin } = applied.change.account;
    const why = new KiteError("unauthenticated", `the role of ${username} changed; connect again`);
    kite.endSessions((caller) => caller.username === username && caller.role === "owner" && !admin, why);
  }
  for (const revocation of revokedBy(applied, directory, now())) {
    const why = new KiteError("unauthenticated", `the credential was revoked: ${revocation.reason}`);
    if (revocation.jti === undefined) tokens.forget(revocation.username);
    if (revocation.kite !== undefined && revocation.kite !== kite.identity.id) continue;
    const end = () => kite.endSessions((caller) => isMeant(caller, revocation), why);
    // A turn later: the kites of somebody who was removed are told first which grants have ended with that, and those of a key that
    // was revoked, that it was.
    if (revocation.username === undefined && revocation.kid === undefined) end();
    else setImmediate(end);
    if (revocation.username !== undefined) watchers.end(revocation.username, why);
  }
}

function isMeant({ username, credential }: Caller, revocation: PastRevocation): boolean {
  const { kid } = revocation;
  if (kid !== undefined && credential?.kid === kid) return true;
  // Of what other keys signed: tokens, which whoever has that key may have got for a kite.key of his own making.
  if (kid !== undefined)
    return credential?.type === "token" && isIssuedBefore({ ...credential, issuedAt: credential.issuedAt ?? 0 }, revocation);
  if (!isIssuedBefore({ issuedAt: credential?.issuedAt ?? 0, revision: credential?.revision }, revocation)) return false;
  if (revocation.username === undefined && revocation.jti === undefined) return false;
  return (revocation.username ?? username) === username && (revocation.jti ?? credential?.jti) === credential?.jti;
}

function explain(cause: unknown, { port }: KontrolOptions): KiteError {
  const error = KiteError.from(cause);
  if (error.reason !== "EADDRINUSE") return error;
  return new KiteError("unavailable", `port ${port} is taken; set KONTROL_PORT to another one, or to 0 for any that is free`, { cause });
}
