import { type CryptoKey, exportJWK, exportSPKI, generateKeyPair, SignJWT } from "jose";
import { Endable } from "../abortable.ts";
import { KeySet, type TrustedKey } from "../auth/key-set.ts";
import { verifyKiteKey } from "../auth/kite-key.ts";
import { anonymous } from "../auth/token.ts";
import type { Schema } from "../contract/standard-schema.ts";
import { KiteError } from "../errors.ts";
import { formatIdentity, type Identity, type Query } from "../identity.ts";
import { Kite } from "../kite.ts";
import { changeLabels, type LabelChange } from "../labels.ts";
import { type Call, method, type Role } from "../method.ts";
import { matcher } from "../query.ts";
import type {
  DirectoryKite,
  FoundKite,
  IssuedToken,
  PublicJwk,
  Register,
  Registered,
  Revocation,
  WatchEvent,
} from "../registry/registry.ts";

/** What a fake kontrol decides; every field may be left out. */
export interface FakeKontrolOptions {
  /** What somebody may do at a kite; undefined: he does not find it. Default: its user is `owner`, all others `viewer`. */
  readonly access?: ((username: string, kite: Identity) => Role | undefined) | undefined;
  /** How long tokens last, in milliseconds. Default ten minutes. */
  readonly tokenMs?: number | undefined;
}

/** What a test may ask a token to say. */
export interface FakeToken {
  readonly username: string;
  /** The kite that it opens. */
  readonly audience: Identity;
  /** Default `viewer`. */
  readonly role?: Role | undefined;
  readonly methods?: readonly string[] | undefined;
  /** Milliseconds since the epoch; in the past for one that has expired. Default: as long as tokens last. */
  readonly expiresAt?: number | undefined;
}

/** A kontrol that a test has for itself; whoever opened it closes it. */
export interface FakeKontrol extends AsyncDisposable {
  /** Where kites reach it; the kite.keys name it. */
  readonly url: string;
  /** The kites that are registered. */
  readonly kites: readonly Identity[];
  /** A kite.key, for the option of that name. Default: Alice's. */
  kiteKey(username?: string): Promise<string>;
  /** A token that says what the test wants, signed as kontrol's are. */
  token(token: FakeToken): Promise<string>;
  /** Whatever was given to this person until now is no longer good, and sessions that were opened with it end. */
  revoke(username: string, reason?: string): void;
  /** From now on it answers nothing, and the registrations end with its sessions, until {@link comeBack}. */
  goAway(): void;
  /** It answers again; kites register by themselves. */
  comeBack(): void;
}

/**
 * A small kontrol in this process, on a port of 127.0.0.1: registers kites, finds them, watches, gives out real tokens and
 * revokes them. It keeps everything in memory, relays nothing, and knows nobody by name: whoever has a kite.key is somebody.
 *
 * @example
 * await using kontrol = await fakeKontrol();
 * await using math = new Kite({ name: "math", version: "1.0.0", methods, kiteKey: await kontrol.kiteKey("alice") });
 * await math.listen();
 * await math.register();
 * await using bob = new Kite({ name: "caller", version: "1.0.0", kiteKey: await kontrol.kiteKey("bob") });
 * await using remote = await bob.connect<MathContract>({ name: "math" });
 */
export async function fakeKontrol(options: FakeKontrolOptions = {}): Promise<FakeKontrol> {
  const { privateKey, publicKey } = await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true });
  const signer: Signer = {
    key: privateKey,
    pem: await exportSPKI(publicKey),
    jwk: { ...(await exportJWK(publicKey)), kid: KID, alg: "EdDSA" },
  };
  const fake = new Fake(signer, options);
  await fake.open();
  return fake;
}

const KID = "fake";
const ISSUER = "kontrol";
const TOKEN_MS = 10 * 60_000;
const HEARTBEAT_MS = 10_000;

interface Signer {
  readonly key: CryptoKey;
  readonly pem: string;
  readonly jwk: PublicJwk;
}

class Fake implements FakeKontrol {
  readonly #signer: Signer;
  readonly #options: FakeKontrolOptions;
  readonly #kite: Kite;
  readonly #entries = new Map<string, DirectoryKite>();
  readonly #changes = new Journal<WatchEvent>();
  readonly #revocations = new Journal<Revocation>();
  #url = "";
  #away = false;

