import { KiteError, type PublicJwk } from "@kite-mesh/kite";
import { type CryptoKey, calculateJwkThumbprint, exportJWK, exportSPKI, generateKeyPair, importJWK, type JWK } from "jose";
import type { Pool } from "pg";
import { Log } from "./log.ts";

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
}

/**
 * The keys that everything in the mesh is signed with. Several may be active; the newest of an algorithm signs, all of them
 * verify, the retired ones too: kite.keys outlive a rotation. The private halves stay in the table and in this process.
 */
export class SigningKeys {
  readonly #pool: Pool;
  #keys: ReadonlyMap<string, SigningKey> = new Map();
  /** The log told of a change that was not read yet. */
  #stale = false;
  #reading: Promise<void> | undefined;

  private constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Reads the keys; a database without any gets its first. */
  static async open(pool: Pool): Promise<SigningKeys> {
    const keys = new SigningKeys(pool);
    await keys.#read();
    if (keys.#keys.size === 0) await keys.#make("EdDSA", new Log(pool));
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
    if (this.currentOf(alg) === undefined) await this.#make(alg, log);
    const key = this.currentOf(alg);
    if (key === undefined) throw new KiteError("internal", `kontrol made no ${alg} key`);
    return key;
  }

  /** As far as this process has read; see `find`. */
  get(kid: string): SigningKey | undefined {
    return this.#keys.get(kid);
  }

  /** A key by its id, also one that another kontrol has just made. */
  async find(kid: string): Promise<SigningKey | undefined> {
    await this.#fresh();
    return this.#keys.get(kid);
  }

  /** The table has changed: it is read again before a key is looked for. */
  changed(): void {
    this.#stale = true;
    void this.#fresh();
  }

  /** What others verify with: RFC 7517, public halves only. */
  publicKeys(): PublicJwk[] {
    return [...this.#keys.values()].map(({ publicJwk }) => publicJwk);
  }

  /** Never rejects: while the database is away, the keys that are known go on. */
  async #fresh(): Promise<void> {
    if (!this.#stale) return;
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
    this.#keys = new Map(keys.map((key) => [key.kid, key]));
  }

  async #make(alg: Algorithm, log: Log): Promise<void> {
    // Before the transaction: an RSA key takes a tenth of a second, and all writers would wait for it.
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
    const publicJwk = await exportJWK(publicKey);
    const kid = await calculateJwkThumbprint(publicJwk);
    const privateJwk = await exportJWK(privateKey);
    await log.write(async (tx) => {
      // Writers of the log stand in one line: two processes that start on an empty database do not each make a key.
      if ((await tx.query(ACTIVE, [alg])).rowCount !== 0) return;
      await tx.query(ADD, [kid, alg, publicJwk, privateJwk]);
      tx.append({ kind: "signing-keys.changed" });
    });
    await this.#read();
  }
}

const READ = "select kid, alg, public_jwk, private_jwk, state from kontrol.keys order by created_at desc, kid";
const ACTIVE = "select 1 from kontrol.keys where alg = $1 and state = 'active' limit 1";
const ADD = "insert into kontrol.keys (kid, alg, public_jwk, private_jwk, state) values ($1, $2, $3, $4, 'active')";

interface Row {
  readonly kid: string;
  readonly alg: Algorithm;
  readonly public_jwk: JWK;
  readonly private_jwk: JWK;
  readonly state: "active" | "retired";
}

async function readKey({ kid, alg, public_jwk, private_jwk, state }: Row): Promise<SigningKey> {
  // Key pairs of JWKs are always asymmetric here, so never bare bytes.
  const publicKey = (await importJWK(public_jwk, alg, { extractable: true })) as CryptoKey;
  const privateKey = (await importJWK(private_jwk, alg)) as CryptoKey;
  const publicJwk: PublicJwk = { ...public_jwk, kid, alg, use: "sig" };
  return { kid, alg, state, private: privateKey, public: publicKey, publicJwk, publicPem: (await exportSPKI(publicKey)).trim() };
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
