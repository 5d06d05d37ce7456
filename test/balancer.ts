import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** One address for several servers. Whoever started it closes it. */
export interface Balancer extends AsyncDisposable {
  readonly url: string;
  close(): Promise<void>;
}

/**
 * A balancer as a cloud has it: it knows nothing but TCP, takes the servers in turn, and passes over those that take no
 * connection. `servers` is asked for every connection, so that they may come and go.
 */
export async function startBalancer(servers: () => readonly string[]): Promise<Balancer> {
  const sockets = new Set<Socket>();
  let turn = 0;
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (near) => {
    sockets.add(near);
    near.on("error", () => near.destroy());
    near.once("close", () => sockets.delete(near));
    void reach(servers(), turn++).then((far) => {
      if (far === undefined || near.destroyed) {
        far?.destroy();
        return void near.resetAndDestroy();
      }
      sockets.add(far);
      far.once("close", () => {
        sockets.delete(far);
        near.destroy();
      });
      near.once("close", () => far.destroy());
      near.pipe(far).pipe(near);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    if (!server.listening) return;
    server.close();
    await once(server, "close");
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close, [Symbol.asyncDispose]: close };
}

async function reach(servers: readonly string[], turn: number): Promise<Socket | undefined> {
  for (let tried = 0; tried < servers.length; tried++) {
    const { hostname, port } = new URL(servers[(turn + tried) % servers.length] as string);
    const far = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    try {
      await once(far, "connect");
      far.on("error", () => far.destroy());
      return far;
    } catch {
      far.destroy();
    }
  }
  return undefined;
}
