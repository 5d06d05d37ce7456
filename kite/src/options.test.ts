import { mkdir, mkdtemp, realpath, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readEnvironment } from "./options.ts";

let folder: string;

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "kite-options-")));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

test("the variables are read, and empty ones count as not set", () => {
  const env = {
    KITE_HOME: "/srv/kite",
    KITE_USERNAME: "alice",
    KITE_ENVIRONMENT: "prod",
    KITE_REGION: "",
    KITE_KONTROL_URL: "http://kontrol:4000",
  };

  expect(readEnvironment(env, folder)).toEqual({
    home: "/srv/kite",
    username: "alice",
    environment: "prod",
    region: undefined,
    kontrolUrl: "http://kontrol:4000",
  });
});

test("a relative KITE_HOME is meant from the working directory", () => {
  expect(readEnvironment({ KITE_HOME: "state" }, folder).home).toBe(join(folder, "state"));
});

test("without KITE_HOME the nearest .kite above the working directory is the home", async () => {
  const inside = join(folder, "kite", "examples");
  await mkdir(inside, { recursive: true });
  await mkdir(join(folder, ".kite"));

  expect(readEnvironment({}, inside).home).toBe(join(folder, ".kite"));
});

test("without any .kite the home is in the user's own", () => {
  expect(readEnvironment({}, "/").home).toBe(join(homedir(), ".kite"));
});
