import { type AddressInfo, createServer } from "node:net";
import { KiteError } from "@kite-mesh/kite";

export interface PortRequest {
  /** The setting that chooses it, such as `KONTROL_PORT`. */
  setting: string;
  /** 0: any free one. */
  wanted: number;
  /** The one that was picked the last time; machines that are still running look for kontrol there. */
  previous: number | undefined;
}

/**
 * A port that nobody else is given until its service is about to listen there, seconds after it was chosen: until then whoever
 * asks the system for any port could get this one. It holds no process; whoever chose it releases it.
 */
export interface HeldPort {
  readonly port: number;
  release(): Promise<void>;
}

export const HOST = "127.0.0.1";

/**
 * The port to listen on, known before anything is told the address: the one that was asked for, or for 0 the one of last time
 * while it is free.
 *
 * @throws {KiteError} `unavailable` naming the setting when the port is taken; nothing has been started by then.
 */
export async function choosePort({ setting, wanted, previous }: PortRequest): Promise<HeldPort> {
  if (wanted === 0 && previous !== undefined) {
    const again = await hold(previous).catch(() => undefined);
    if (again !== undefined) return again;
  }
  return hold(wanted).catch((cause: NodeJS.ErrnoException) => {
    const why =
      cause.code === "EADDRINUSE"
        ? "is taken by another program; stop that program, or"
        : cause.code === "EACCES"
          ? "may not be opened by this user;"
          : `cannot be opened (${cause.code ?? cause.message});`;
    throw new KiteError("unavailable", `port ${wanted} on ${HOST} ${why} set ${setting} to another port (0: any that is free)`);
  });
}

/** Listens in the service's place, and turns away whoever comes too early. */
async function hold(port: number): Promise<HeldPort> {
  const server = createServer((socket) => socket.resetAndDestroy()).unref();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, HOST, resolve));
  return {
    port: (server.address() as AddressInfo).port,
    release: () => new Promise((resolve) => void server.close(() => resolve())),
  };
}
