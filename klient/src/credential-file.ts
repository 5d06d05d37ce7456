import { realpath } from "node:fs/promises";
import { basename, sep } from "node:path";
import { KiteError } from "@kite-mesh/kite";

/**
 * Refuses files that say more than a viewer may know: whoever reads the machine's kite.key is its owner from then on, in the
 * whole mesh. The memory and the environment of processes hold it too, and `/proc` leads around every path. Operators are
 * not asked: they run programs as klient's user, and could read it in a hundred ways.
 *
 * @throws {KiteError} `permission_denied`.
 */
export async function refuseCredentials(path: string, state: string | undefined): Promise<void> {
  // What is not there is told by whoever reads it.
  const real = await realpath(path).catch(() => path);
  const stateFolder = state === undefined ? undefined : await realpath(state).catch(() => state);
  const inState = stateFolder !== undefined && (real === stateFolder || real.startsWith(stateFolder + sep));
  if (!inState && !KEY_FILE.test(basename(real)) && ![path, real].some((name) => PROCESS.test(name))) return;
  throw new KiteError("permission_denied", `${path} may hold credentials of this machine; reading it needs the role operator`);
}

// A key that is being written has a suffix. Where machines are no more than folders, the keys of others lie beside ours.
const KEY_FILE = /^kite\.key(\..*)?$/;
const PROCESS = /^\/proc\/(kcore$|[^/]+\/(task\/[^/]+\/)?(mem|environ|root|cwd|fd|map_files)(\/|$))/;
