import { type BrokerOptions, ServiceBroker } from "moleculer";
import { freePort, startNatsServer } from "../nats-server.ts";
import type { Message, Side } from "../side.ts";

/** Moleculer over its own TCP transporter, with the server's address given instead of searched for. */
export const moleculerTcp: Side = {
  async serve() {
    const port = await freePort();
    await startBroker("server", { type: "TCP", options: { udpDiscovery: false, port, urls: [] } });
    return String(port);
  },
  connect: async (port) =>
    connectBroker({ type: "TCP", options: { udpDiscovery: false, port: await freePort(), urls: [`127.0.0.1:${port}/server`] } }),
};

/** Moleculer over NATS. */
export const moleculerNats: Side = {
  async serve() {
    const address = await startNatsServer();
    await startBroker("server", `nats://${address}`);
    return address;
  },
  connect: (address) => connectBroker(`nats://${address}`),
};

async function connectBroker(transporter: NonNullable<BrokerOptions["transporter"]>) {
  const broker = await startBroker("client", transporter);
  await broker.waitForServices("bench", 20_000);
  return { unary: (message: Message) => broker.call<Message, Message>("bench.unary", message) };
}

async function startBroker(nodeID: string, transporter: NonNullable<BrokerOptions["transporter"]>): Promise<ServiceBroker> {
  const broker = new ServiceBroker({ nodeID, transporter, logger: false });
  if (nodeID === "server") broker.createService({ name: "bench", actions: { unary: (context: { params: Message }) => context.params } });
  await broker.start();
  return broker;
}
