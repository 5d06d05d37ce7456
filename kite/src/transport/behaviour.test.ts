import { afterAll, beforeAll, vi } from "vitest";
import { describeWith } from "../../../test/services.ts";
import { overNats } from "../nats/test-carrier.ts";
import { TestNatsServer } from "../nats/test-nats-server.ts";
import { testBehaviour } from "./behaviour.contract.ts";
import { dnodeWorldOver, overBrowserSocket, overLink, overMemory, overWebSocket, worldOver } from "./test-worlds.ts";

// Real servers on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

testBehaviour(worldOver("memory", overMemory));
testBehaviour(worldOver("WebSocket", overWebSocket));
testBehaviour(worldOver("a browser's WebSocket", overBrowserSocket));
testBehaviour(worldOver("a link inside another session", overLink));
testBehaviour(dnodeWorldOver("memory, in dnode", overMemory));
testBehaviour(dnodeWorldOver("WebSocket, in dnode", overWebSocket));
testBehaviour(dnodeWorldOver("SockJS, in dnode", overWebSocket, "/kite"));

describeWith("nats-server", "NATS", (program) => {
  let server: TestNatsServer;
  // A small limit, so that ordinary frames are cut into many messages.
  beforeAll(async () => {
    server = await TestNatsServer.start(program, { maxPayload: 16 * 1024 });
  }, 30_000);
  afterAll(() => server[Symbol.asyncDispose]());

  testBehaviour(
    worldOver(
      "NATS, in small messages",
      overNats(() => server),
    ),
  );
});
