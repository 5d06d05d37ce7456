#!/usr/bin/env node
import { once } from "node:events";
import { KiteError, readKiteKey } from "@kite-mesh/kite";
import { openLogger } from "@kite-mesh/kite/pino";
import type { Logger } from "pino";
import { createKloud } from "./kloud.ts";
import { readKloudSettings } from "./options.ts";
import type { Provider, ProviderModule } from "./provider.ts";

const USAGE = `kloud      serves stacks until it is stopped

Settings: KLOUD_DATABASE_URL, KLOUD_KONTROL_URL, KLOUD_HOST, KLOUD_PORT, KLOUD_PROVIDERS, KLOUD_LOG_LEVEL, KITE_HOME
`;

// A reader that has seen enough (`kloud --help | head -1`) is no failure.
process.stdout.on("error", () => {});
try {
  await run(process.argv.slice(2));
} catch (thrown) {
  process.stderr.write(`kloud: ${KiteError.from(thrown).message}\n`);
  process.exitCode = 1;
}

async function run(words: string[]): Promise<void> {
  if (words.includes("--help") || words.includes("help")) return void process.stdout.write(USAGE);
  if (words.length > 0) throw new KiteError("invalid_argument", `expected no arguments, got "${words.join(" ")}"\n\n${USAGE}`);
  const settings = readKloudSettings();
  const log = openLogger({ level: settings.logLevel });
  const { jwt: kiteKey } = await readKiteKey(settings.home);
  const providers = await openProviders(settings.providers, log);
  try {
    await using kloud = await createKloud({ ...settings, kiteKey, providers, log });
    for (const provider of providers) log.info({ provider: provider.name }, await provider.describe());
    log.info({ url: kloud.url }, "serving");
    const [signal] = await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
    log.info({ signal }, "stopping");
  } finally {
    for (const provider of providers) await provider.close();
  }
}

async function openProviders(names: readonly string[], log: Logger): Promise<Provider[]> {
  const providers: Provider[] = [];
  for (const name of names) {
    const module = (await import(name).catch((cause: unknown) => {
      throw new KiteError("failed_precondition", `KLOUD_PROVIDERS names ${name}, which cannot be loaded; install it beside kloud`, {
        cause,
      });
    })) as Partial<ProviderModule>;
    if (module.openProvider === undefined)
      throw new KiteError("failed_precondition", `KLOUD_PROVIDERS names ${name}, which has no openProvider`);
    providers.push(module.openProvider({ log }));
  }
  return providers;
}
