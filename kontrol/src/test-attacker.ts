import { once } from "node:events";
import { Kite, type Remote } from "@kite-mesh/kite";
import { WebSocket } from "ws";
import type { KontrolContract } from "./contract.ts";
import type { TestKontrol, TestPerson } from "./testing.ts";

/** kontrol, called with whatever an attacker shows, or with nothing. */
export function asking(mesh: TestKontrol, type?: string, key = ""): Remote<KontrolContract> {
  const auth = type === undefined ? undefined : { type, key };
  const kite = mesh.closing(new Kite({ name: "attacker", version: "1.0.0" }));
  return mesh.closing(kite.dial<KontrolContract>({ url: mesh.kontrol.url, auth }));
}

/** A kite of somebody's that can be dialled. */
export async function registered(person: TestPerson, name: string): Promise<Kite> {
  const kite = person.kite({ name });
  await kite.listen();
  await kite.register();
  return kite;
}

/** What the relay answers: an HTTP status, the code of a refusal, or `open`. */
export async function knock(url: string, protocols: string[]): Promise<string> {
  const socket = new WebSocket(url.replace("http", "ws"), protocols);
  try {
    const [what] = (await Promise.race([
      once(socket, "message"),
      new Promise((resolve) => socket.once("unexpected-response", (_, response) => resolve([String(response.statusCode)]))),
    ])) as [Buffer | string];
    return typeof what === "string" ? what : JSON.parse(what.toString()).refused.code;
  } finally {
    socket.on("error", () => {});
    socket.terminate();
  }
}
