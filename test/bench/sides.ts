import type { Side } from "./side.ts";

/** All sides, loaded by the processes that need them. */
export const SIDES = {
  ws: async () => (await import("./sides/plain-ws.ts")).plainWs,
  capnweb: async () => (await import("./sides/capnweb.ts")).capnWeb,
  "kite.js": async () => (await import("./sides/kite-js.ts")).kiteJs,
  "socket.io": async () => (await import("./sides/socket-io.ts")).socketIo,
  trpc: async () => (await import("./sides/trpc.ts")).trpc,
  "grpc-js": async () => (await import("./sides/grpc.ts")).grpc,
  "moleculer-tcp": async () => (await import("./sides/moleculer.ts")).moleculerTcp,
  "moleculer-nats": async () => (await import("./sides/moleculer.ts")).moleculerNats,
  "nats.js": async () => (await import("./sides/nats-js.ts")).natsJs,
  kite: async () => (await import("./sides/kite.ts")).kite,
  "kite-dnode": async () => (await import("./sides/kite.ts")).kiteDnode,
  "kite-nats": async () => (await import("./sides/kite.ts")).kiteNats,
} satisfies Record<string, () => Promise<Side>>;
export type SideName = keyof typeof SIDES;
export const SIDE_NAMES = Object.keys(SIDES) as SideName[];
