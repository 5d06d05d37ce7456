import { randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { KiteError } from "@kite-mesh/kite";
import { type HomeLock, lockHome } from "./home-lock.ts";

/** The folder of one mesh, locked for as long as it is open. */
export interface Home {
  readonly path: string;
  /** True when this start has made it. */
  readonly isNew: boolean;
  readonly lock: HomeLock;
}

/**
 * Opens the home, making it if need be. Nothing in it is touched before it is known to be writable, not newer than this
 * program, and not in use.
 *
 * @throws {KiteError} `failed_precondition` when one of these is not so.
 */
export async function openHome(path: string): Promise<Home> {
  await makeFolder(path);
  const lock = await lockHome(path);
  try {
    const version = await readVersion(path);
    if (version !== null && version > HOME_VERSION) {
      throw new KiteError(
        "failed_precondition",
        `${path} was written by a newer version of the mesh (its format is ${version}, this one knows ${HOME_VERSION}); update this checkout, or choose another folder with KITE_HOME`,
      );
    }
    if (version === null) await writeOnce(join(path, VERSION_FILE), `${HOME_VERSION}\n`, 0o644);
    return { path, isNew: version === null, lock };
  } catch (cause) {
    await lock.release();
    throw cause;
  }
}

/** The secret of this name: the one that was made earlier, or a new one. */
export async function keepSecret(home: Home, name: string): Promise<string> {
  const path = join(home.path, name);
  const known = await readText(path);
  if (known !== null && known.trim() !== "") return known.trim();
  const secret = randomBytes(24).toString("base64url");
  await writeOnce(path, `${secret}\n`, 0o600);
  return secret;
}

/** Where the mesh is, for tools; there only while it runs. No secrets. */
export interface MeshFile {
  pid: number;
  version: string;
  owner: string;
  kontrolUrl: string;
  gatewayUrl: string;
  startedAt: string;
}

/** Ports that were picked, so that the next start picks them again. */
interface PickedPorts {
  kontrol?: number;
  gateway?: number;
}

export async function readPorts(home: Home): Promise<PickedPorts> {
  const text = await readText(join(home.path, PORTS_FILE));
  try {
    return text === null ? {} : (JSON.parse(text) as PickedPorts);
  } catch {
    // Only a convenience: other ports do as well.
    return {};
  }
}

export async function writePorts(home: Home, ports: PickedPorts): Promise<void> {
  await writeOnce(join(home.path, PORTS_FILE), `${JSON.stringify(ports)}\n`, 0o644);
}

export async function writeMeshFile(home: Home, mesh: MeshFile): Promise<void> {
  await writeOnce(join(home.path, MESH_FILE), `${JSON.stringify(mesh, null, 2)}\n`, 0o644);
}

export async function removeMeshFile(home: Home): Promise<void> {
  await rm(join(home.path, MESH_FILE), { force: true });
}

const MESH_FILE = "mesh.json";
const PORTS_FILE = "ports.json";
const VERSION_FILE = "version";
// Raised when an older program could no longer read what a newer one writes here.
const HOME_VERSION = 1;

async function makeFolder(path: string): Promise<void> {
  try {
    await makeWithParents(path);
  } catch (cause) {
    const why = (cause as Error).message;
    throw new KiteError(
      "failed_precondition",
      `KITE_HOME (${path}) should be a folder that can be made and written, and cannot: ${why}; choose another one`,
      { cause },
    );
  }
}

/** Not by `recursive`: on file systems that refuse new folders as missing ones (/proc) that tries for ever. */
async function makeWithParents(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "EEXIST") return;
    const parent = dirname(path);
    const parentIsThere = await stat(parent).then(
      () => true,
      () => false,
    );
    if (code !== "ENOENT" || parentIsThere) throw cause;
    await makeWithParents(parent);
    await mkdir(path, { mode: 0o700 });
  }
}

async function readVersion(path: string): Promise<number | null> {
  const text = await readText(join(path, VERSION_FILE));
  if (text === null) return null;
  const version = Number(text.trim());
  if (Number.isInteger(version) && version > 0) return version;
  throw new KiteError(
    "failed_precondition",
    `${join(path, VERSION_FILE)} should hold a number, and holds "${text.slice(0, 40).trim()}"; is ${path} really a mesh's folder?`,
  );
}

async function readText(path: string): Promise<string | null> {
  return readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return null;
    throw new KiteError("failed_precondition", `${path} should be readable, and is not: ${cause.message}`, { cause });
  });
}

/** Whole or not at all: whoever reads it meanwhile sees the old content, and a kill leaves no half of it. */
async function writeOnce(path: string, content: string, mode: number): Promise<void> {
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, content, { mode });
  await chmod(draft, mode);
  await rename(draft, path);
}
