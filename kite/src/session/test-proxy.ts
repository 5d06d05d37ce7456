import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type Socket } from "node:net";

/** A TCP proxy that treats its connections badly. Whoever opened it closes it. */
export interface BadProxy extends AsyncDisposable {
  readonly url: string;
  /** Ends all connections without a word. */
  cut(): void;
  /** Keeps all connections open, but passes nothing on any more; new ones are passed on. */
  swallow(): void;
}

/** A proxy in front of `target`, such as `http://127.0.0.1:4000`. */
export async function badProxy(target: string): Promise<BadProxy> {
  const links = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect({ host: "127.0.0.1", port: Number(new URL(target).port) });
    const end = () => {
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) {
      socket.setNoDelay();
      links.add(socket);
      socket.on("error", end).on("close", () => {
        links.delete(socket);
        end();
      });
    }
    near.on("data", (data) => far.write(data));
    far.on("data", (data) => near.write(data));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const socket of links) socket.resetAndDestroy();
  };
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    swallow: () => {
      for (const socket of links) socket.removeAllListeners("data").on("data", () => {});
    },
    [Symbol.asyncDispose]: () => closed(server, cut),
  };
}

function closed(server: Server, cut: () => void): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    cut();
  });
}
