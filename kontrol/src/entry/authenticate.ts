import {
  type Authenticate,
  anonymous,
  type Caller,
  type Identity,
  isIssuedBefore,
  KiteError,
  type Role,
  roleAllows,
  sourceOfAddress,
  verifyKiteKey,
  verifyToken,
} from "@kite-mesh/kite";
import type { Directory } from "../directory/directory.ts";
import type { Fresh } from "../directory/freshness.ts";
import type { SigningKeys } from "../trust/signing-keys.ts";
import type { EntryGuard } from "./entry-guard.ts";

export interface TrustOptions {
  readonly keys: SigningKeys;
  /** The name under which kontrol signs. */
  readonly issuer: string;
  readonly directory: Directory;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
}

/**
 * Decides who calls kontrol: the bearer of a kite.key, or of a token for kontrol. Username and role come from what was
 * verified and from the account as it is now, never from what the caller says. Without a credential only open methods answer.
 */
export function kontrolAuthenticator(options: TrustOptions & { audience: Identity; guard: EntryGuard } & Freshness): Authenticate {
  return async (auth, claimed, origin) => {
    if (auth === undefined) return anonymous(claimed);
    const source = sourceOfAddress(origin?.remoteAddress);
    const verified = await options.guard.credential(auth.key, source, () => withNewest(() => verifyCredential(auth, options), options));
    const role = lesser(verified.role, roleOf(verified.username, options.directory));
    return { ...verified, role, kite: claimed === undefined ? undefined : { ...claimed, username: verified.username } };
  };
}

export interface Freshness {
  readonly directory: Directory;
  readonly fresh: Fresh;
}

/** Looks twice: a credential that another replica gave away a moment ago may not be known here yet. */
export async function withNewest<T>(verify: () => Promise<T>, { directory, fresh }: Freshness): Promise<T> {
  const seen = directory.revision;
  try {
    return await verify();
  } catch (thrown) {
    if (KiteError.from(thrown).code !== "unauthenticated" || !(await fresh(seen))) throw thrown;
    return verify();
  }
}

async function verifyCredential(
  auth: { type: string; key: string },
  options: TrustOptions & { audience: Identity },
): Promise<Omit<Caller, "kite">> {
  if (auth.type === "kiteKey") return verifyOwnKiteKey(auth.key, options);
  if (auth.type === "token") return verifyOwnToken(auth.key, options.audience, options);
  throw refused(
    `Unknown authentication type: ${auth.type.slice(0, 40)}; kontrol accepts a kite.key ("kiteKey") or a token for kontrol ("token")`,
  );
}

async function verifyOwnKiteKey(text: string, { keys, issuer, directory }: TrustOptions): Promise<Omit<Caller, "kite">> {
  const { id: jti, username, kontrolKey, issuedAt } = await verifyKiteKey(text, { keys: ownOnly(keys), issuer });
  checkKey(kontrolKey.kid, keys);
  const issued = directory.key(jti);
  // The signature alone would make every document that kontrol ever signs a kite.key; this one was issued as such.
  if (issued === undefined || issued.username !== username) throw refused("the kite.key was never issued as one");
  if (issued.revoked) throw refused(`the kite.key of ${username} was revoked; ask kontrol's administrator for a new one`);
  return {
    username,
    role: issued.machine ? "viewer" : "owner",
    expiresAt: undefined,
    methods: issued.machine ? MACHINE_METHODS : undefined,
    credential: { jti, kid: kontrolKey.kid, type: "kiteKey", issuedAt },
  };
}

/**
 * What a machine's kite.key is for: to enter the machine's kites. An operator of the machine can read the key, and would
 * otherwise be its owner everywhere else, and by the owner's own tokens there, too.
 */
const MACHINE_METHODS = ["register", "updateLabels", "getToken", "getKey", "whoami"];

/**
 * Verifies a token that kontrol signed for one of the kites: itself, or one behind the relay.
 *
 * @throws {KiteError} `token_expired` or `unauthenticated`.
 */
export async function verifyOwnToken(text: string, audience: Identity, options: TrustOptions): Promise<Omit<Caller, "kite">> {
  const { keys, issuer, directory, now } = options;
  const token = await verifyToken(text, { keys: lookup(keys), issuer, audience, now });
  const { username, role, methods, jti, kid, expiresAt, issuedAt, revision } = token;
  checkKey(kid, keys);
  roleOf(username, directory);
  if (directory.key(jti)?.revoked) throw refused(`the kite.key that the token of ${username} came from was revoked`);
  for (const revocation of directory.recentRevocations(now())) {
    if (revocation.kite !== undefined && revocation.kite !== audience.id) continue;
    if (!isIssuedBefore(token, revocation)) continue;
    const named = (revocation.username ?? username) === username && (revocation.jti ?? jti) === jti;
    if (named) throw refused(`the token of ${username} was revoked: ${revocation.reason}`);
  }
  return { username, role, expiresAt, methods, credential: { jti, kid, type: "token", issuedAt, revision } };
}

/** It may have been taken back while the signature was looked at: who was let in then would not be shown out any more. */
function checkKey(kid: string, keys: SigningKeys): void {
  if (keys.isRevoked(kid)) throw refused("the key that signed this was revoked; ask kontrol's administrator for a new kite.key");
}

/** What an account may do at kontrol itself. */
export function roleOf(username: string, directory: Directory): Role {
  const account = directory.account(username);
  if (account?.state !== "active") throw refused(`the account "${username}" is not active`);
  return account.admin ? "owner" : "viewer";
}

function lesser(one: Role | undefined, other: Role): Role {
  return one !== undefined && roleAllows(other, one) ? one : other;
}

function lookup(keys: SigningKeys): Parameters<typeof verifyToken>[1]["keys"] {
  return {
    find: async (kid, alg) => {
      const key = await keys.find(kid);
      return key?.alg === alg ? key.public : undefined;
    },
  };
}

/** Refuses a kite.key of another kontrol in the words by which older kites know that. */
function ownOnly(keys: SigningKeys): ReturnType<typeof lookup> {
  const { find } = lookup(keys);
  return {
    find: async (kid, alg) => {
      const key = await find(kid, alg);
      if (key === undefined)
        throw refused(
          "no key pair found: what signed the kite.key is not a key of this kontrol, or none any more; ask its administrator for a new one",
        );
      return key;
    },
  };
}

function refused(message: string): KiteError {
  return new KiteError("unauthenticated", message);
}
