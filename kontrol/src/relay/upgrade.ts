import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

/** Takes an upgrade by returning true. */
export type Upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => boolean;

/** Answers an upgrade that becomes none, in words for whoever reads the answer. */
export function refuseUpgrade(socket: Duplex, status: string, sentence: string): void {
  // Also when the peer keeps its half of the connection open, which would hold the socket for ever.
  socket.once("finish", () => socket.destroy());
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: ${sentence.length + 1}\r\n\r\n${sentence}\n`,
  );
}

/** A kite's id as it stands in a path; undefined for what cannot be one. */
export function decoded(encoded: string): string | undefined {
  try {
    return encoded === "" || encoded.includes("/") ? undefined : decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}
