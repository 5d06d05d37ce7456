import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

/** Where everything of one machine lies: `<machinesDir>/<id>`. */
export interface MachineFolder {
  readonly path: string;
  /** The machine's HOME, and the only place that its programs are expected to write to. */
  readonly home: string;
  readonly log: string;
  /** Who the klient's process is; written by that process itself, before it becomes the klient. */
  readonly process: string;
  readonly settings: string;
}

/** What is kept about a machine so that it can be started again. There is no credential in it. */
export type MachineSettings = z.infer<typeof MachineSettings>;
const MachineSettings = z.object({
  hostname: z.string(),
  username: z.string(),
  kontrolUrl: z.string(),
  isolation: z.enum(["auto", "process", "bubblewrap"]),
  env: z.record(z.string(), z.string()),
  /** The rung on which the klient was started last. */
  rung: z.enum(["process", "bubblewrap"]),
});

/** @throws when the id could lead out of the folder. */
export function machineFolder(machinesDir: string, id: string): MachineFolder {
  if (!ID.test(id)) throw new Error(`a machine's id has letters, digits and "-", got ${JSON.stringify(id)}`);
  const path = join(machinesDir, id);
  return {
    path,
    home: join(path, "home"),
    log: join(path, "klient.log"),
    process: join(path, "process"),
    settings: join(path, "machine.json"),
  };
}

/** Null when there is no such machine, or it was never completely entered. */
export async function readSettings(folder: MachineFolder): Promise<MachineSettings | null> {
  const text = await readFile(folder.settings, "utf8").catch(missingIsNull);
  return text === null ? null : MachineSettings.parse(JSON.parse(text));
}

/** Makes the folder if need be. The file is replaced in one step: a crash leaves the old one or the new one. */
export async function writeSettings(folder: MachineFolder, settings: MachineSettings): Promise<void> {
  await mkdir(folder.home, { recursive: true, mode: 0o700 });
  await writeFile(`${folder.settings}.new`, `${JSON.stringify(settings, null, 2)}\n`, { mode: 0o600 });
  await rename(`${folder.settings}.new`, folder.settings);
}

/** Removes the folder with everything in it, also what its owner has made unwritable. */
export async function removeFolder(folder: MachineFolder): Promise<void> {
  try {
    await rm(folder.path, REMOVE);
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code !== "EACCES" && code !== "EPERM") throw thrown;
    await makeWritable(folder.path);
    await rm(folder.path, REMOVE);
  }
}

const ID = /^[A-Za-z0-9][A-Za-z0-9-]{0,63}$/;
const REMOVE = { recursive: true, force: true, maxRetries: 5 } as const;

async function makeWritable(directory: string): Promise<void> {
  await chmod(directory, 0o700);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await makeWritable(join(directory, entry.name));
  }
}

function missingIsNull(thrown: NodeJS.ErrnoException): null {
  if (thrown.code === "ENOENT") return null;
  throw thrown;
}
