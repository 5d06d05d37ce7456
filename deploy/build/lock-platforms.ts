import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { ROOT } from "./workspaces.ts";

// Packages with native code list one package per platform, all optional. A registry that mirrors only some of them makes
// npm leave the others out of package-lock.json, and then `npm ci` refuses the file everywhere, saying that they are
// missing. This enters them, so that the lock file is whole for every platform; run it after `npm install` (npm run lock).

interface Locked {
  version?: string;
  dev?: boolean;
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  libc?: string[];
  optionalDependencies?: Record<string, string>;
}

const file = path.join(ROOT, "package-lock.json");
const lock = JSON.parse(readFileSync(file, "utf8")) as { packages: Record<string, Locked> };
const added = Object.entries(lock.packages).flatMap(([place, locked]) => missingOf(place, locked));
const packages = Object.entries({ ...lock.packages, ...Object.fromEntries(added) }).sort(([a], [b]) => a.localeCompare(b, "en"));
writeFileSync(file, `${JSON.stringify({ ...lock, packages: Object.fromEntries(packages) }, null, 2)}\n`);
console.log(`${added.length} packages for other platforms were entered into package-lock.json`);

function missingOf(place: string, { optionalDependencies = {}, dev }: Locked): [string, Locked][] {
  return Object.entries(optionalDependencies).flatMap(([name, version]) => {
    // A range could not be entered truly; packages for platforms are pinned.
    if (isLocked(place, name) || !/^\d/.test(version)) return [];
    const { cpu, libc, os } = platformOf(name);
    // In the order in which npm writes them, or its next run would write them all anew.
    return [[`node_modules/${name}`, { version, cpu, ...(dev && { dev }), ...(libc && { libc }), optional: true, os }]];
  });
}

/** As Node looks for it: beside the package, then further up. */
function isLocked(place: string, name: string): boolean {
  for (let folder = place; ; folder = folder.slice(0, Math.max(folder.lastIndexOf("/node_modules/"), 0))) {
    if (`${folder}${folder && "/"}node_modules/${name}` in lock.packages) return true;
    if (folder === "") return false;
  }
}

/** `@rollup/rollup-linux-arm64-musl`: the names of such packages say where they run. */
function platformOf(name: string): { cpu: string[]; libc: string[] | undefined; os: string[] } {
  const match = /(android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|win32)-([a-z0-9]+)(?:-([a-z]+))?$/.exec(name);
  if (match === null) throw new Error(`expected the name of ${name} to end with its platform; enter it into package-lock.json by hand`);
  const [, os = "", cpu = "", abi = ""] = match;
  const libc = abi.startsWith("musl") ? "musl" : abi.startsWith("gnu") && os === "linux" ? "glibc" : undefined;
  return { cpu: [cpu], libc: libc === undefined ? undefined : [libc], os: [os] };
}
