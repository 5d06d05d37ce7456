#!/usr/bin/env node
import { once } from "node:events";
import { access } from "node:fs/promises";
import { KiteError, kiteKeyPath, writeKiteKey } from "@kite-mesh/kite";
import { openLogger } from "@kite-mesh/kite/pino";
import type { Logger as Pino } from "pino";
import { createKontrol } from "./kontrol.ts";
import { readOptions, type ServeOptions } from "./options.ts";

const USAGE = `kontrol serve              answers until it is stopped
kontrol init [username]    makes the first administrator, and writes his kite.key to $KITE_HOME (default ~/.kite)

Settings: KONTROL_DATABASE_URL, KONTROL_HOST, KONTROL_PORT, KONTROL_URL, KONTROL_LOG_LEVEL, KITE_HOME
`;

try {
  await run(process.argv.slice(2));
} catch (thrown) {
  const { message } = KiteError.from(thrown);
  process.stderr.write(`kontrol: ${message}\n`);
  process.exitCode = 1;
}

async function run([command, username = "owner", ...rest]: string[]): Promise<void> {
  if (command === "--help" || command === "help") return void process.stdout.write(USAGE);
  if ((command !== "serve" && command !== "init") || rest.length > 0) {
    throw new KiteError("invalid_argument", `expected "serve" or "init", got "${[command ?? "nothing", ...rest].join(" ")}"\n\n${USAGE}`);
  }
  const options = readOptions();
  const log = openLogger({ level: options.logLevel });
  if (command === "serve") await serve(options, log);
  else await init(options, log, username);
}

async function serve(options: ServeOptions, log: Pino): Promise<void> {
  const kontrol = await createKontrol({ ...options, log });
  const [signal] = await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
  log.info({ signal }, "stopping");
  await kontrol.close();
}

async function init(options: ServeOptions, log: Pino, username: string): Promise<void> {
  const path = kiteKeyPath(options.home);
  const exists = await access(path).then(
    () => true,
    () => false,
  );
  if (exists)
    throw new KiteError(
      "already_exists",
      `there is a kite.key at ${path} already; move it away first, or set KITE_HOME to another directory`,
    );
  log.level = "warn";
  // Any port: this only writes. The key names the address under which `serve` will answer.
  const publicUrl = options.publicUrl ?? `http://${options.host}:${options.port}`;
  await using kontrol = await createKontrol({ ...options, host: "127.0.0.1", port: 0, publicUrl, log });
  await kontrol.ensureAccount({ username, kind: "person", admin: true });
  await writeKiteKey(options.home, await kontrol.issueKey(username));
  process.stdout.write(`${username} is an administrator of this mesh; the kite.key is at ${path}\n`);
}