  constructor(signer: Signer, options: FakeKontrolOptions) {
    this.#signer = signer;
    this.#options = options;
    const trusted: TrustedKey = { kid: KID, alg: "EdDSA", pem: signer.pem };
    const keys = new KeySet({ trusted: [trusted] });
    this.#kite = new Kite({
      name: "kontrol",
      version: "1.0.0",
      username: "kontrol",
      methods: this.#methods(),
      authenticate: async (auth, claimed) => {
        if (auth === undefined) return anonymous(claimed);
        const { username, id, issuedAt } = await verifyKiteKey(auth.key, { keys, issuer: ISSUER });
        const credential = { type: "kiteKey", jti: id, kid: KID, issuedAt };
        return { username, role: "viewer", kite: undefined, expiresAt: undefined, methods: undefined, credential };
      },
    });
  }

  get url(): string {
    return this.#url;
  }

  get kites(): readonly Identity[] {
    return [...this.#entries.values()].map(({ kite }) => kite);
  }

  async open(): Promise<void> {
    const keys = JSON.stringify({ keys: [this.#signer.jwk] });
    const { url } = await this.#kite.listen({
      http: (_, response) => void response.writeHead(this.#away ? 503 : 200, { "content-type": "application/json" }).end(keys),
    });
    this.#url = url;
  }

  kiteKey(username = "alice"): Promise<string> {
    return this.#sign({ kontrolURL: this.#url, kontrolKey: this.#signer.pem }, username).sign(this.#signer.key);
  }

  token({ username, audience, role = "viewer", methods, expiresAt }: FakeToken): Promise<string> {
    const end = expiresAt ?? Date.now() + (this.#options.tokenMs ?? TOKEN_MS);
    return this.#sign({ role, ...(methods === undefined ? {} : { methods }) }, username)
      .setAudience(formatIdentity(audience))
      .setNotBefore(new Date(Math.min(Date.now(), end)))
      .setExpirationTime(new Date(end))
      .sign(this.#signer.key);
  }

  revoke(username: string, reason = "the test has revoked it"): void {
    this.#revocations.add({ revision: `${this.#revocations.size + 1}`, username, reason, at: Date.now() });
  }

  goAway(): void {
    this.#away = true;
    this.#kite.endSessions(() => true, new KiteError("unavailable", "kontrol is away"));
  }

  comeBack(): void {
    this.#away = false;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#kite.close();
  }

  #methods() {
    const role = "viewer" as const;
    return {
      register: method({ role, input: asSent<Register>() }, (registration, call) => this.#register(registration, call)),
      updateLabels: method({ role, input: asSent<{ labels: LabelChange }>() }, ({ labels }, call) => this.#relabel(labels, call)),
      getKites: method({ role, input: asSent<Asked>() }, ({ query }, call) => this.#find(query, call)),
      watch: method({ role, input: asSent<Asked & { since?: string }>() }, ({ query, since }, call) => this.#watch(query, since, call)),
      getToken: method({ role, input: asSent<Asked>() }, ({ query }, call) => this.#tokenFor(query, call)),
      getKey: method({ role: "anyone" }, () => ({ keys: [this.#signer.jwk], current: KID })),
    };
  }

  #register({ kite: claimed, url, visibility = "private", labels = {} }: Register, { caller, session }: Call): Registered {
    this.#checkHere();
    if (url === undefined) {
      throw new KiteError("failed_precondition", "a fake kontrol relays nothing; let the kite listen before it registers");
    }
    const kite: Identity = { ...claimed, username: caller.username };
    this.#enter({ kite, url, visibility, labels, role: "owner", registeredAt: Date.now() });
    const generation = `${this.#changes.size}`;
    this.#sessions.set(session.id, kite.id);
    session.closed.addEventListener("abort", () => this.#leave(session.id, kite), { once: true });
    return { kite, url, generation, heartbeatMs: HEARTBEAT_MS, beat: () => {}, revocations: this.#revocations.follow(0) };
  }

  /** Which kite registered in which session. */
  readonly #sessions = new Map<string, string>();

  #relabel(change: LabelChange, { session }: Call): void {
    this.#checkHere();
    const entry = this.#entries.get(this.#sessions.get(session.id) ?? "");
    if (entry === undefined) throw new KiteError("failed_precondition", "no kite is registered in this session");
    this.#enter({ ...entry, labels: changeLabels(entry.labels, change) });
  }

  #enter(entry: DirectoryKite): void {
    this.#entries.set(entry.kite.id, entry);
    this.#changes.add({ type: "registered", revision: `${this.#changes.size + 1}`, kite: entry });
  }

  #leave(session: string, kite: Identity): void {
    this.#sessions.delete(session);
    // It may have registered again in another session.
    if ([...this.#sessions.values()].includes(kite.id) || !this.#entries.delete(kite.id)) return;
    this.#changes.add({ type: "gone", revision: `${this.#changes.size + 1}`, kite, reason: "its session closed" });
  }

  async #find(query: Query, call: Call): Promise<{ kites: FoundKite[]; revision: string }> {
    this.#checkHere();
    const kites = this.#matching(query, call).map(async (entry) => {
      const { token, expiresAt } = await this.#issue(entry, call);
      return { ...entry, token, tokenExpiresAt: expiresAt };
    });
    return { kites: await Promise.all(kites), revision: `${this.#changes.size}` };
  }

  #watch(query: Query, since: string | undefined, call: Call): AsyncIterable<WatchEvent> {
    this.#checkHere();
    const revision = `${this.#changes.size}`;
    const first: WatchEvent[] = since === undefined ? [{ type: "snapshot", revision, kites: this.#matching(query, call) }] : [];
    const means = matcher(query);
    return this.#changes.follow(Number(since ?? revision), first, (event) => {
      if (event.type === "snapshot") return event;
      const { kite, labels } = event.type === "gone" ? { kite: event.kite, labels: undefined } : event.kite;
      const role = this.#roleOf(kite, call);
      if (role === undefined || !(event.type === "gone" ? matcher({ ...query, labels: [] })(kite) : means(kite, labels))) return undefined;
      return event.type === "gone" ? event : { ...event, kite: { ...event.kite, role } };
    });
  }

  async #tokenFor(query: Query, call: Call): Promise<IssuedToken> {
    this.#checkHere();
    const [entry, another] = this.#matching(query, call);
    if (entry === undefined) throw new KiteError("not_found", "no kite matches");
    if (another !== undefined) throw new KiteError("failed_precondition", "more than one kite matches; a token is for one");
    return this.#issue(entry, call);
  }

  async #issue({ kite, role }: DirectoryKite, { caller: { username } }: Call): Promise<IssuedToken> {
    const expiresAt = Date.now() + (this.#options.tokenMs ?? TOKEN_MS);
    return { token: await this.token({ username, audience: kite, role, expiresAt }), expiresAt };
  }

  #matching(query: Query, call: Call): DirectoryKite[] {
    const means = matcher(query);
    return [...this.#entries.values()].flatMap((entry) => {
      const role = means(entry.kite, entry.labels) ? this.#roleOf(entry.kite, call) : undefined;
      return role === undefined ? [] : [{ ...entry, role }];
    });
  }

  #roleOf(kite: Identity, { caller: { username } }: Call): Role | undefined {
    const { access = (who, { username: owner }) => (who === owner ? "owner" : "viewer") } = this.#options;
    return access(username, kite);
  }

  #checkHere(): void {
    if (this.#away) throw new KiteError("unavailable", "kontrol is away", { outcome: "not_run" });
  }

  #sign(claims: Record<string, unknown>, username: string): SignJWT {
    const header = { alg: "EdDSA", kid: KID };
    return new SignJWT(claims).setProtectedHeader(header).setIssuer(ISSUER).setSubject(username).setIssuedAt().setJti(crypto.randomUUID());
  }
}

interface Asked {
  readonly query: Query;
}

/** Kites ask it, and what they ask is typed. */
function asSent<T>(): Schema<T> {
  return { "~standard": { version: 1, vendor: "kite", validate: (value) => ({ value: value as T }) } };
}

/** What has happened, for any number of readers. */
class Journal<T> {
  readonly #entries: T[] = [];
  readonly #waiting = new Set<() => void>();

  get size(): number {
    return this.#entries.length;
  }

  add(entry: T): void {
    this.#entries.push(entry);
    for (const wake of [...this.#waiting]) wake();
  }

  /** `first`, then every entry from this number on, as `seen` shows it: what it answers with undefined is left out. */
  follow(from: number, first: readonly T[] = [], seen: (entry: T) => T | undefined = (entry) => entry): AsyncIterable<T> {
    const journal = this;
    return new Endable(async function* (signal) {
      yield* first;
      for (let at = from; !signal.aborted; ) {
        for (; at < journal.#entries.length; at++) {
          const entry = seen(journal.#entries[at] as T);
          if (entry !== undefined) yield entry;
        }
        await journal.#next(signal);
      }
    });
  }

  #next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener("abort", wake, { once: true });
    });
  }
}
