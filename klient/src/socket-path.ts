import { closeSync, constants, openSync } from "node:fs";
import { join } from "node:path";

/**
 * A path under which a unix socket in `folder` can be bound or reached. Such paths end at 107 bytes, and state folders may
 * lie deeper: then the folder is opened, and its open descriptor names it (`/proc/self/fd/…`), which is always short. So
 * the socket stays inside the state folder with its permissions, nothing has to be recorded or cleaned up elsewhere, and
 * the working directory is left alone. Call `close` when the socket is closed, not before.
 *
 * @throws {Error} where the path is too long and the system has no /proc.
 */
export function socketPath(folder: string, name: string): { path: string; close: () => void } {
  const path = join(folder, name);
  if (Buffer.byteLength(path) <= MAX_PATH_BYTES) return { path, close: () => {} };
  if (process.platform !== "linux") {
    throw new Error(`the socket's path may have ${MAX_PATH_BYTES} bytes here, ${path} has more; choose a shorter KITE_HOME`);
  }
  const descriptor = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  let open = true;
  const close = () => {
    if (open) closeSync(descriptor);
    open = false;
  };
  return { path: `/proc/self/fd/${descriptor}/${name}`, close };
}

// 108 with its final zero on Linux, 104 on macOS.
const MAX_PATH_BYTES = 100;
