import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { connect } from "nats";

/** Starts a nats-server that ends with this process, and answers with its address. */
export async function startNatsServer(): Promise<string> {
  const port = await freePort();
  const server = spawn("nats-server", ["--addr", "127.0.0.1", "--port", String(port)], { stdio: "ignore" });
  process.once("exit", () => server.kill("SIGKILL"));
  const failed = new Promise<never>((_, reject) => {
    server.once("error", () => reject(new Error("nats-server is not installed; leave out its sides with --only")));
  });
  const address = `127.0.0.1:${port}`;
  const ready = await Promise.race([
    failed,
    connect({ servers: address, waitOnFirstConnect: true, maxReconnectAttempts: 100, reconnectTimeWait: 50 }),
  ]);
  await ready.close();
  return address;
}

/** A port that nobody uses now. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, "close");
  return port;
}
