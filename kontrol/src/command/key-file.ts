import { open, rm } from "node:fs/promises";
import { resolve } from "node:path";
import { KiteError } from "@kite-mesh/kite";

/**
 * Writes what `make` answers with to a new file that its owner alone can read. The file is made first, so that no
 * credential comes into being that then has no place; it is taken away again when nothing comes.
 *
 * @throws {KiteError} `already_exists` when there is such a file, `failed_precondition` when it cannot be written.
 */
export async function writeCredential(path: string, make: () => Promise<string>): Promise<string> {
  const full = resolve(path);
  const file = await open(full, "wx", 0o400).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "EEXIST")
      throw new KiteError("already_exists", `there is a file ${full} already; move it away first, or name another with --out`, { cause });
    throw new KiteError("failed_precondition", `${full} cannot be written: ${cause.message}`, { cause });
  });
  try {
    await file.writeFile(`${await make()}\n`);
    await file.sync();
  } catch (thrown) {
    await rm(full, { force: true });
    throw thrown;
  } finally {
    await file.close();
  }
  return full;
}
