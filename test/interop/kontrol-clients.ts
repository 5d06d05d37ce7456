import { createRequire } from "node:module";
import WebSocket from "ws";
import { until } from "../until.ts";

export type Transport = "WebSocket" | "SockJS";

interface Changes {
  on(event: "register" | "deregister", listener: (kite: CallbackKite) => void): void;
}

/** A kite as kite.js's Kontrol makes it: one that was found is not connected yet. It knows callbacks alone. */
export interface CallbackKite {
  readonly options: { name: string; url: string };
  connect(): void;
  disconnect(): void;
  ready(callback: () => void): void;
  getToken(): string;
  expireToken(callback: (error: unknown, token: string) => void): void;
  tell(method: string, args: unknown[], callback: (error: unknown, result: unknown) => void): void;
  on(event: string, listener: (...args: unknown[]) => void): void;
}

/** kite.js's own client of kontrol, as far as the tests use it. */
export interface KontrolOfKiteJs {
  readonly kite: CallbackKite;
  fetchKites(request: { query: object }): Promise<CallbackKite[]>;
  fetchKite(request: { query: object }): Promise<CallbackKite>;
  watchKites(request: { query: object }): Promise<{ changes: Changes; watcherID: string }>;
  cancelWatcher(id: string): Promise<unknown>;
  createKite(found: object): CallbackKite;
  disconnect(): void;
  on(event: string, listener: (...args: unknown[]) => void): void;
}

interface KiteJs {
  Kontrol: { new (options: object): KontrolOfKiteJs };
  Kite: { transport: Record<Transport, unknown> };
}

const { Kontrol, Kite } = createRequire(import.meta.url)("kite.js") as KiteJs;
const SockJS = createRequire(import.meta.url)("sockjs-client") as new (url: string) => SockJsSocket;

interface SockJsSocket {
  send(message: string): void;
  close(): void;
  onopen: () => void;
  onmessage: (event: { data: string }) => void;
  onclose: () => void;
}

/** Where kontrol, or a kite, is dialled over a transport. */
function addressFor(transport: Transport, url: string): string {
  return transport === "SockJS" ? `${url}/kite` : url.replace("http", "ws");
}

/** kite.js's client of a kontrol, connected; it and whatever it made are disconnected at the end. */
export async function kontrolOfKiteJs(transport: Transport, url: string, kiteKey: string): Promise<KontrolOfKiteJs & Disposable> {
  const identity = { username: "alice", environment: "dev", version: "1.2.3", region: "eu", hostname: "host1", name: "web" };
  const auth = { type: "kiteKey", key: kiteKey };
  const transportClass = Kite.transport[transport];
  const kontrol = new Kontrol({ ...identity, url: addressFor(transport, url), auth, transportClass, logLevel: 0 });
  kontrol.on("error", () => {});
  const made: CallbackKite[] = [];
  const create = kontrol.createKite.bind(kontrol);
  kontrol.createKite = (found) => {
    const kite = create({ ...found, autoReconnect: false });
    kite.on("error", () => {});
    made.push(kite);
    return kite;
  };
  await new Promise<void>((resolve) => kontrol.kite.ready(resolve));
  return Object.assign(kontrol, {
    [Symbol.dispose]: () => {
      for (const kite of made) kite.disconnect();
      kontrol.disconnect();
    },
  });
}

/** Calls a kite of kite.js that knows callbacks alone. */
export function tell(kite: CallbackKite, method: string, ...args: unknown[]): Promise<unknown> {
  return new Promise((resolve, reject) => kite.tell(method, args, (error, result) => (error ? reject(error) : resolve(result))));
}

/** One message of dnode, as it is on the wire. */
export interface Message {
  method: string | number;
  arguments: unknown[];
  callbacks: Record<string, (string | number)[]>;
}

/**
 * A client that writes what the client in Go was seen to write, key for key: the answer's function has the lower id, paths
 * count their indexes, and no arguments are null.
 */
export class GoClient implements Disposable {
  readonly heard: Message[] = [];
  readonly #kite: object;
  readonly #auth: { type: string; key: string } | null;
  readonly #send: (text: string) => void;
  readonly #close: () => void;
  #next = 0;
  closed = false;

  private constructor(kite: object, auth: { type: string; key: string } | null, send: (text: string) => void, close: () => void) {
    this.#kite = kite;
    this.#auth = auth;
    this.#send = send;
    this.#close = close;
  }

  /** Connected. Whoever opened it disposes of it. */
  static async open(transport: Transport, url: string, kite: object, auth: { type: string; key: string } | null): Promise<GoClient> {
    const socket = transport === "SockJS" ? new SockJS(addressFor(transport, url)) : new WebSocket(addressFor(transport, url));
    const client = new GoClient(
      kite,
      auth,
      (text) => socket.send(text),
      () => socket.close(),
    );
    let open = false;
    Object.assign(socket, {
      onopen: () => {
        open = true;
      },
      onmessage: ({ data }: { data: unknown }) => client.heard.push(JSON.parse(String(data)) as Message),
      onclose: () => {
        client.closed = true;
      },
    });
    await until("the socket to open", 10_000, () => open);
    return client;
  }

  /** Calls a method; answers with the one envelope that came back. `functions` are the paths of those among the arguments. */
  async tell(method: string, withArgs: unknown[] | null, functions: (string | number)[][] = []): Promise<Answer> {
    const id = this.#next++;
    const others = functions.map((path) => [this.#next++, path] as const);
    const envelope = { kite: this.#kite, authentication: this.#auth, responseCallback: "[Function]", withArgs };
    const callbacks = Object.fromEntries([[id, [0, "responseCallback"]], ...others]);
    this.#send(JSON.stringify({ method, arguments: [envelope], callbacks }));
    const { arguments: args } = await this.call(id);
    if (args.length !== 1) throw new Error(`a client in Go takes one argument as an answer, got ${args.length}`);
    return args[0] as Answer;
  }

  /** The first message to `method`, once it has come: a function of this client's, or one of its methods. */
  call(method: string | number): Promise<Message> {
    return until(`a message to ${method}`, 10_000, () => this.heard.find((message) => message.method === method));
  }

  /** Calls a function of the peer's. */
  callBack(id: number, args: unknown[] = []): void {
    this.#send(JSON.stringify({ method: id, arguments: args, callbacks: {} }));
  }

  [Symbol.dispose](): void {
    this.#close();
  }
}

/** How a call ended. */
export interface Answer {
  readonly error: { type: string; message: string; code: string; id: string } | null;
  readonly result: unknown;
}

/** The number of the function at this path of a message. */
export function functionAt({ callbacks }: Message, ...path: (string | number)[]): number {
  const found = Object.entries(callbacks).find(([, at]) => at.join("/") === path.join("/"));
  if (found === undefined) throw new Error(`expected a function at ${path.join("/")}, got ${JSON.stringify(callbacks)}`);
  return Number(found[0]);
}
