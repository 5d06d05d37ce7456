import path from "node:path";
import { inject } from "vitest";
import type { ProgramName } from "./setup/programs.ts";

/**
 * The file of a program, for `node`: this checkout's sources, bundled for the run of the tests. For what a program does; that it
 * runs from sources, too, is for the tests that start it as a person does.
 *
 * @example
 * spawn(process.execPath, [program("kite"), "list"]);
 */
export function program(name: ProgramName): string {
  return path.join(inject("programs"), `${name}.mjs`);
}
