import { KiteError, type PublicJwk } from "@kite-mesh/kite";
import { type CryptoKey, calculateJwkThumbprint, exportJWK, exportSPKI, generateKeyPair, importJWK, type JWK } from "jose";
import type { Pool } from "pg";
import { withConnection } from "./connection.ts";

const ALG = "EdDSA";

export interface SigningKey {
  readonly kid: string;
  readonly alg: string;
  readonly private: CryptoKey;
  readonly public: CryptoKey;
  readonly publicJwk: PublicJwk;
  /** The public key as PEM, the form in which a kite.key carries it. */
  readonly publicPem: string;
  readonly state: "active" | "retired";
}

/**
 * The keys that everything in the mesh is signed with. Several may be active; the newest of them signs, all of them
 * verify, the retired ones too: kite.keys outlive a rotation. The private halves stay in the table and in this process.
 */
export class SigningKeys {
  readonly #keys: ReadonlyMap<string, SigningKey>;
  readonly current: SigningKey;

  private constructor(keys: readonly SigningKey[]) {
    const current = keys.find(({ state }) => state === "active");
    if (current === undefined)
      throw new KiteError("failed_precondition", "every signing key of kontrol is retired; activate one in kontrol.keys");
    this.#keys = new Map(keys.map((key) => [key.kid, key]));
    this.current = current;
  }

  /** Reads the keys; a database without any gets its first. */
  static async open(pool: Pool): Promise<SigningKeys> {
    const stored = await readKeys(pool);
    if (stored.length > 0) return new SigningKeys(stored);
    await makeFirst(pool);
    return new SigningKeys(await readKeys(pool));
  }

  get(kid: string): SigningKey | undefined {
    return this.#keys.get(kid);
  }

  /** What others verify with: RFC 7517, public halves only. */
  publicKeys(): PublicJwk[] {
    return [...this.#keys.values()].map(({ publicJwk }) => publicJwk);
  }
}

const READ = "select kid, alg, public_jwk, private_jwk, state from kontrol.keys order by created_at desc, kid";
const COUNT = "select 1 from kontrol.keys limit 1";
const LOCK = "lock table kontrol.keys in share row exclusive mode";
const ADD = "insert into kontrol.keys (kid, alg, public_jwk, private_jwk, state) values ($1, $2, $3, $4, 'active')";

interface Row {
  readonly kid: string;
  readonly alg: string;
  readonly public_jwk: JWK;
  readonly private_jwk: JWK;
  readonly state: "active" | "retired";
}

async function readKeys(pool: Pool): Promise<SigningKey[]> {
  const { rows } = await pool.query<Row>(READ);
  return Promise.all(rows.map(readKey));
}

async function readKey({ kid, alg, public_jwk, private_jwk, state }: Row): Promise<SigningKey> {
  // Key pairs of JWKs are always asymmetric here, so never bare bytes.
  const publicKey = (await importJWK(public_jwk, alg, { extractable: true })) as CryptoKey;
  const privateKey = (await importJWK(private_jwk, alg)) as CryptoKey;
  const publicJwk: PublicJwk = { ...public_jwk, kid, alg, use: "sig" };
  return { kid, alg, state, private: privateKey, public: publicKey, publicJwk, publicPem: (await exportSPKI(publicKey)).trim() };
}

async function makeFirst(pool: Pool): Promise<void> {
  const { publicKey, privateKey } = await generateKeyPair(ALG, { extractable: true });
  const publicJwk = await exportJWK(publicKey);
  const kid = await calculateJwkThumbprint(publicJwk);
  const privateJwk = await exportJWK(privateKey);
  await withConnection(pool, async (client) => {
    await client.query("begin");
    // Two processes that start on an empty database must not each sign with a key of their own.
    await client.query(LOCK);
    const { rows } = await client.query(COUNT);
    if (rows.length === 0) await client.query(ADD, [kid, ALG, publicJwk, privateJwk]);
    await client.query("commit");
  });
}
