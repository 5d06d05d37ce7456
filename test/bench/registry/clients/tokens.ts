import { type Identity, KeySet, Kite, parseKiteKey, verifyToken } from "@kite-mesh/kite";
import { type Measured, measure } from "../../in-flight.ts";
import type { Load } from "../outcome.ts";

/** A kite that others get tokens for, and the one that asks for them. */
interface Pair {
  readonly kite: Kite;
  readonly asking: Kite;
  readonly keys: KeySet;
  made: number;
}

const pairs = new Map<string, Pair>();

/** Registers a kite with this kite.key; the tokens for it are signed as its kite.key was. */
export async function openTokenPair({ alg, kiteKey }: { alg: string; kiteKey: string }): Promise<void> {
  const kite = new Kite({ name: `tokens-${alg.toLowerCase()}`, version: "1.0.0", kiteKey });
  await kite.register({ url: "http://127.0.0.1:9" });
  const { kontrolKey } = await parseKiteKey(kiteKey);
  pairs.set(alg, {
    kite,
    asking: new Kite({ name: "asking", version: "1.0.0", kiteKey }),
    keys: new KeySet({ trusted: [kontrolKey] }),
    made: 0,
  });
}

/** Tokens for one kite: the same again and again, or each one signed for itself. */
export function getTokens({ alg, fresh, inFlight, forMs }: Load & { alg: string; fresh: boolean }): Promise<Measured> {
  const pair = pairOf(alg);
  const kontrol = pair.asking.kontrol();
  const { id } = pair.kite.identity;
  // A token for other methods is another token.
  const query = () => (fresh ? { query: { id }, methods: [`method-${pair.made++}`] } : { query: { id } });
  return measure(() => kontrol.getToken(query()), inFlight, forMs);
}

/** What a kite does with the token of a caller that it has not seen before. */
export async function verifyTokens({ alg, inFlight, forMs }: Load & { alg: string }): Promise<Measured> {
  const { kite, asking, keys } = pairOf(alg);
  const audience: Identity = kite.identity;
  const { token } = await asking.kontrol().getToken({ query: { id: audience.id } });
  return measure(() => verifyToken(token, { keys, issuer: "kontrol", audience }), inFlight, forMs);
}

function pairOf(alg: string): Pair {
  const pair = pairs.get(alg);
  if (pair === undefined) throw new Error("openTokenPair comes first");
  return pair;
}
