import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { Logger } from "@kite-mesh/kite";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import { decoded, refuseUpgrade } from "../relay/upgrade.ts";
import type { Loop } from "./pulse.ts";
import type { Held, Registrar } from "./registrar.ts";
import type { SessionSigns } from "./signs.ts";

export interface BeatsOptions {
  readonly registrar: Registrar;
  readonly signs: SessionSigns;
  readonly logger: Logger;
}

/** Below it, each kite by its id. */
export const BEATS_PATH = "/beats/";
const BEATS_PROTOCOL = "kite.beats";
const TICKET_PROTOCOL = "kite.ticket.";
// A beat is two numbers.
const MAX_BEAT_BYTES = 32;
const ANSWER = "[]";

/** Why a socket for beats is closed: a code in WebSocket's range for applications, and a sentence. */
const CLOSES = {
  broken: [4001, "a beat is [blockedMs,lagMs], as text"],
  flood: [4002, "one beat for each heartbeat is enough"],
  silent: [4003, "the session that registered this kite answers nothing; beat over that one"],
  replaced: [4004, "this kite beats over a newer socket"],
  ended: [4404, "the registration has ended; register again"],
} as const;

/**
 * Takes beats that come over a socket of their own, at `/beats/<kite id>`: from a thread that beats while the process's
 * event loop is blocked, and says for how long. A ticket, which the registration was answered with, opens it. The socket
 * alone keeps nobody in the directory: it ends with the registration, and that with its session.
 */
export class Beats {
  readonly #options: BeatsOptions;
  readonly #sockets: WebSocketServer;

  constructor(options: BeatsOptions) {
    this.#options = options;
    this.#sockets = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: MAX_BEAT_BYTES,
      // There is nothing else to choose; whoever did not offer it was refused before.
      handleProtocols: () => BEATS_PROTOCOL,
    });
  }

  /** Whether the ticket is good here: such a one is no stranger. */
  isOpenedBy(request: IncomingMessage): boolean {
    return this.#read(request)?.held !== undefined;
  }

  /** Takes the upgrade if it is for beats. A ticket that is not good cannot be told from a kite that is not here. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const asked = this.#read(request);
    if (asked === undefined) return false;
    const { offered, held } = asked;
    if (!offered.includes(BEATS_PROTOCOL)) {
      refuseUpgrade(socket, "426 Upgrade Required", `beats are sent over a WebSocket; offer ${BEATS_PROTOCOL} as subprotocol`);
    } else if (held === undefined) {
      refuseUpgrade(
        socket,
        "401 Unauthorized",
        `no registration here has this ticket; register again, and offer ${TICKET_PROTOCOL}<ticket>`,
      );
    } else if (!held.pulse.hasRoom(performance.now())) {
      refuseUpgrade(socket, "429 Too Many Requests", "too many beats came; send one for each heartbeat");
    } else {
      this.#sockets.handleUpgrade(request, socket, head, (webSocket) => this.#accept(webSocket, held));
    }
    return true;
  }

  /** What asks for a socket for beats, with the registration that its ticket opens; undefined for what is not for beats. */
  #read({ url = "/", headers }: IncomingMessage): { offered: string[]; held: Held | undefined } | undefined {
    const path = url.split("?", 1)[0] ?? "/";
    if (!path.startsWith(BEATS_PATH)) return undefined;
    const offered = (headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
    const ticket = offered.find((name) => name.startsWith(TICKET_PROTOCOL))?.slice(TICKET_PROTOCOL.length) ?? "";
    const held = this.#options.registrar.held(decoded(path.slice(BEATS_PATH.length)) ?? "");
    return { offered, held: held?.pulse.isOpenedBy(ticket) ? held : undefined };
  }

  /** Takes no more; the sockets that are open end with their registrations. */
  close(): void {
    this.#sockets.close();
  }

  #accept(socket: WebSocket, held: Held): void {
    const { registrar, signs, logger } = this.#options;
    const { pulse } = held;
    const link = { end: (why: keyof typeof CLOSES) => close(socket, CLOSES[why]) };
    // It has ended between the handshake's two ends.
    if (registrar.held(held.record.kite.id) !== held) return link.end("ended");
    pulse.link?.end("replaced");
    pulse.link = link;
    socket.on("error", () => {});
    socket.on("close", () => {
      if (pulse.link === link) pulse.link = undefined;
    });
    socket.on("message", (data, isBinary) => {
      const loop = isBinary ? undefined : readBeat(data);
      if (loop === undefined) return link.end("broken");
      if (!pulse.take(performance.now())) {
        logger.warn({ kite: held.record.kite.id }, "a kite beats far too often; its socket is closed");
        return link.end("flood");
      }
      if (!signs.believes(held, loop)) return link.end("silent");
      if (!registrar.beat(held, loop)) return link.end("ended");
      socket.send(ANSWER);
      signs.ask(held, loop);
    });
  }
}

// Whoever has not answered a close by then is gone, or does not mean to.
const CLOSE_MS = 2_000;

function close(socket: WebSocket, [code, why]: readonly [number, string]): void {
  // What still comes is not for us any more; unread it would keep the answer to our close from coming.
  socket.removeAllListeners("message");
  socket.close(code, why);
  const late = setTimeout(() => socket.terminate(), CLOSE_MS);
  socket.once("close", () => clearTimeout(late));
}

function readBeat(data: RawData): Loop | undefined {
  const [, blocked, lag] = /^\[(\d{1,9}),(\d{1,9})\]$/.exec(String(data)) ?? [];
  return blocked === undefined || lag === undefined ? undefined : { blockedMs: Number(blocked), lagMs: Number(lag) };
}
