import { KiteError, protocolError } from "../errors.ts";
import type { RawFrame } from "../wire/v1.ts";
import { CLOSE, type Transport, type TransportReceiver } from "./transport.ts";

/**
 * SockJS 0.3 framing over a WebSocket, the server's side: says `o`, then `h` every ten seconds, `a[…]` with messages and, at
 * last, `c[code,reason]`. Frames of the client are arrays of messages; they may come before it has read the `o`.
 */
export function acceptSockjs(socket: Transport, heartbeatMs = HEARTBEAT_MS): Transport {
  return new SockjsServer(socket, heartbeatMs);
}

/** The same framing, the client's side. Like Go's it sends without waiting for the `o`. */
export function dialledSockjs(socket: Transport): Transport {
  return new SockjsClient(socket);
}

/** `http://host/kite` → `http://host/kite/<3 digits>/<20 hex digits>/websocket`: where a client of SockJS dials. */
export function sockjsUrl(url: string, random: () => number = Math.random): string {
  const server = 100 + Math.floor(random() * 900);
  const session = Array.from({ length: 20 }, () => Math.floor(random() * 16).toString(16)).join("");
  const parsed = new URL(url);
  parsed.pathname = `${parsed.pathname.replace(/\/+$/, "")}/${server}/${session}/websocket`;
  return parsed.href;
}

/** How a session of SockJS ends when nothing is wrong. */
export const GO_AWAY = { code: 3000, reason: "Go away!" } as const;

// What Go's kites do; proxies between the two drop connections that are silent for a minute.
const HEARTBEAT_MS = 10_000;

class SockjsServer implements Transport {
  readonly #socket: Transport;
  readonly #heartbeat: ReturnType<typeof setInterval>;

  constructor(socket: Transport, heartbeatMs: number) {
    this.#socket = socket;
    socket.send("o");
    this.#heartbeat = setInterval(() => socket.send("h"), heartbeatMs);
    this.#heartbeat.unref();
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedBytes;
  }

  start(receiver: TransportReceiver): void {
    this.#socket.start({
      frame: (raw) => {
        const messages = readMessages(raw);
        if (messages === undefined) return this.close(CLOSE.protocolError, "a frame of SockJS is a JSON array of strings");
        for (const message of messages) receiver.frame(message);
      },
      closed: (why) => {
        clearInterval(this.#heartbeat);
        receiver.closed(why);
      },
    });
  }

  send(frame: RawFrame): void {
    this.#socket.send(`a${JSON.stringify([frame])}`);
  }

  close(code: number, reason: string): void {
    clearInterval(this.#heartbeat);
    this.#socket.send(`c${JSON.stringify([code, reason])}`);
    this.#socket.close(code, reason);
  }
}

class SockjsClient implements Transport {
  readonly #socket: Transport;
  #told: { code: number; reason: string } | undefined;

  constructor(socket: Transport) {
    this.#socket = socket;
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedBytes;
  }

  start(receiver: TransportReceiver): void {
    this.#socket.start({
      frame: (raw) => {
        try {
          this.#read(raw, receiver);
        } catch (thrown) {
          this.close(CLOSE.protocolError, KiteError.from(thrown).message);
        }
      },
      closed: (why) => receiver.closed(this.#told ?? why),
    });
  }

  send(frame: RawFrame): void {
    this.#socket.send(JSON.stringify([frame]));
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }

  #read(raw: RawFrame, receiver: TransportReceiver): void {
    const [type, body] = typeof raw === "string" ? [raw.charAt(0), raw.slice(1)] : ["", ""];
    if (type === "o" || type === "h") return;
    if (type === "a") for (const message of readMessages(body) ?? refuse()) receiver.frame(message);
    else if (type === "m") for (const message of readMessages(`[${body}]`) ?? refuse()) receiver.frame(message);
    else if (type === "c") this.#onClose(parse(body));
    else refuse();
  }

  #onClose(why: unknown): void {
    const [code, reason] = Array.isArray(why) ? (why as unknown[]) : [];
    this.#told = { code: typeof code === "number" ? code : GO_AWAY.code, reason: typeof reason === "string" ? reason : "" };
    this.#socket.close(1000, "");
  }
}

/** Undefined for what is no array of strings. An empty frame has no messages. */
function readMessages(raw: RawFrame): readonly string[] | undefined {
  if (typeof raw !== "string") return undefined;
  if (raw === "") return [];
  const messages = parse(raw);
  const valid = Array.isArray(messages) && messages.every((message): message is string => typeof message === "string");
  return valid ? messages : undefined;
}

function parse(text: string): unknown {
  // A bracket beyond the first is no frame of SockJS; nothing nested is ever parsed.
  if (/^\s*\[\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refuse(): never {
  throw protocolError("a frame of SockJS begins with o, h, a, m or c");
}
