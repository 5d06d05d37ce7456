import { callWith, type IssuedToken, type Kite, KiteError } from "@kite-mesh/kite";
import type { KloudContract } from "@kite-mesh/kloud/contract";
import type { ExternalIdentity, KontrolContract, NewPerson, Person } from "@kite-mesh/kontrol/contract";

/** The rest of the mesh, as the gateway needs it. Every call ends within seconds: somebody at a browser waits, or a lease. */
export interface Mesh {
  get(username: string): Promise<Person>;
  token(username: string): Promise<IssuedToken>;
  createPerson(person: NewPerson): Promise<{ person: Person; created: boolean }>;
  /** By the identity at GitLab, also of somebody who was removed. */
  findUsername(external: ExternalIdentity): Promise<string | undefined>;
  removePerson(external: ExternalIdentity): Promise<{ removed: boolean; username?: string }>;
  releaseStacks(username: string): Promise<void>;
  /** Where a kite is reached by somebody: kontrol itself by its name, others by their id, with what that person may see. */
  urlOf(username: string, kiteId: string, signal: AbortSignal): Promise<string>;
  /** Rejects when kontrol does not answer. */
  ready(): Promise<void>;
}

/** Speaks to kontrol and kloud with the gateway's own key; to look for kites, with the person's own rights. */
export function meshOf(kite: Kite, kontrolUrl: string): Mesh {
  const kontrol = () => callWith(kite.kontrol<KontrolContract>(), { timeoutMs: CALL_MS });
  const people = () => kontrol().people;
  return {
    get: (username) => people().get({ username }),
    token: (username) => people().token({ username }),
    createPerson: (person) => people().create(person),
    async findUsername({ issuer, subject }) {
      const all = await people().list();
      return all.find(({ external }) => external.some((is) => is.issuer === issuer && is.subject === subject))?.username;
    },
    removePerson: (external) => people().remove({ external }),
    async releaseStacks(username) {
      await using kloud = await kite.connect<KloudContract>({ username: "kloud", name: "kloud" }, { signal: AbortSignal.timeout(CALL_MS) });
      await callWith(kloud, { timeoutMs: CALL_MS }).stack.release({ username });
    },
    async urlOf(username, kiteId, signal) {
      if (kiteId === "kontrol") return kontrolUrl;
      const { token } = await people().token({ username });
      await using theirs = kite.dial<KontrolContract>({ url: kontrolUrl, auth: { type: "token", key: token } });
      const { kites } = await callWith(theirs, { timeoutMs: CALL_MS, signal }).getKites({ query: { id: kiteId } });
      const url = kites[0]?.url;
      if (url === undefined) throw new KiteError("not_found", `no kite with the id ${kiteId} is there for ${username}`);
      return url;
    },
    async ready() {
      await kontrol().whoami();
    },
  };
}

// kontrol and kloud answer in milliseconds; one that needs longer is better asked again later.
const CALL_MS = 10_000;
