import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { fileError } from "./file-error.ts";
import { Files } from "./files.ts";

const scope = { signal: new AbortController().signal };

test("a folder is listed by name, with what a link leads to and what is broken", async () => {
  const { files, home } = open({ "b.txt": "hello", "a/inner.txt": "", ".hidden": "" });
  symlinkSync("b.txt", join(home, "link"));
  symlinkSync("nowhere", join(home, "broken"));

  const { files: entries } = await files.readDirectory({ path: "~" }, scope);

  expect(entries.map(({ name }) => name)).toEqual([".hidden", "a", "b.txt", "broken", "link"]);
  expect(entries[1]).toMatchObject({ isDir: true, fullPath: join(home, "a") });
  expect(entries[2]).toMatchObject({ isDir: false, size: 5, exists: true, isBroken: false, readable: true, writable: true });
  expect(entries[3]).toMatchObject({ exists: true, isBroken: true, readable: false });
  expect(entries[4]).toMatchObject({ size: 5, isBroken: false });
  expect(new Date(entries[2]?.time ?? "").getTime()).toBeGreaterThan(Date.now() - 60_000);
});

test("a recursive list enters all folders but those to be ignored, and no links", async () => {
  const { files, home } = open({ "src/a.ts": "", "src/deep/b.ts": "", "node_modules/c.js": "" });
  symlinkSync(home, join(home, "src/round"));

  const { files: entries } = await files.readDirectory({ path: home, recursive: true, ignoreFolders: ["node_modules"] }, scope);

  expect(entries.map(({ fullPath }) => fullPath.slice(home.length + 1)).sort()).toEqual(
    ["node_modules", "src", "src/a.ts", "src/deep", "src/deep/b.ts", "src/round"].sort(),
  );
});

test("a glob with many stars is answered at once, whatever the names are", async () => {
  const { files, home } = open({ ["a".repeat(200)]: "" });
  const begin = performance.now();

  expect(await files.glob({ pattern: `${"*a".repeat(40)}*b` }, scope)).toEqual([]);
  expect(await files.glob({ pattern: `${"*a".repeat(40)}*` }, scope)).toEqual([join(home, "a".repeat(200))]);

  expect(performance.now() - begin).toBeLessThan(20_000);
});

test("globs match names, ranges and any depth; names with a dot only when asked for", async () => {
  const { files, home } = open({ "a.ts": "", "b.ts": "", "c1.js": "", "d/e.ts": "", "d/f/g.ts": "", ".x.ts": "", "[odd].ts": "" });
  const glob = async (pattern: string) => (await files.glob({ pattern }, scope)).map((path) => path.slice(home.length + 1));

  expect(await glob("*.ts")).toEqual(["[odd].ts", "a.ts", "b.ts"]);
  expect(await glob("[a-b].ts")).toEqual(["a.ts", "b.ts"]);
  expect(await glob("c?.js")).toEqual(["c1.js"]);
  expect(await glob("**/*.ts")).toEqual(["[odd].ts", "a.ts", "b.ts", "d/e.ts", "d/f/g.ts"]);
  expect(await glob(".*.ts")).toEqual([".x.ts"]);
  expect(await glob("\\[odd\\].ts")).toEqual(["[odd].ts"]);
  expect(await glob("d/f/g.ts")).toEqual(["d/f/g.ts"]);
  expect(await glob("no/such/*")).toEqual([]);
  await expect(glob("[z-a]")).rejects.toMatchObject({ code: "invalid_argument" });
});

test("a file is read whole, in ranges, and beyond its end", async () => {
  const { files } = open({ file: "0123456789" });
  const read = async (range: { offset?: number; blockSize?: number }) =>
    Buffer.from((await files.readFile({ path: "file", ...range })).content).toString();

  expect(await read({})).toBe("0123456789");
  expect(await read({ offset: 7 })).toBe("789");
  expect(await read({ offset: 2, blockSize: 3 })).toBe("234");
  expect(await read({ offset: 8, blockSize: 100 })).toBe("89");
  expect(await read({ offset: 50, blockSize: 5 })).toBe("");
  expect(Buffer.from((await files.readFile({ path: "/proc/self/status" })).content).toString()).toContain("Pid:");
});

