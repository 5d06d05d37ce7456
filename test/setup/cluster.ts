import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { startPostgres } from "../../deploy/local/src/postgres.ts";

// Run as a process by postgres.ts. Its stdin stays open as long as the test run lives; when it ends, even by kill -9,
// the server ends with it and its files go.
const parentGone = new Promise<void>((resolve) => process.stdin.once("close", () => resolve()).resume());
const directory = await mkdtemp(path.join(os.tmpdir(), "kite-test-cluster-"));
// Another version than the embedded one, for `npm run test:postgres`; what is on PATH must not take its place unnoticed.
const packageDir = process.env["TEST_POSTGRES_PACKAGE"];
const binaries = packageDir === undefined ? {} : { packageDir, searchPath: [] };
try {
  const postgres = await startPostgres({ dataDir: path.join(directory, "data"), fsync: false, ...binaries });
  process.stdout.write(`${postgres.url}\n`);
  await parentGone;
  await postgres.close();
} finally {
  await rm(directory, { recursive: true, force: true });
}
process.exit();
