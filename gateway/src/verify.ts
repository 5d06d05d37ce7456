import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { KiteError } from "@kite-mesh/kite";

/** What a hook may be signed with; make it with {@link hookSecrets}. Without any secret the hook is off. */
export interface HookSecrets {
  readonly token: string | undefined;
  readonly signingKeys: readonly Buffer[];
}

export type Verdict =
  | { readonly verified: true; readonly instance: string; readonly by: "signature" | "token" }
  | { readonly verified: false; readonly status: 401 | 404; readonly sentence: string };

/**
 * Tells whether a delivery comes from who it says, over the bytes as they were received. A delivery that carries a
 * signature is judged by the signature alone: it never falls back to the token, or stripping trust would be as easy as
 * adding a header. `webhook-id` without a signature proves nothing: GitLab 19 sends it with token-only hooks too.
 */
export function verifyDelivery(delivery: { headers: IncomingHttpHeaders; body: Uint8Array }, secrets: HookSecrets, now: Date): Verdict {
  if (secrets.token === undefined && secrets.signingKeys.length === 0) return OFF;
  const { headers } = delivery;
  const signature = single(headers["webhook-signature"]);
  const problem =
    signature === undefined ? checkToken(single(headers["x-gitlab-token"]), secrets) : checkSignature(signature, delivery, secrets, now);
  if (problem !== undefined) return { verified: false, status: 401, sentence: problem };
  return {
    verified: true,
    instance: instanceOf(single(headers["x-gitlab-instance"])),
    by: signature === undefined ? "token" : "signature",
  };
}

/**
 * Reads the configured secrets once, at start. An empty token counts as none: an empty header must never match it.
 *
 * @throws {KiteError} `invalid_argument` for a signing token that is not `whsec_` and the base64 of 32 bytes.
 */
export function hookSecrets(configured: { hookToken?: string | undefined; signingTokens?: readonly string[] | undefined }): HookSecrets {
  return { token: configured.hookToken || undefined, signingKeys: (configured.signingTokens ?? []).map(readSigningToken) };
}

// Standard Webhooks' tolerance: wide enough for clocks that drift, narrow enough that a recorded delivery soon is worthless.
const TOLERANCE_SECONDS = 300;
const SIGNING_KEY_BYTES = 32;
// An address of a GitLab instance is a hostname (253) with scheme, port and perhaps a path.
const MAX_INSTANCE = 300;

const OFF: Verdict = {
  verified: false,
  status: 404,
  sentence: "the GitLab hook is off because it has no secret; set GITLAB_HOOK_TOKEN or GITLAB_SIGNING_TOKENS at the gateway",
};

function checkToken(sent: string | undefined, secrets: HookSecrets): string | undefined {
  if (secrets.token === undefined) return "this hook takes signed deliveries only; set a signing token on the hook in GitLab";
  if (sent === undefined || sent === "")
    return "the delivery has neither webhook-signature nor X-Gitlab-Token; set the secret token on the hook in GitLab";
  if (!sameSecret(sent, secrets.token)) return "X-Gitlab-Token is not the one that this gateway expects; compare it with GITLAB_HOOK_TOKEN";
  return undefined;
}

function checkSignature(
  signature: string,
  delivery: { headers: IncomingHttpHeaders; body: Uint8Array },
  secrets: HookSecrets,
  now: Date,
): string | undefined {
  const id = single(delivery.headers["webhook-id"]);
  const timestamp = single(delivery.headers["webhook-timestamp"]);
  if (!id || !timestamp) return "a signed delivery needs webhook-id and webhook-timestamp beside webhook-signature";
  if (!/^\d{1,12}$/.test(timestamp)) return "webhook-timestamp must be a number of seconds since 1970";
  if (!matchesAny(signature, `${id}.${timestamp}.`, delivery.body, secrets.signingKeys)) {
    return "webhook-signature matches none of this gateway's signing tokens; compare the hook's with GITLAB_SIGNING_TOKENS";
  }
  const age = Math.floor(now.getTime() / 1000) - Number(timestamp);
  if (age > TOLERANCE_SECONDS)
    return `webhook-timestamp is ${age} s old, at most ${TOLERANCE_SECONDS} s are accepted; send the delivery again`;
  if (age < -TOLERANCE_SECONDS)
    return `webhook-timestamp is ${-age} s in the future, at most ${TOLERANCE_SECONDS} s are accepted; compare both clocks`;
  return undefined;
}

/** Compares every entry with every key, without stopping at the first match: the time taken says nothing. */
function matchesAny(header: string, prefix: string, body: Uint8Array, keys: readonly Buffer[]): boolean {
  const entries = header.split(" ").flatMap((entry) => (entry.startsWith("v1,") ? [entry.slice("v1,".length)] : []));
  let matched = false;
  for (const key of keys) {
    const expected = createHmac("sha256", key).update(prefix).update(body).digest("base64");
    for (const entry of entries.slice(0, MAX_ENTRIES)) matched = sameSecret(entry, expected) || matched;
  }
  return matched;
}

// GitLab sends one entry, and two while a key is rotated; a longer list only costs us time.
const MAX_ENTRIES = 16;

/** Digests first, so that neither content nor length of the secret shows in the time taken. */
function sameSecret(sent: string, expected: string): boolean {
  return timingSafeEqual(digest(sent), digest(expected));
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function readSigningToken(token: string, index: number): Buffer {
  const encoded = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(token)?.[1];
  const key = Buffer.from(encoded ?? "", "base64");
  if (key.length === SIGNING_KEY_BYTES) return key;
  throw new KiteError(
    "invalid_argument",
    `signing token ${index + 1} must be "whsec_" and the base64 of ${SIGNING_KEY_BYTES} bytes; copy it from the hook's page in GitLab`,
  );
}

/** The sender's address without a slash at the end: what `https://git.example/` and `https://GIT.example` have in common. */
function instanceOf(header: string | undefined): string {
  if (header === undefined || header.length > MAX_INSTANCE || !URL.canParse(header)) return "default";
  const { protocol, host, pathname } = new URL(header);
  if (protocol !== "https:" && protocol !== "http:") return "default";
  return `${protocol}//${host}${pathname}`.replace(/\/+$/, "");
}

function single(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header.join(", ") : header;
}