test("a file that one answer cannot hold needs blockSize", async () => {
  const { files, home } = open({ big: "" });
  truncateSync(join(home, "big"), 60 * 1024 * 1024);

  await expect(files.readFile({ path: "big" })).rejects.toMatchObject({
    code: "limit_exceeded",
    message: expect.stringContaining("blockSize"),
  });
  expect((await files.readFile({ path: "big", offset: 59 * 1024 * 1024, blockSize: 10 })).content).toHaveLength(10);
});

test("writing replaces a whole file at once and keeps its mode; no other file is left", async () => {
  const { files, home } = open({ script: "#!/bin/sh\n" });
  chmodSync(join(home, "script"), 0o751);
  symlinkSync("script", join(home, "link"));
  const before = statSync(join(home, "script")).ino;

  expect(await files.writeFile({ path: "link", content: "é" })).toBe(2);

  expect(readFileSync(join(home, "script"), "utf8")).toBe("é");
  expect(statSync(join(home, "script")).mode & 0o777).toBe(0o751);
  expect(statSync(join(home, "script")).ino).not.toBe(before);
  expect(readdirSync(home).sort()).toEqual(["link", "script"]);
});

test("a file with two names stays one file", async () => {
  const { files, home } = open({ one: "old" });
  linkSync(join(home, "one"), join(home, "two"));

  await files.writeFile({ path: "one", content: "new" });

  expect(readFileSync(join(home, "two"), "utf8")).toBe("new");
});

test("writing can append, fill in at an offset, and refuse to overwrite", async () => {
  const { files, home } = open({ file: "0123456789" });

  await files.writeFile({ path: "file", content: "abc", append: true });
  await files.writeFile({ path: "file", content: Buffer.from("XY"), offset: 3 });

  expect(readFileSync(join(home, "file"), "utf8")).toBe("012XY56789abc");
  await expect(files.writeFile({ path: "file", content: "", doNotOverwrite: true })).rejects.toMatchObject({ code: "already_exists" });
  await expect(files.writeFile({ path: "file", content: "", append: true, offset: 1 })).rejects.toMatchObject({ code: "invalid_argument" });
  await files.writeFile({ path: "fresh", content: "x", doNotOverwrite: true });
  expect(readFileSync(join(home, "fresh"), "utf8")).toBe("x");
});

test("a file that somebody else changed is not overwritten", async () => {
  const { files, home } = open({ file: "mine" });
  const hash = createHash("sha256").update("mine").digest("hex");

  await files.writeFile({ path: "file", content: "mine again", lastContentHash: hash });

  await expect(files.writeFile({ path: "file", content: "lost", lastContentHash: hash })).rejects.toMatchObject({ code: "conflict" });
  expect(readFileSync(join(home, "file"), "utf8")).toBe("mine again");
});

test("unique paths count before the extension", async () => {
  const { files, home } = open({ "a.txt": "", "a_1.txt": "" });

  expect(await files.uniquePath({ path: "a.txt" })).toBe(join(home, "a_2.txt"));
  expect(await files.uniquePath({ path: "b.txt" })).toBe(join(home, "b.txt"));
});

test("what is missing is described, not refused", async () => {
  const { files, home } = open({ file: "" });

  expect(await files.getInfo({ path: "none" })).toMatchObject({ name: "none", fullPath: join(home, "none"), exists: false });
  expect(await files.abs({ path: "~/none" })).toEqual({ absPath: join(home, "none"), isDir: false, exist: false });
  expect(await files.abs({ path: "file/below" })).toMatchObject({ exist: false });
  expect(await files.abs({ path: "~" })).toEqual({ absPath: home, isDir: true, exist: true });
});

