import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { basename, join } from "node:path";
import { stop } from "esbuild";
import { bundleKlient } from "../../../klient/bundle.ts";

/**
 * Bundles the klient from its sources, so that machines run a file that no change in the checkout touches. It lies under
 * the hash of its content: a machine that runs keeps the one that it was started with.
 *
 * @returns the program that machines run; the pty-host's is beside it.
 */
export async function keepKlient(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const draft = await mkdtemp(join(folder, DRAFT));
  try {
    const { main } = await bundleKlient({ outDir: draft });
    const place = join(folder, await hashOf(draft));
    await rename(draft, place).catch(async (cause: NodeJS.ErrnoException) => {
      if (cause.code !== "ENOTEMPTY" && cause.code !== "EEXIST") throw cause;
      await utimes(place, new Date(), new Date());
    });
    await removeOld(folder);
    return join(place, basename(main));
  } finally {
    await rm(draft, { recursive: true, force: true });
    // Its process would stay, idle, for as long as the mesh runs.
    await stop();
  }
}

const DRAFT = "new-";
// A machine of last week may still run its bundle; one of ten changes ago has been restarted since.
const KEPT = 10;

async function hashOf(folder: string): Promise<string> {
  const hash = createHash("sha256");
  for (const name of (await readdir(folder)).sort()) hash.update(name).update(await readFile(join(folder, name)));
  return hash.digest("hex").slice(0, 16);
}

async function removeOld(folder: string): Promise<void> {
  const names = await readdir(folder);
  const aged = await Promise.all(names.map(async (name) => ({ path: join(folder, name), at: (await stat(join(folder, name))).mtimeMs })));
  for (const { path } of aged.sort((a, b) => b.at - a.at).slice(KEPT)) await rm(path, { recursive: true, force: true });
}
