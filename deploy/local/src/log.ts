import { rename, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "@kite-mesh/kite";
import { openLogger } from "@kite-mesh/kite/pino";
import { destination } from "pino";
import type { LogLevel } from "./options.ts";

export interface MeshLog {
  readonly logger: Logger;
  readonly path: string;
  /** The same log, with the part of the mesh that speaks. */
  child(service: string): Logger;
  close(): Promise<void>;
}

/** Opens the log of the mesh: JSON lines in a file, because the terminal belongs to the person. */
export async function openLog(home: string, level: LogLevel): Promise<MeshLog> {
  const path = join(home, "mesh.log");
  await rotate(path);
  const file = destination({ dest: path, sync: false, mode: 0o600, maxLength: BUFFER_CHARACTERS });
  // A full disk must not end the mesh: what cannot be written is dropped, and written again once there is room.
  file.on("error", () => {});
  const logger = openLogger({ level, out: file });
  return {
    logger,
    path,
    child: (service) => logger.child({ service }),
    // Without room the last lines stay unwritten; left open, the file would hold the process until there is some.
    close: () =>
      new Promise((resolve) =>
        file
          .once("close", resolve)
          .once("error", () => file.destroy())
          .end(),
      ),
  };
}

// Lines that wait for a disk. Beyond it they are dropped.
const BUFFER_CHARACTERS = 1024 * 1024;
// Some weeks of a quiet mesh. The one before is kept: the reason of a crash stands at its end.
const ROTATE_BYTES = 16 * 1024 * 1024;

async function rotate(path: string): Promise<void> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > ROTATE_BYTES) await rename(path, `${path}.1`);
}
