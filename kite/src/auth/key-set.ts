import { type CryptoKey, importJWK, importSPKI } from "jose";
import { KiteError } from "../errors.ts";
import { type Logger, silent } from "../log.ts";
import type { PublicJwk } from "../registry/registry.ts";
import { ALGORITHMS, type Algorithm, type KeyLookup } from "./signed.ts";

/** A public key that is trusted because somebody trusted gave it: the `kontrolKey` of a kite.key, for example. */
export interface TrustedKey {
  readonly kid: string;
  readonly alg: Algorithm;
  /** SPKI PEM. */
  readonly pem: string;
}

/** Where the keys of a {@link KeySet} come from. */
export interface KeySetOptions {
  /** What is trusted from the start, so that the first token is verified without asking anybody. */
  trusted?: readonly TrustedKey[];
  /** Asks kontrol for its keys; left out, only the trusted ones are known. See {@link publishedKeys}. */
  fetchKeys?: ((signal: AbortSignal) => Promise<readonly PublicJwk[]>) | undefined;
  /** Whether a key was taken back, which is heard before it is gone from what is published. Default: none was. */
  isRevoked?: ((kid: string) => boolean) | undefined;
  log?: Logger | undefined;
  /** Milliseconds, as `Date.now`. */
  now?: () => number;
}

/**
 * The public keys of one kontrol. A key that is not known yet is asked for, at most once in a few seconds, so that a
 * stranger who invents key ids cannot make this kite flood kontrol. A key that kontrol no longer publishes is forgotten.
 * Whoever made the set closes it.
 *
 * @example
 * const keys = new KeySet({ trusted: [kiteKey.kontrolKey], fetchKeys: publishedKeys(kiteKey.kontrolUrl) });
 * const { username } = await verifyToken(token, { keys, issuer: kiteKey.issuer, audience: kite.identity });
 */
export class KeySet implements KeyLookup {
  readonly #options: KeySetOptions;
  readonly #now: () => number;
  readonly #closing = new AbortController();
  #keys: Map<string, Entry>;
  #refreshing: Promise<void> | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  #answeredAt: number;

  constructor(options: KeySetOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#answeredAt = this.#now();
    this.#keys = new Map(options.trusted?.map((key) => [key.kid, trusted(key)]));
  }

