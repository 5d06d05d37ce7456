import { setTimeout as sleep } from "node:timers/promises";
import { callWith, Kite, KiteError, type Logger, readKiteKey, writeKiteKey } from "@kite-mesh/kite";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";

export interface JoinOptions {
  home: string;
  kontrolUrl: string | undefined;
  joinToken: string | undefined;
  version: string;
  log: Logger;
  signal: AbortSignal;
}

/**
 * The machine's kite.key: the one that it has, or else the one that kontrol gives for the join token. A kontrol that does
 * not answer (yet) is asked again, with growing pauses; a refusal is final.
 *
 * @throws {KiteError} `failed_precondition` without a key and without a token; what kontrol refused the token with.
 */
export async function obtainKiteKey(options: JoinOptions): Promise<string> {
  const known = await readKiteKey(options.home).catch((cause) => {
    if (KiteError.from(cause).code === "not_found") return undefined;
    throw cause;
  });
  if (known !== undefined) return known.jwt;
  const { joinToken, kontrolUrl, home, log } = options;
  if (joinToken === undefined || kontrolUrl === undefined) {
    const missing = joinToken === undefined ? "KITE_JOIN_TOKEN" : "KITE_KONTROL_URL";
    throw new KiteError(
      "failed_precondition",
      `there is no kite.key in ${home}, and without ${missing} none can be obtained; set it for the first start`,
    );
  }
  const kiteKey = await exchange({ ...options, joinToken, kontrolUrl });
  await writeKiteKey(home, kiteKey);
  log.info({ kontrol: kontrolUrl }, "joined the mesh and wrote the kite.key");
  return kiteKey;
}

async function exchange({
  joinToken,
  kontrolUrl,
  version,
  log,
  signal,
}: JoinOptions & { joinToken: string; kontrolUrl: string }): Promise<string> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    // A stranger until it has its key.
    await using stranger = new Kite({ name: "klient", version, kontrolUrl });
    try {
      const kontrol = stranger.dial<KontrolContract>({ url: kontrolUrl });
      return (await callWith(kontrol, { timeoutMs: TRY_MS, signal }).registerMachine({ joinToken })).kiteKey;
    } catch (cause) {
      const error = KiteError.from(cause);
      if (signal.aborted || !AWAY.has(error.code)) throw error;
      log.warn({ kontrol: kontrolUrl, why: error.message }, "kontrol does not answer; trying again");
    }
    // Jitter, so that a hundred machines that boot together do not come back together.
    await sleep(pauseMs * (0.5 + Math.random() / 2), undefined, { signal });
  }
}

const AWAY: ReadonlySet<string> = new Set(["unavailable", "disconnected", "deadline_exceeded", "overloaded"]);
const TRY_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
