import { KiteError } from "../errors.ts";

/**
 * Reads a claim of one's own kite.key. Whether the key is good, kontrol decides.
 *
 * @throws {KiteError} `invalid_argument` when it is not a JWT.
 */
export function keyClaim(kiteKey: string | undefined, claim: "sub" | "kontrolURL" | "iss"): string | undefined {
  if (kiteKey === undefined) return undefined;
  try {
    const value = payloadOf(kiteKey)[claim];
    return typeof value === "string" ? value : undefined;
  } catch (cause) {
    throw new KiteError("invalid_argument", "the kite.key cannot be read; it is one line of text in three parts", { cause });
  }
}

/** The claims of a JWT, unverified. By hand: `jose` would be a twentieth of what a browser loads. */
function payloadOf(jwt: string): Record<string, unknown> {
  const [, payload = "", ...rest] = jwt.split(".");
  if (rest.length !== 1) throw new TypeError("a JWT has three parts");
  const letters = atob(payload.replace(/-/g, "+").replace(/_/g, "/"));
  // `Uint8Array.from` would take ten times as long as all the rest, and a kite that registers looks here four times.
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
  return JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
}
