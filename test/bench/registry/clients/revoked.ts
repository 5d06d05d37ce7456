import { type ContractOf, Kite, method, parseKiteKey } from "@kite-mesh/kite";
import type { KontrolContract } from "@kite-mesh/kontrol";
import { nowMs } from "../clock.ts";

const methods = {
  /** Answers when its caller's session has ended, and so to nobody. */
  stay: method({ role: "viewer" }, ({ signal }) => new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()))),
};

let served: Kite | undefined;

export async function serveRevoking({ kiteKey }: { kiteKey: string }): Promise<void> {
  served = new Kite({ name: "revoking", version: "1.0.0", kiteKey, methods });
  await served.listen();
  await served.register();
}

let root: Kite | undefined;

/** Opens a session with a new kite.key and revokes that; answers with the milliseconds after which the session ended. */
export async function revokeOne({ kiteKey }: { kiteKey: string }): Promise<number> {
  root ??= new Kite({ name: "root", version: "1.0.0", kiteKey });
  const { keys } = root.kontrol<KontrolContract>();
  const { kiteKey: shortLived } = await keys.issue({ username: "bench" });
  await using caller = new Kite({ name: "caller", version: "1.0.0", kiteKey: shortLived });
  const kite = await caller.connect<ContractOf<typeof methods>>({ name: "revoking" });
  const ended = kite.stay().then(
    () => Promise.reject(new Error("the call was answered, so the session did not end")),
    () => nowMs(),
  );
  const { id: jti } = await parseKiteKey(shortLived);
  const at = nowMs();
  await keys.revoke({ jti });
  return (await ended) - at;
}
