import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";
import type { Command } from "commander";
import { EXIT, Failure, isKiteError } from "./failure.ts";
import { openMesh, readClaims, readKeyIfThere } from "./mesh.ts";
import { readOptions } from "./options.ts";
import { json, note, print } from "./output.ts";
import { VERSION } from "./version.ts";

/** `kite logout`: ends the kite.key of this machine. */
export function addLogoutCommand(program: Command): void {
  program
    .command("logout")
    .option("--force", "remove the file even if the key cannot be revoked; then whoever has a copy still is you")
    .option("--json", "JSON on one line")
    .description("revoke the kite.key of this machine everywhere, and remove it")
    .action(logout);
}

async function logout(options: { force?: boolean; json?: boolean }): Promise<void> {
  const { home } = readOptions();
  const path = join(home, "kite.key");
  const key = await readKeyIfThere(home);
  if (key === undefined) throw new Failure(`there is no kite.key at ${path}: nobody is signed in here`, EXIT.noMesh);
  const revoked = await revoke(key.text).catch((thrown: unknown) => {
    if (!options.force) throw thrown;
    note(`kite: the key was not revoked: ${(thrown as Error).message}`);
    return false;
  });
  await rm(path, { force: true });
  print(
    options.json ? json({ revoked, path }) : `${revoked ? "the kite.key was revoked and removed" : "the kite.key was removed"}: ${path}`,
  );
}

/** Whether the key is worth nothing any more. */
async function revoke(key: string): Promise<boolean> {
  const jti = readClaims(key)?.jti;
  await using mesh = await openMesh();
  if (jti === undefined) throw new Failure("the kite.key has no id, so it cannot be revoked; --force removes it");
  try {
    const { revoked } = await mesh.kontrol.keys.revoke({ jti });
    if (!revoked) throw new Failure("kontrol does not know this kite.key; --force removes it");
    return true;
  } catch (thrown) {
    // Its own session ends with the key, often before the answer has left.
    if (
      isKiteError(thrown) &&
      (thrown.code === "unauthenticated" || (thrown.code === "disconnected" && (await isRefused(key, mesh.kontrolUrl))))
    )
      return true;
    throw thrown;
  }
}

async function isRefused(key: string, kontrolUrl: string): Promise<boolean> {
  const { Kite } = await import("@kite-mesh/kite");
  await using again = new Kite({ name: "cli", version: VERSION, kiteKey: key, kontrolUrl });
  // Awaited here: leaving the scope closes the kite.
  return await again
    .kontrol<KontrolContract>()
    .whoami()
    .then(
      () => false,
      (thrown: unknown) => isKiteError(thrown) && thrown.code === "unauthenticated",
    );
}
