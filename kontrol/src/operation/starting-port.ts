import { createServer, type ServerResponse } from "node:http";
import { KiteError } from "@kite-mesh/kite";

/** A port that says that kontrol is starting. Whoever opened it closes it before kontrol itself listens there. */
export interface StartingPort {
  close(): Promise<void>;
}

/**
 * Takes the port before the database is asked: a migration may take minutes, in which `/healthz` says that the process lives
 * and everything else that it is not ready. A port that was refused would look like a process that has to be killed.
 *
 * @throws {KiteError} `unavailable` when the port cannot be had; nothing was done to the database then.
 */
export async function openStartingPort(port: number, host: string): Promise<StartingPort> {
  const server = createServer((request, response) => answer(response, request.url === "/healthz"));
  server.on("upgrade", (_, socket) => socket.end(`HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\r\n`));
  server.on("upgrade", (_, socket) => socket.on("error", () => socket.destroy()));
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      reject(
        new KiteError("unavailable", `port ${port} on ${host} cannot be opened: ${cause.message}`, {
          cause,
          reason: cause.code ?? "listen",
        }),
      );
    });
    server.listen(port, host, () => resolve(void server.removeAllListeners("error").on("error", () => {})));
  });
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answer(response: ServerResponse, asksForHealth: boolean): void {
  const [status, body] = asksForHealth
    ? [200, { status: "ok" }]
    : [503, { status: "not ready", missing: ["kontrol is starting: it brings the database up to date and reads the directory"] }];
  // Not kept: the next request on this connection is for the kontrol that listens then.
  response.writeHead(status as number, { "content-type": "application/json", "retry-after": "1", connection: "close" });
  response.end(`${JSON.stringify(body)}\n`);
}
