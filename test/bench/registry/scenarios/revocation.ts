import { percentile } from "../../in-flight.ts";
import type { Scenario } from "../bench.ts";
import { WHAT } from "../targets.ts";

const REVOCATIONS = 10;

/** How long a session goes on at a kite after the kite.key behind it was revoked. */
export const revocation: Scenario = {
  name: "revocation",
  async open(bench) {
    const { kiteKey, pids } = await bench.kontrol("revocation");
    const [kite, caller] = [bench.worker("revocation-kite"), bench.worker("revocation-caller")];
    await kite.ask("serveRevoking", { kiteKey });
    return [
      {
        what: WHAT.revoked,
        side: "kontrol",
        pids: { ...pids, clients: [kite.pid, caller.pid] },
        async measure() {
          const took: number[] = [];
          for (let revoked = 0; revoked < REVOCATIONS; revoked++) took.push(await caller.ask("revokeOne", { kiteKey }));
          took.sort((a, b) => a - b);
          return { calls: REVOCATIONS, p50Ms: percentile(took, 0.5), p99Ms: percentile(took, 0.99) };
        },
      },
    ];
  },
};
