import { once } from "node:events";
import { createRequire } from "node:module";
import type { AddressInfo, Server } from "node:net";

/** The parts of npm's kite.js 1.0.13 that the tests use; it comes without types. */
export interface KiteJsClient {
  tell(method: string, parameters?: unknown): Promise<unknown>;
  ready(): Promise<void>;
  disconnect(): void;
  on(event: string, listener: (...args: unknown[]) => void): void;
}

export interface KiteJsOptions {
  readonly url: string;
  readonly transport?: "WebSocket" | "SockJS";
  readonly auth?: { type: string; key: string };
  readonly api?: KiteJsApi;
}

/** Methods as kite.js takes them: arguments first, then a callback with error and result. */
export type KiteJsApi = Record<string, (...args: never[]) => unknown>;

type Transports = Record<"WebSocket" | "SockJS", unknown>;

interface KiteJs {
  Kite: { new (options: object): KiteJsClient; transport: Transports };
  KiteServer: { new (options: object): KiteJsServer; transport: Record<"WebSocket" | "SockJS", ServerClass> };
}

interface KiteJsServer {
  listen(port: string): void;
  close(): void;
  /** Its transport's server; over raw WebSocket, the HTTP server is one level deeper. */
  server: { server: Server & { _server?: Server } };
  onConnection(socket: { kite: KiteJsClient }): void;
}
type ServerClass = new (options: { port: number; hostname?: string; prefix?: string }) => object;

const { Kite, KiteServer } = createRequire(import.meta.url)("kite.js") as KiteJs;

/** A connected client of kite.js, as it comes but without its own way of dialling again. */
export async function kiteJsClient({ url, transport = "WebSocket", auth, api = {} }: KiteJsOptions): Promise<KiteJsClient & Disposable> {
  const identity = { name: "web", username: "alice", environment: "dev", version: "1.2.3", region: "eu", hostname: "host1" };
  const transportClass = Kite.transport[transport];
  const client = new Kite({ ...identity, url, auth, api, transportClass, autoReconnect: false, logLevel: 0 });
  // Without a listener an error of its socket would end the process.
  client.on("error", () => {});
  await client.ready();
  return Object.assign(client, { [Symbol.dispose]: () => client.disconnect() });
}

/** A server of kite.js on this machine. `connected` gets its own client for every kite that connects, to call it back. */
export async function kiteJsServer(
  transport: "WebSocket" | "SockJS",
  api: KiteJsApi,
  connected: (client: KiteJsClient) => void = () => {},
): Promise<{ url: string } & Disposable> {
  const Base = KiteServer.transport[transport];
  // By default it opens its port to the whole network.
  class Loopback extends Base {
    constructor(options: { port: number; prefix?: string }) {
      super({ ...options, hostname: "127.0.0.1" });
    }
  }
  const server = new KiteServer({ name: "old", auth: false, logLevel: 0, prefix: "kite", api, serverClass: Loopback });
  const accept = server.onConnection;
  server.onConnection = (socket) => {
    accept.call(server, socket);
    connected(socket.kite);
  };
  // As a text, since its SockJS takes the number for none.
  server.listen("0");
  const { server: own } = server.server;
  const http = own._server ?? own;
  if (!http.listening) await once(http, "listening");
  const origin = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  return { url: transport === "SockJS" ? `${origin}/kite` : origin, [Symbol.dispose]: () => server.close() };
}
