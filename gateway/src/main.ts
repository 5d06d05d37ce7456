import { KiteError, readEnvironment, readKiteKey } from "@kite-mesh/kite";
import { openLogger } from "@kite-mesh/kite/pino";
import { createGateway } from "./gateway.ts";
import { readOptions } from "./options.ts";

/** The gateway as a process of its own: settings from the environment, until SIGINT or SIGTERM. */
async function main(): Promise<void> {
  const { logLevel, ...options } = readOptions();
  const environment = readEnvironment();
  const kiteKey = await readKiteKey(environment.home);
  const kontrolUrl = environment.kontrolUrl ?? kiteKey.kontrolUrl;
  const log = openLogger({ level: logLevel });
  const gateway = await createGateway({ ...options, kiteKey: kiteKey.jwt, kontrolUrl, log });
  log.info({ url: gateway.url }, "the gateway is open");
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void gateway.close());
}

try {
  await main();
} catch (error) {
  console.error(`gateway: ${KiteError.from(error).message}`);
  process.exitCode = 1;
}
