import { KiteError, type PublicJwk, REVOCATIONS_KEPT_MS } from "@kite-mesh/kite";
import { type CryptoKey, exportSPKI, importJWK, type JWK } from "jose";
import type { Pool } from "pg";
import { audit } from "../database/audit.ts";
import { Log, type LogTransaction } from "../database/log.ts";
import { newKeyPair } from "./key-pair.ts";
import { removeKites, revoke } from "./revocations.ts";

/** How kontrol signs: EdDSA, and RS256 for kites that can only verify that, as those in Go and of kite.js. */
export const ALGORITHMS = ["EdDSA", "RS256"] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

export interface SigningKey {
  readonly kid: string;
  readonly alg: Algorithm;
  readonly private: CryptoKey;
  readonly public: CryptoKey;
  readonly publicJwk: PublicJwk;
  /** The public key as PEM, the form in which a kite.key carries it. */
  readonly publicPem: string;
  readonly state: "active" | "retired";
  /** In milliseconds since the epoch. */
  readonly createdAt: number;
  readonly retiredAt: number | null;
  /** Since when nothing that it signed is believed any more, because others may have it. */
  readonly revokedAt: number | null;
}

export interface SigningKeysOptions {
  /** For how long what a retired key signed is still believed. */
  readonly graceMs: number;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
}

/**
 * The keys that everything in the mesh is signed with. Several may be active; the newest of an algorithm signs, all of them
 * verify. A retired one verifies for a grace, in which kites come and get their kite.key signed anew; one that others may
 * have is revoked, and verifies nothing from then on. The private halves stay in the table and in this process.
 */
export class SigningKeys {
  readonly #pool: Pool;
  readonly #options: SigningKeysOptions;
  #keys: ReadonlyMap<string, SigningKey> = new Map();
  /** Those that the log told of, and when: nobody waits for the table to be read, which may be away. */
  readonly #revoked = new Map<string, number>();
  /** The log told of a change that was not read yet. */
  #stale = false;
  #reading: Promise<void> | undefined;

  private constructor(pool: Pool, options: SigningKeysOptions) {
    this.#pool = pool;
    this.#options = options;
  }

