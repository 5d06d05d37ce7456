import { testIdentity } from "../testing.ts";
import type { OpenCarrier } from "../transport/test-worlds.ts";
import { natsDialer } from "./dial.ts";
import { listenNats } from "./listen.ts";
import type { TestNatsServer } from "./test-nats-server.ts";

/** Client and server on NATS connections of their own; a cut drops the client's, which comes back. */
export function overNats(server: () => TestNatsServer): OpenCarrier {
  return async (serve) => {
    const [here, there] = await Promise.all([server().connect(), server().connect()]);
    const listener = await listenNats({ identity: testIdentity({ id: crypto.randomUUID() }), serve }, there);
    return {
      url: listener.url,
      dial: natsDialer(here),
      cut: () => void here.reconnect(),
      [Symbol.asyncDispose]: async () => {
        await listener[Symbol.asyncDispose]();
        await Promise.all([here.close(), there.close()]);
      },
    };
  };
}
