import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { pino } from "pino";
import { expect, test } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { createGateway, type GatewayOptions } from "./gateway.ts";

const options: GatewayOptions = {
  databaseUrl: "postgres://nobody@127.0.0.1:9/none",
  // Port 9 of the loopback is open nowhere.
  kontrolUrl: "http://127.0.0.1:9",
  kiteKey: "",
  port: 0,
  log: pino({ enabled: false }),
};

test.each([
  ["a signing token that is none", { gitlab: { signingTokens: ["whsec_short"] } }, "invalid_argument", "signing token 1"],
  ["a public address with a path", { publicUrl: "https://mesh.example/mesh" }, "invalid_argument", "GATEWAY_PUBLIC_URL"],
  ["a public address that is none", { publicUrl: "mesh.example" }, "invalid_argument", "GATEWAY_PUBLIC_URL"],
  ["a database that does not answer", {}, "unavailable", "GATEWAY_DATABASE_URL"],
])("with %s the gateway does not start, and says which setting it is", async (_what, change, code, words) => {
  await expect(createGateway({ ...options, ...change })).rejects.toMatchObject({ code, message: expect.stringContaining(words) });
});

test("a port that is taken is told by number and setting", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  try {
    const starting = createGateway({ ...options, databaseUrl: await freshDatabase(), kiteKey: unreadKey(), port });

    await expect(starting).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringMatching(new RegExp(`port ${port} .* is taken .*GATEWAY_PORT`)),
    });
  } finally {
    taken.close();
  }
}, 60_000);

/** A key that can be read, and that no kontrol would accept: the gateway does not come that far. */
function unreadKey(): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "EdDSA" })}.${part({ sub: "gateway", kontrolURL: options.kontrolUrl })}.`;
}
