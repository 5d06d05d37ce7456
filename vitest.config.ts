import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { ServicesReporter } from "./test/setup/summary.ts";

// Packages find each other's sources, so that tests need no build.
const source = { conditions: ["mesh-source"] };
const sources = { resolve: source, ssr: { resolve: source } };
// One after the other: the first gives the file its own modules.
const setup = {
  setupFiles: ["test/setup/between-files.ts", "test/setup/patience.ts"],
  sequence: { setupFiles: "list" as const },
  isolate: false,
};

export default defineConfig({
  test: {
    // Here and not in the projects: one set-up, and so one database cluster and one build of the programs, for the whole run.
    globalSetup: ["test/setup/postgres.ts", "test/setup/programs.ts"],
    // Two for each core: more than half of the time a test waits, for a process, a database or a timer. Left to itself, vitest keeps
    // one core free.
    maxWorkers: 2 * availableParallelism(),
    reporters: [new ServicesReporter(), "default"],
    projects: [
      // Not the 5 s that vitest gives a test: starting a PostgreSQL or a shell takes as long where other programs have the cores.
      {
        ...sources,
        test: {
          name: "unit",
          ...setup,
          include: ["{kite,kontrol,klient,kloud,gateway,deploy}/**/*.test.ts"],
          testTimeout: 30_000,
          hookTimeout: 30_000,
        },
      },
      { ...sources, test: { name: "mesh", ...setup, include: ["test/**/*.test.ts"], testTimeout: 60_000, hookTimeout: 60_000 } },
    ],
  },
});
