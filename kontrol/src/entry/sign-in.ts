import { type Call, callerOf, callWith, KiteError, sourceOfAddress } from "@kite-mesh/kite";
import { audit } from "../database/audit.ts";
import type { Log } from "../database/log.ts";
import type { Follower } from "../directory/follower.ts";
import { canonicalUsername } from "../people/usernames.ts";
import { issueKiteKey, type KiteKeyOptions } from "../trust/kite-keys.ts";
import type { SigningKey, SigningKeys } from "../trust/signing-keys.ts";
import type { DeviceCodes } from "./device-codes.ts";
import type { EntryGuard } from "./entry-guard.ts";
import { useJoinToken } from "./join-tokens.ts";
import type { Passwords } from "./passwords.ts";

export interface SignInServices {
  readonly log: Log;
  readonly follower: Follower;
  readonly keys: SigningKeys;
  readonly kiteKeys: () => KiteKeyOptions;
  readonly guard: EntryGuard;
  readonly passwords: Passwords;
  readonly deviceCodes: DeviceCodes;
}

/** What `registerMachine` takes for a kite.key. A bare name is nothing of it. */
export type Entry =
  | { readonly joinToken: string }
  | { readonly username: string; readonly password: string; readonly hostname?: string | undefined }
  | { readonly deviceCode: string };

/** How kites in Go ask: what they have to show is asked for with a call of its own, or stands beside the kind. */
export interface OlderEntry {
  readonly authType: "password" | "token" | "joinToken";
  readonly username?: string | null | undefined;
  readonly token?: string | null | undefined;
}

/** Finds or makes the key that signs. Asked when the secret is known to be good: no stranger has one made. */
type Signer = () => Promise<SigningKey>;

/**
 * Exchanges what a stranger shows for a kite.key: a machine's for a join token, a person's own for a password or an approval.
 *
 * @throws {KiteError} `unauthenticated`, `permission_denied` when the approval was denied, `overloaded` after too many tries.
 */
export async function enter(entry: Entry, call: Call, services: SignInServices, signer?: Signer): Promise<string> {
  const { guard, log, follower, kiteKeys, deviceCodes } = services;
  const source = sourceOf(call);
  const options = kiteKeys();
  const { kiteKey, revision } =
    "joinToken" in entry
      ? await guard.unlessFailing("joinTokens", source, () => useJoinToken(log, entry.joinToken, options, signer))
      : "deviceCode" in entry
        ? await guard.unlessFailing("deviceCodes", source, (right) =>
            deviceCodes.redeem(entry.deviceCode, options, { signal: call.signal, known: right }),
          )
        : await byPassword(entry, source, signer, services);
  await follower.reached(revision);
  return kiteKey;
}

/** Whom a call counts for where tries are counted. */
export function sourceOf({ session }: Call): string {
  return sourceOfAddress(session.remoteAddress);
}

interface Guess {
  readonly username: string;
  readonly password: string;
  readonly source: string;
}

/**
 * Whether it is the person's password, within what may be tried from one source and for one account.
 *
 * @throws {KiteError} `overloaded`.
 */
export async function checkPassword(
  { username, password, source }: Guess,
  { guard, passwords }: Pick<SignInServices, "guard" | "passwords">,
): Promise<boolean> {
  // Also for names that nobody has: who may not try any more must not tell who is there. In one spelling, so that there is one account.
  const right = guard.attempt({ passwordsPerSource: source, passwordsPerAccount: canonicalUsername(username) });
  try {
    const good = await passwords.verify(username, password);
    if (good) right();
    else passwords.noteWrong(username, source);
    return good;
  } catch (thrown) {
    // Nobody looked at it, so it told nothing: a flood of others' guesses must not use up the tries of this account.
    right();
    throw thrown;
  }
}

type ByPassword = Extract<Entry, { password: string }>;

async function byPassword(
  { username, password, hostname }: ByPassword,
  source: string,
  signer: Signer | undefined,
  services: SignInServices,
) {
  if (!(await checkPassword({ username, password, source }, services))) throw wrongPassword();
  const options = { ...services.kiteKeys(), ...(signer && { signingKey: await signer() }) };
  try {
    const { result: kiteKey, revision } = await services.log.write(async (tx) => {
      const issued = await issueKiteKey(tx, username, options);
      await audit(tx, username, "registerMachine", username, { by: "password", source, ...(hostname === undefined ? {} : { hostname }) });
      return issued;
    });
    return { kiteKey, revision };
  } catch (thrown) {
    // Removed while the password was verified.
    throw KiteError.from(thrown).code === "not_found" ? wrongPassword() : thrown;
  }
}

/** The same for everybody: neither who is there nor who has a password is told. */
function wrongPassword(): KiteError {
  return new KiteError(
    "unauthenticated",
    "the username or the password is wrong, or this person has no password; kite login without --password asks for an approval instead",
  );
}

// Somebody has to find the token and type it.
const ASK_TIMEOUT_MS = 60_000;

/** An older machine is asked for its secret with a call, and gets a key that it can read. */
export async function enterOlder({ authType, username, token }: OlderEntry, call: Call, services: SignInServices): Promise<string> {
  const byName = authType === "password" && username;
  const secret = token || (await askFor(byName ? `Password of ${username}: ` : "Join token: ", call));
  const signer = () => services.keys.ensure("RS256", services.log);
  return enter(byName ? { username: byName, password: secret } : { joinToken: secret.trim() }, call, services, signer);
}

async function askFor(question: string, call: Call): Promise<string> {
  const caller = callWith(callerOf<{ kite: { getPass(message: string): Promise<unknown> } }>(call), { timeoutMs: ASK_TIMEOUT_MS });
  const answer = await caller.kite.getPass(question);
  if (typeof answer === "string" && answer.length <= MAX_SECRET) return answer;
  throw new KiteError("invalid_argument", `kite.getPass is answered with a text of at most ${MAX_SECRET} characters`);
}

const MAX_SECRET = 256;
