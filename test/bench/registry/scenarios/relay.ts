import { STREAM_CHUNK, STREAM_CHUNKS } from "../../side.ts";
import type { Contender, Scenario } from "../bench.ts";
import type { Way } from "../clients/relayed.ts";
import { outcomeOf } from "../outcome.ts";
import { WHAT } from "../targets.ts";

/** The same kite by its own port and through the relay. */
export const relay: Scenario = {
  name: "relay",
  async open(bench) {
    const { kiteKey, pids } = await bench.kontrol("relay");
    const [kite, caller] = [bench.worker("relay-kite"), bench.worker("relay-caller")];
    const direct = await kite.ask("serveRelayed", { kiteKey });
    await caller.ask("reachRelayed", { kiteKey, direct });
    const all = { server: pids.server, clients: [kite.pid, caller.pid] };
    const { forMs } = bench.options;
    const ways: readonly Way[] = ["relay", "direct"];
    return ways.flatMap((way): Contender[] => [
      {
        what: WHAT.echo,
        side: way,
        pids: all,
        measure: async () => outcomeOf(await caller.ask("echoThrough", { way, inFlight: 1, forMs })),
      },
      {
        what: WHAT.stream,
        side: way,
        pids: all,
        async measure() {
          const { calls, callsPerSecond } = await caller.ask("streamThrough", { way, forMs });
          const megabytes = (callsPerSecond * STREAM_CHUNKS * STREAM_CHUNK.byteLength) / 1e6;
          return { calls, perSecond: callsPerSecond, more: { "MB/s": megabytes } };
        },
      },
    ]);
  },
};