  /** The key of that id, if kontrol has one and it signs that way. Rejects never; undefined means "not to be trusted". */
  async find(kid: string, alg: Algorithm): Promise<CryptoKey | undefined> {
    if (this.#options.isRevoked?.(kid)) return undefined;
    if (!this.#keys.has(kid)) await this.#refresh();
    else if (this.#now() - this.#answeredAt > REFRESH_AFTER_MS) void this.#refresh(); // never rejects; the known key serves meanwhile
    const entry = this.#keys.get(kid);
    if (entry === undefined || entry.alg !== alg) return undefined;
    try {
      entry.key ??= entry.load();
      return await entry.key;
    } catch (cause) {
      this.#log.warn({ kid, alg, error: KiteError.from(cause).message }, "a public key cannot be used");
      return undefined;
    }
  }

  /** The keys that may have signed what does not name its key: the original Kite's credentials, which are all RS256. */
  async unnamed(): Promise<readonly CryptoKey[]> {
    const { isRevoked = () => false } = this.#options;
    const kids = (): string[] => [...this.#keys].filter(([kid, { alg }]) => alg === "RS256" && !isRevoked(kid)).map(([kid]) => kid);
    if (kids().length === 0) await this.#refresh();
    const keys = await Promise.all(kids().map((kid) => this.find(kid, "RS256")));
    return keys.filter((key) => key !== undefined);
  }

  /** Ends a request that is on its way. Keys that are known stay known. */
  close(): void {
    this.#closing.abort();
  }

  get #log(): Logger {
    return this.#options.log ?? silent;
  }

  #refresh(): Promise<void> {
    const { fetchKeys } = this.#options;
    if (this.#refreshing !== undefined) return this.#refreshing;
    if (fetchKeys === undefined || this.#closing.signal.aborted || this.#now() - this.#askedAt < COOLDOWN_MS) return Promise.resolve();
    this.#askedAt = this.#now();
    this.#refreshing = fetchKeys(AbortSignal.any([this.#closing.signal, AbortSignal.timeout(FETCH_TIMEOUT_MS)]))
      .then((keys) => this.#replace(keys))
      .catch((cause) =>
        this.#log.warn(
          { error: KiteError.from(cause).message },
          "kontrol's public keys could not be fetched; going on with the known ones",
        ),
      )
      .finally(() => {
        this.#refreshing = undefined;
      });
    return this.#refreshing;
  }

  #replace(published: readonly PublicJwk[]): void {
    const usable = published.slice(0, MAX_KEYS).flatMap((jwk): [string, Entry][] => {
      const alg = ALGORITHMS.find((allowed) => allowed === jwk.alg);
      return alg === undefined || typeof jwk.kid !== "string" ? [] : [[jwk.kid, { alg, load: () => importPublic(jwk, alg) }]];
    });
    if (usable.length === 0) throw new KiteError("invalid_result", "kontrol published no key that signs with EdDSA or RS256");
    this.#keys = new Map(usable);
    this.#answeredAt = this.#now();
  }
}

/**
 * Asks kontrol's HTTP server for its keys, at `/.well-known/jwks.json` of the address that kites dial.
 *
 * @throws {KiteError} from what it answers with: `unavailable` when kontrol answers with a failure, `invalid_result` for what is no set of
 * keys, `limit_exceeded` for one that is too large.
 * @example const keys = new KeySet({ trusted: [kiteKey.kontrolKey], fetchKeys: publishedKeys(kiteKey.kontrolUrl) });
 */
export function publishedKeys(kontrolUrl: string, fetcher: typeof fetch = fetch): (signal: AbortSignal) => Promise<readonly PublicJwk[]> {
  const url = new URL("/.well-known/jwks.json", kontrolUrl.replace(/^ws/i, "http"));
  return async (signal) => {
    const response = await fetcher(url, { signal, redirect: "error", headers: { accept: "application/json" } });
    if (!response.ok) throw new KiteError("unavailable", `${url} answered ${response.status}; 200 was expected`);
    const body: unknown = JSON.parse(await readBounded(response, url));
    const keys = (body as { keys?: unknown } | null)?.keys;
    if (!Array.isArray(keys)) throw new KiteError("invalid_result", `${url} must answer {"keys": […]} (RFC 7517)`);
    return keys.filter((key): key is PublicJwk => typeof key === "object" && key !== null);
  };
}

interface Entry {
  readonly alg: Algorithm;
  readonly load: () => Promise<CryptoKey>;
  key?: Promise<CryptoKey>;
}

// A kontrol has one key, or two while it changes them; a kite that asks this often is never behind for long.
const COOLDOWN_MS = 5_000;
// The life of a token: a key that kontrol withdrew is trusted hardly longer than the last token that it signed.
const REFRESH_AFTER_MS = 10 * 60_000;
// A caller waits for this; a kontrol that is up answers from memory.
const FETCH_TIMEOUT_MS = 5_000;
const MAX_KEYS = 32;
// Thirty-two RSA keys of 4096 bits have 32 KiB.
const MAX_BODY_BYTES = 64 * 1024;

function trusted({ alg, pem }: TrustedKey): Entry {
  return { alg, load: () => importSPKI(pem, alg) };
}

/** Takes the public members only: a private key that was published by mistake must not be used as one. */
function importPublic({ kty, crv, x, n, e }: PublicJwk, alg: Algorithm): Promise<CryptoKey> {
  const members = Object.entries({ kty, crv, x, n, e }).filter(([, value]) => typeof value === "string");
  return importJWK(Object.fromEntries(members), alg) as Promise<CryptoKey>; // bytes only for symmetric keys, which these algorithms exclude
}

async function readBounded(response: Response, url: URL): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > MAX_BODY_BYTES) throw new KiteError("limit_exceeded", `${url} answered with more than ${MAX_BODY_BYTES} bytes`);
  }
  return text + decoder.decode();
}