  /** Reads the keys; a database without any gets its first. */
  static async open(pool: Pool, options: SigningKeysOptions): Promise<SigningKeys> {
    const keys = new SigningKeys(pool, options);
    await keys.#read();
    if (keys.#keys.size === 0) await keys.#make("EdDSA", new Log(pool), makeFirst);
    if (keys.currentOf("EdDSA") === undefined)
      throw new KiteError("failed_precondition", "every signing key of kontrol is retired; activate one in kontrol.keys");
    return keys;
  }

  /** The key that signs for kites of today. */
  get current(): SigningKey {
    const current = this.currentOf("EdDSA");
    if (current === undefined) throw new KiteError("failed_precondition", "kontrol has no active key to sign with");
    return current;
  }

  /** The newest active key of an algorithm. */
  currentOf(alg: Algorithm): SigningKey | undefined {
    for (const key of this.#keys.values()) if (key.alg === alg && key.state === "active") return key;
    return undefined;
  }

  /** As `currentOf`; the first who asks for an algorithm has its key made. */
  async ensure(alg: Algorithm, log: Log): Promise<SigningKey> {
    await this.#fresh();
    return this.currentOf(alg) ?? this.#make(alg, log, makeFirst);
  }

  /** Whether others may have the key, so that nothing it signed is believed. */
  isRevoked(kid: string): boolean {
    return this.#revoked.has(kid) || (this.#keys.get(kid)?.revokedAt ?? null) !== null;
  }

  /** As far as this process has read; see `find`. */
  get(kid: string): SigningKey | undefined {
    return this.#keys.get(kid);
  }

  /** The key that verifies what names it, also one that another kontrol has just made; none whose grace is over. */
  async find(kid: string): Promise<SigningKey | undefined> {
    await this.#fresh();
    const key = this.#keys.get(kid);
    return key === undefined || this.#retiredMs(key) > this.#options.graceMs ? undefined : key;
  }

  /** All keys, the newest first. */
  async list(): Promise<SigningKey[]> {
    await this.#fresh();
    return [...this.#keys.values()];
  }

  /** Makes a key that signs from now on. The ones before it verify as they did, until they are retired. */
  async add(alg: Algorithm, log: Log, by: string): Promise<SigningKey> {
    return this.#make(alg, log, (tx, kid) => audit(tx, by, "keys.add", kid, { alg }).then(() => true));
  }

  /**
   * Ends a key: it signs no more, and what it signed is believed until its grace is over.
   *
   * @throws {KiteError} `failed_precondition` when it is the last active one of its algorithm.
   */
  async retire(kid: string, log: Log, by: string): Promise<{ retired: boolean; refusedAfter: number | null }> {
    const now = this.#options.now();
    const { result: retired } = await log.write(async (tx) => {
      const [key] = (await tx.query<Standing>(FIND, [kid])).rows;
      if (key?.state !== "active") return false;
      await checkOthers(tx, key);
      await tx.query(RETIRE, [kid, now]);
      tx.append({ kind: "signing-keys.changed" });
      await audit(tx, by, "keys.retire", kid);
      return true;
    });
    await this.#read();
    const key = this.#keys.get(kid);
    return { retired, refusedAfter: key?.retiredAt == null ? null : key.retiredAt + this.#options.graceMs };
  }

  /**
   * Ends a key that others may have, an active or a retired one: from now on nothing that it signed is believed in the mesh, kite.keys
   * and what they had tokens for included. Answers with how many kite.keys have to be issued anew.
   *
   * @throws {KiteError} `failed_precondition` when it is the last active one of its algorithm.
   */
  async revoke(kid: string, log: Log, by: string): Promise<{ revoked: boolean; kiteKeys: number; revision: number }> {
    const now = this.#options.now();
    const { result, revision } = await log.write(async (tx) => {
      const [key] = (await tx.query<Standing>(FIND, [kid])).rows;
      if (key === undefined || key.revoked) return { revoked: false, kiteKeys: 0 };
      if (key.state === "active") await checkOthers(tx, key);
      await tx.query(REVOKE, [kid, now]);
      const kiteKeys = (await tx.query<{ count: number }>(SIGNED, [kid])).rows[0]?.count ?? 0;
      const reason = "the signing key was revoked, since others may have it";
      // Told first, then shown out: kites hear of it from the registration that ends.
      await revoke(tx, { kid, reason }, now);
      tx.append({ kind: "signing-keys.changed" });
      await removeKites(tx, { kid }, "the key that signed its kite.key was revoked");
      await audit(tx, by, "keys.retire", kid, { now: true, kiteKeys });
      return { revoked: true, kiteKeys };
    });
    return { ...result, revision };
  }

  /** The log tells that a key was revoked. */
  takeBack(kid: string, at: number): void {
    this.#revoked.set(kid, at);
    this.#keys = new Map([...this.#keys].map(([id, key]) => [id, this.#known(key)]));
  }

  /** The table has changed: it is read again before a key is looked for. */
  changed(): void {
    this.#stale = true;
    void this.#fresh();
  }

  /**
   * What others verify with: RFC 7517, public halves only. A key is published until the last token that it signed has ended, whose life is as
   * long as any setting allows: another replica may be set to more than this one.
   */
  publicKeys(): PublicJwk[] {
    const publishedMs = Math.min(REVOCATIONS_KEPT_MS, this.#options.graceMs) + PUBLISHED_BEYOND_MS;
    const published = [...this.#keys.values()].filter((key) => this.#retiredMs(key) <= publishedMs);
    return published.map(({ publicJwk }) => publicJwk);
  }

  /** For how long it has been retired; nothing for an active one. */
  #retiredMs({ retiredAt, revokedAt }: SigningKey): number {
    if (revokedAt !== null) return Number.POSITIVE_INFINITY;
    return retiredAt === null ? Number.NEGATIVE_INFINITY : this.#options.now() - retiredAt;
  }

  /** Never rejects: while the database is away, the keys that are known go on. */
  async #fresh(): Promise<void> {
    // What is being read began before the last change, perhaps; then it is read once more.
    if (this.#reading !== undefined) await this.#reading;
    if (this.#stale)
      this.#reading ??= this.#read()
        .catch(() => {
          this.#stale = true;
        })
        .finally(() => {
          this.#reading = undefined;
        });
    await this.#reading;
  }

  async #read(): Promise<void> {
    this.#stale = false;
    const { rows } = await this.#pool.query<Row>(READ);
    const keys = await Promise.all(rows.map(readKey));
    this.#keys = new Map(keys.map((key) => [key.kid, this.#known(key)]));
  }

  /** What was read may be from before the log told of it. */
  #known(key: SigningKey): SigningKey {
    const revokedAt = key.revokedAt ?? this.#revoked.get(key.kid) ?? null;
    return revokedAt === null ? key : { ...key, state: "retired", retiredAt: revokedAt, revokedAt };
  }

  /** `mayAdd` decides in the transaction; a key that it does not want is forgotten. */
  async #make(
    alg: Algorithm,
    log: Log,
    mayAdd: (tx: LogTransaction, kid: string, alg: Algorithm) => Promise<boolean>,
  ): Promise<SigningKey> {
    // Before the transaction: an RSA key takes a tenth of a second, and all writers would wait for it.
    const { kid, publicJwk, privateJwk } = await newKeyPair(alg);
    await log.write(async (tx) => {
      if (!(await mayAdd(tx, kid, alg))) return;
      await tx.query(ADD, [kid, alg, publicJwk, privateJwk]);
      tx.append({ kind: "signing-keys.changed" });
    });
    await this.#read();
    const key = this.#keys.get(kid) ?? this.currentOf(alg);
    if (key === undefined) throw new KiteError("internal", `kontrol made no ${alg} key`);
    return key;
  }
}

// Kites allow a clock that is half a minute off.
const PUBLISHED_BEYOND_MS = 60_000;

/** Writers of the log stand in one line: two processes that start on an empty database do not each make a key. */
async function makeFirst(tx: LogTransaction, kid: string, alg: Algorithm): Promise<boolean> {
  if ((await tx.query(ACTIVE, [alg])).rowCount !== 0) return false;
  await audit(tx, "kontrol", "keys.add", kid, { alg });
  return true;
}

const READ = `
  select kid, alg, public_jwk, private_jwk, state, round(extract(epoch from date_trunc('milliseconds', created_at)) * 1000)::float8 as created_at,
         round(extract(epoch from date_trunc('milliseconds', retired_at)) * 1000)::float8 as retired_at,
         round(extract(epoch from date_trunc('milliseconds', revoked_at)) * 1000)::float8 as revoked_at
    from kontrol.keys order by keys.created_at desc, kid`;
const ACTIVE = "select 1 from kontrol.keys where alg = $1 and state = 'active'";
const FIND = "select alg, state, revoked_at is not null as revoked from kontrol.keys where kid = $1";
const RETIRE = "update kontrol.keys set state = 'retired', retired_at = to_timestamp($2::float8 / 1000) where kid = $1";
// A version that knows no revoked keys judges by the time at which one was retired: to it the grace is long over.
const REVOKE =
  "update kontrol.keys set state = 'retired', retired_at = to_timestamp(0), revoked_at = to_timestamp($2::float8 / 1000) where kid = $1";
const SIGNED = "select count(*)::int as count from kontrol.kite_keys where kid = $1 and revoked_at is null";
const ADD = "insert into kontrol.keys (kid, alg, public_jwk, private_jwk, state) values ($1, $2, $3, $4, 'active')";

interface Row {
  readonly kid: string;
  readonly alg: Algorithm;
  readonly public_jwk: JWK;
  readonly private_jwk: JWK;
  readonly state: "active" | "retired";
  readonly created_at: number;
  readonly retired_at: number | null;
  readonly revoked_at: number | null;
}

interface Standing {
  readonly alg: Algorithm;
  readonly state: SigningKey["state"];
  readonly revoked: boolean;
}

/** Something has to sign. */
async function checkOthers(tx: LogTransaction, { alg }: Standing): Promise<void> {
  if (((await tx.query(ACTIVE, [alg])).rowCount ?? 0) >= 2) return;
  throw new KiteError("failed_precondition", `this is the only active ${alg} key; add another one before it is retired`);
}

async function readKey({ kid, alg, public_jwk, private_jwk, state, created_at, retired_at, revoked_at }: Row): Promise<SigningKey> {
  // Key pairs of JWKs are always asymmetric here, so never bare bytes.
  const publicKey = (await importJWK(public_jwk, alg, { extractable: true })) as CryptoKey;
  const privateKey = (await importJWK(private_jwk, alg)) as CryptoKey;
  const publicJwk: PublicJwk = { ...public_jwk, kid, alg, use: "sig" };
  const publicPem = (await exportSPKI(publicKey)).trim();
  // Retired by hand, in the table, without a time: for as long as it is there at all.
  const retiredAt = state === "retired" ? (retired_at ?? created_at) : null;
  const times = { createdAt: created_at, retiredAt, revokedAt: revoked_at };
  return { kid, alg, state, private: privateKey, public: publicKey, publicJwk, publicPem, ...times };
}

// Clocks of machines that are kept by NTP differ by less; older kites forgive no difference at all.
const OLDER_LEEWAY_S = 30;

/**
 * The seconds at which something is signed. They have their fraction, by which a token from the same second as a revocation
 * is told from one before it. With RS256 they are whole, since kites in Go read nothing else, and for readers of that kind
 * a little in the past, since they refuse what their own clock has not reached.
 */
export function signedAt(alg: Algorithm, nowMs: number, reader: "older" | "ours"): number {
  if (alg === "EdDSA") return nowMs / 1000;
  return Math.floor(nowMs / 1000) - (reader === "older" ? OLDER_LEEWAY_S : 0);
}
