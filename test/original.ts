import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";

/**
 * Makes a kite that listens at `port` one of the original's to whoever dials the url: SockJS below `/kite`, as those in Go have it, and a
 * welcome to all else.
 */
export async function originalFront(port: number): Promise<{ url: string } & AsyncDisposable> {
  const front = createServer((_, response) => void response.end(WELCOME));
  front.on("upgrade", ({ url, headers }, socket, head) => {
    if (!/^\/kite\/\w+\/\w+\/websocket$/.test(url ?? "")) {
      return void socket.end(`HTTP/1.1 200 OK\r\nContent-Length: ${WELCOME.length}\r\n\r\n${WELCOME}`);
    }
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const behind = connect(port, "127.0.0.1");
    behind.write(`GET ${url} HTTP/1.1\r\n${lines.join("")}\r\n`);
    behind.write(head);
    socket.pipe(behind).pipe(socket);
    for (const [end, other] of [
      [socket, behind],
      [behind, socket],
    ] as const) {
      end.on("error", () => other.destroy());
      end.on("close", () => other.destroy());
    }
  });
  front.listen(0, "127.0.0.1");
  await once(front, "listening");
  return {
    url: `http://127.0.0.1:${(front.address() as AddressInfo).port}/kite`,
    async [Symbol.asyncDispose]() {
      front.closeAllConnections();
      await new Promise((resolve) => front.close(resolve));
    },
  };
}

const WELCOME = "Welcome to SockJS!\n";
