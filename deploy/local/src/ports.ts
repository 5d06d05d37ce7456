import { createServer } from "node:net";
import { KiteError } from "@kite-mesh/kite";

export interface PortRequest {
  /** The setting that chooses it, such as `KONTROL_PORT`. */
  setting: string;
  /** 0: any free one. */
  wanted: number;
  /** The one that was picked the last time; machines that are still running look for kontrol there. */
  previous: number | undefined;
}

export const HOST = "127.0.0.1";

/**
 * The port to listen on: the one that was asked for, or for 0 the one of last time while it is free.
 *
 * @throws {KiteError} `unavailable` naming the setting when the port is taken; nothing has been started by then.
 */
export async function choosePort({ setting, wanted, previous }: PortRequest): Promise<number> {
  if (wanted === 0) return previous !== undefined && (await problemWith(previous)) === null ? previous : anyPort();
  const problem = await problemWith(wanted);
  if (problem === null) return wanted;
  const why =
    problem === "EADDRINUSE"
      ? "is taken by another program; stop that program, or"
      : problem === "EACCES"
        ? "may not be opened by this user;"
        : `cannot be opened (${problem});`;
  throw new KiteError("unavailable", `port ${wanted} on ${HOST} ${why} set ${setting} to another port (0: any that is free)`);
}

/** Picked now and not by the listener, so that it is known before anything is told the address. */
async function anyPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, HOST, resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function problemWith(port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (cause: NodeJS.ErrnoException) => resolve(cause.code ?? cause.message));
    server.listen(port, HOST, () => server.close(() => resolve(null)));
  });
}
