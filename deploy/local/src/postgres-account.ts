import { execFile } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { dirname } from "node:path";
import { promisify } from "node:util";

/** As whom PostgreSQL runs. It refuses uid 0, and its initdb wants a uid that has a name. */
export interface Account {
  /** Turns a command into the one that runs as this account. */
  wrap(file: string, args: readonly string[]): { file: string; args: string[] };
  /** To be spread into the options of `spawn`. */
  readonly spawn: { uid?: number; gid?: number };
  /** Folders that the server writes to must belong to this uid and group; undefined: whoever makes them will do. */
  readonly owner: { uid: number; gid: number } | undefined;
  readonly describe: string;
}

/**
 * Ordinary people run PostgreSQL as themselves. Root, and a uid without a name, put it into a user namespace, where it sees
 * another uid but still reads and writes what they own, so nothing has to be handed over, even below a home of mode 0700.
 * Where the kernel forbids that (in most containers), or the folder is somebody else's, root runs it as the folder's owner, or as
 * `nobody`, who is then given the data; with the one capability that opens folders of mode 0700 on the way, if root has it.
 */
export async function chooseAccount(dataDir: string): Promise<Account> {
  if (process.getuid === undefined) return ourselves;
  const uid = process.getuid();
  if (uid !== 0 && hasName()) return ourselves;
  const place = await nearestFolder(dataDir);
  const inside = await anotherUid();
  if (inside !== undefined && place.uid === uid && (await canWrite(mapped(inside), place.path))) return mapped(inside);
  if (uid !== 0) return ourselves;
  const other = place.uid === 0 ? { uid: NOBODY, gid: NOBODY } : place;
  const passing = dropped(other.uid, other.gid, { passing: true });
  return (await canWrite(passing, place.path)) ? passing : dropped(other.uid, other.gid);
}

const NOBODY = 65_534;

const ourselves: Account = { wrap: (file, args) => ({ file, args: [...args] }), spawn: {}, owner: undefined, describe: "this user" };

const mapped = (uid: number): Account => ({
  wrap: (file, args) => ({ file: "unshare", args: ["--user", `--map-user=${uid}`, "--", file, ...args] }),
  spawn: {},
  owner: undefined,
  describe: `uid ${uid} of a user namespace`,
});

/** Another uid; `passing` lets it through folders that only root may enter, and gives it nothing else of root's. */
export function dropped(uid: number, gid: number, { passing = false } = {}): Account {
  if (!passing) return { ...ourselves, spawn: { uid, gid }, owner: { uid, gid }, describe: `uid ${uid}` };
  const identity = [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups"];
  // Without the bit access(2), which initdb looks for its programs with, would not count the capability.
  const right = ["--securebits=+no_setuid_fixup", ...["inh-caps", "bounding-set"].map((set) => `--${set}=-all,+dac_override`)];
  return {
    wrap: (file, args) => ({ file: "setpriv", args: [...identity, ...right, "--ambient-caps=+dac_override", "--", file, ...args] }),
    spawn: {},
    owner: { uid, gid },
    describe: `uid ${uid} with the right to enter every folder`,
  };
}

/** Kernels and containers forbid user namespaces in many ways; trying is the only answer that can be trusted. */
async function canWrite(account: Account, folder: string): Promise<boolean> {
  const command = account.wrap("test", ["-w", folder]);
  return promisify(execFile)(command.file, command.args, { timeout: 5000 }).then(
    () => true,
    () => false,
  );
}

/** The cluster's folder, or the one that it will be made in. */
async function nearestFolder(path: string): Promise<{ path: string; uid: number; gid: number }> {
  try {
    const { uid, gid } = await stat(path);
    return { path, uid, gid };
  } catch (cause) {
    if (dirname(path) === path) throw cause;
    return nearestFolder(dirname(path));
  }
}

function hasName(): boolean {
  try {
    userInfo();
    return true;
  } catch {
    return false;
  }
}

/** A uid that has a name and is not root's. Which one does not matter: outside of the namespace nobody sees it. */
async function anotherUid(): Promise<number | undefined> {
  const passwd = await readFile("/etc/passwd", "utf8").catch(() => "");
  const uids = passwd.split("\n").map((line) => Number.parseInt(line.split(":")[2] ?? "", 10));
  return uids.includes(NOBODY) ? NOBODY : uids.find((uid) => uid > 0);
}
