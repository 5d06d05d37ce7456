import type { Contender, Scenario } from "../bench.ts";
import { outcomeOf } from "../outcome.ts";
import { WHAT } from "../targets.ts";

const IN_FLIGHT = 64;

/** What signing costs kontrol, and verifying a kite, by either algorithm. */
export const tokens: Scenario = {
  name: "tokens",
  async open(bench) {
    const { worker, kiteKey, pids } = await bench.kontrol("tokens");
    const kites = bench.worker("tokens-kites");
    const keys = { EdDSA: kiteKey, RS256: await worker.ask("issueOlderKey", { kiteKey }) };
    const load = { inFlight: IN_FLIGHT, forMs: bench.options.forMs };
    const all = { server: pids.server, clients: [kites.pid] };
    const sides: Contender[] = [];
    for (const [alg, key] of Object.entries(keys)) {
      await kites.ask("openTokenPair", { alg, kiteKey: key });
      for (const fresh of [true, false]) {
        const what = fresh ? WHAT.fresh(alg) : WHAT.cached(alg);
        const measure = async () => outcomeOf(await kites.ask("getTokens", { alg, fresh, ...load }));
        sides.push({ what, side: "kontrol", pids: all, measure });
      }
      const verify = async () => outcomeOf(await kites.ask("verifyTokens", { alg, ...load }));
      sides.push({ what: WHAT.verified(alg), side: "kite", pids: { server: [], clients: [kites.pid] }, measure: verify });
    }
    return sides;
  },
};
