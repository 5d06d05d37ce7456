import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from "jose";

/** The two halves of a new key, and the id under which it is known. */
export interface NewKeyPair {
  /** The thumbprint of its public half (RFC 7638). */
  readonly kid: string;
  readonly publicJwk: JWK;
  readonly privateJwk: JWK;
}

/**
 * Makes a key whose id can be typed as an argument of a command: one in 64 thumbprints begins with a dash, as options do, and is not taken.
 *
 * @example const { kid } = await newKeyPair("EdDSA");
 */
export async function newKeyPair(
  alg: string,
  thumbprint: (publicJwk: JWK) => Promise<string> = calculateJwkThumbprint,
): Promise<NewKeyPair> {
  for (;;) {
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
    const publicJwk = await exportJWK(publicKey);
    const kid = await thumbprint(publicJwk);
    if (!kid.startsWith("-")) return { kid, publicJwk, privateJwk: await exportJWK(privateKey) };
  }
}
