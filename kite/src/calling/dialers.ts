import { KiteError } from "../errors.ts";
import type { DialSocket } from "../transport/websocket.ts";

/**
 * How kites are dialled, by the scheme of their url, such as `{ nats: natsDialer(connection) }`. WebSockets
 * (`http`, `https`, `ws`, `wss`) are built in.
 */
export type Dialers = Readonly<Record<string, DialSocket>>;

/** Chooses the way to dial by the url. */
export class DialTable {
  readonly #dialers: ReadonlyMap<string, DialSocket>;

  constructor(webSocket: DialSocket, dialers: Dialers = {}) {
    const builtIn = WEB_SCHEMES.map((scheme): [string, DialSocket] => [scheme, webSocket]);
    this.#dialers = new Map([...builtIn, ...Object.entries(dialers).map(([scheme, dial]): [string, DialSocket] => [bare(scheme), dial])]);
  }

  /** Whether there is a way to a url like this; not whether anybody is there. */
  canDial(url: string): boolean {
    return this.#dialers.has(schemeOf(url) ?? "ws");
  }

  /** @throws {KiteError} `failed_precondition` naming the schemes when the url has another one, else what the dialer throws. */
  readonly dial: DialSocket = async (request) => {
    const dial = this.#dialers.get(schemeOf(request.url) ?? "ws");
    if (dial === undefined) throw this.unknown(request.url);
    return dial(request);
  };

  unknown(url: string): KiteError {
    const known = [...this.#dialers.keys()].join(", ");
    const message = `${url} cannot be dialled from here: this kite dials ${known}; give it \`dialers\` with one for ${schemeOf(url)}`;
    return new KiteError("failed_precondition", message, { outcome: "not_run" }).passOn();
  }
}

const WEB_SCHEMES = ["http", "https", "ws", "wss"];

/** Undefined for what is no url at all, such as `localhost:3636`; of that WebSocket's own complaint says most. */
function schemeOf(url: string): string | undefined {
  return /^([a-z][a-z0-9+.-]*):(?!\d)/i.exec(url)?.[1]?.toLowerCase();
}

/** `nats` and `nats:` are both meant. */
function bare(scheme: string): string {
  return scheme.replace(/:$/, "").toLowerCase();
}
