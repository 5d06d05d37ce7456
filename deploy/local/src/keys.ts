import { join } from "node:path";
import { callWith, Kite, KiteError, type KiteKey, type Logger, readKiteKey, writeKiteKey } from "@kite-mesh/kite";
import type { Kontrol } from "@kite-mesh/kontrol";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";

export interface KeepKey {
  /** The folder of the account's kite.key. */
  folder: string;
  username: string;
  kontrol: Kontrol;
  log: Logger;
}

/**
 * The kite.key of an account: the one that was kept, while kontrol accepts it and it names the right address, or a new one.
 * A key of an earlier database or of another port is replaced, and keys do not pile up with every start.
 */
export async function keepKey({ folder, username, kontrol, log }: KeepKey): Promise<string> {
  const kept = await readKept(folder);
  const fits = kept !== null && kept.username === username && kept.kontrolUrl === kontrol.url;
  if (fits && (await isAccepted(kept, log))) return kept.jwt;
  return (await writeKiteKey(folder, await kontrol.issueKey(username))).jwt;
}

/** Whose key is in the folder; null when there is none that can be read. */
export async function ownerOfKey(folder: string): Promise<string | null> {
  return (await readKept(folder))?.username ?? null;
}

/** Services have folders of their own below the home, so that no file holds two keys. */
export function serviceFolder(home: string, service: string): string {
  return join(home, "services", service);
}

// kontrol runs in this process.
const ASK_MS = 10_000;

/** A key that is damaged is as good as none; one that others may read is for a person to look at. */
async function readKept(folder: string): Promise<KiteKey | null> {
  try {
    return await readKiteKey(folder);
  } catch (cause) {
    const { code } = KiteError.from(cause);
    if (code === "not_found" || code === "unauthenticated") return null;
    throw cause;
  }
}

async function isAccepted({ jwt, kontrolUrl }: KiteKey, log: Logger): Promise<boolean> {
  await using kite = new Kite({ name: "start", version: "1.0.0", kiteKey: jwt, kontrolUrl });
  try {
    await callWith(kite.kontrol<KontrolContract>(), { timeoutMs: ASK_MS }).whoami();
    return true;
  } catch (cause) {
    const error = KiteError.from(cause);
    if (error.code !== "unauthenticated" && error.code !== "permission_denied") throw error;
    log.info({ why: error.message }, "a kept kite.key is not accepted any more; making a new one");
    return false;
  }
}