test("permissions change below a folder, and links are left alone", async () => {
  const { files, home } = open({ "dir/file": "", outside: "" });
  symlinkSync("../outside", join(home, "dir/link"));
  chmodSync(join(home, "outside"), 0o600);

  await files.setPermissions({ path: "dir", mode: 0o700, recursive: true }, scope);

  expect(statSync(join(home, "dir/file")).mode & 0o777).toBe(0o700);
  expect(statSync(join(home, "outside")).mode & 0o777).toBe(0o600);
});

test("a folder that is not empty is removed only with what is in it, a home not at all", async () => {
  const { files, home } = open({ "dir/file": "" });

  await expect(files.remove({ path: "dir" })).rejects.toMatchObject({ code: "failed_precondition" });
  await expect(files.remove({ path: "~", recursive: true })).rejects.toMatchObject({ code: "invalid_argument" });
  await files.remove({ path: "dir", recursive: true });

  expect(existsSync(join(home, "dir"))).toBe(false);
});

test("folders are made, moved and copied; cycles and mismatches are refused", async () => {
  const { files, home } = open({ "from/a": "1", "from/b/c": "2", file: "" });
  symlinkSync("a", join(home, "from/link"));

  await files.createDirectory({ path: "new/deep", recursive: true });
  await files.copy({ srcPath: "from", dstPath: "new/copy" });
  await files.move({ oldPath: "new/copy", newPath: "moved" });

  expect(readFileSync(join(home, "moved/b/c"), "utf8")).toBe("2");
  expect(
    readdirSync(join(home, "moved"), { withFileTypes: true })
      .find(({ name }) => name === "link")
      ?.isSymbolicLink(),
  ).toBe(true);
  for (const [srcPath, dstPath] of [
    ["from", "from"],
    ["from", "from/b/inside"],
    ["from", "file"],
    ["file", "from"],
  ] as const) {
    await expect(files.copy({ srcPath, dstPath }), `${srcPath} to ${dstPath}`).rejects.toMatchObject({ code: "invalid_argument" });
  }
  symlinkSync("from/b", join(home, "shortcut"));
  await expect(files.copy({ srcPath: "from", dstPath: "shortcut/x" })).rejects.toMatchObject({ code: "invalid_argument" });
});

test("sizes add up, and the disk says how large it is", async () => {
  const { files } = open({ "dir/a": "12345", "dir/b/c": "123" });

  expect(await files.getPathSize({ path: "dir" }, scope)).toBe(8);
  const disk = await files.getDiskInfo({ path: "dir" });
  expect(disk.blocksTotal).toBe(disk.blocksUsed + disk.blocksFree);
  expect(disk.blockSize).toBeGreaterThan(0);
});

test("errors name the path and what is wrong", async () => {
  const { files, home } = open({ file: "" });

  await expect(files.readFile({ path: "none" })).rejects.toMatchObject({
    code: "not_found",
    message: `could not read ${home}/none: there is no such file or folder`,
  });
  await expect(files.readFile({ path: "~" })).rejects.toMatchObject({
    code: "invalid_argument",
    message: expect.stringContaining("it is a folder"),
  });
  await expect(files.createDirectory({ path: "file" })).rejects.toMatchObject({ code: "already_exists" });
  await expect(files.readDirectory({ path: "file" }, scope)).rejects.toMatchObject({ code: "invalid_argument" });
  await expect(files.readFile({ path: "a\0b" })).rejects.toMatchObject({ code: "invalid_argument" });
  expect(fileError(Object.assign(new Error("x"), { code: "EACCES" }), "read", "/etc/shadow")).toMatchObject({
    code: "permission_denied",
    message: expect.stringContaining("/etc/shadow"),
  });
});

function open(content: Record<string, string>): { files: Files; home: string } {
  const home = realpathSync(mkdtempSync(`${tmpdir()}/files-`));
  onTestFinished(() => rmSync(home, { recursive: true }));
  for (const [name, text] of Object.entries(content)) {
    mkdirSync(join(home, name, ".."), { recursive: true });
    writeFileSync(join(home, name), text);
  }
  return { files: new Files({ home }), home };
}
