import { existsSync } from "node:fs";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import type { Command } from "commander";
import { EXIT, Failure } from "./failure.ts";
import { green, json, print } from "./output.ts";
import { readTemplate, templateNames } from "./template.ts";
import { VERSION } from "./version.ts";

/** `kite new`: a kite to begin with, that passes its own test. */
export function addNewCommand(program: Command): void {
  program
    .command("new")
    .argument("<name>", "what the kite is called, such as greeter or image-store")
    .option("--dir <folder>", "where to make it; default: a folder of its name")
    .option("--template <template>", "what to begin with", "basic")
    .option("--json", "JSON on one line")
    .description("make a kite: a method, its test, a Dockerfile and a systemd unit")
    .addHelpText("after", NEW_EXAMPLES)
    .action(newKite);
}

const NEW_EXAMPLES = `
Examples:
  kite new greeter
  kite new image-store --dir services/images`;

async function newKite(name: string, options: { dir?: string; template: string; json?: boolean }): Promise<void> {
  checkName(name);
  await checkTemplate(options.template);
  const folder = resolve(options.dir ?? name);
  await checkEmpty(folder);
  const files = await readTemplate(options.template, { name, contract: `${pascal(name)}Contract`, version: VERSION });
  for (const { path, content } of files) {
    const target = join(folder, path);
    await mkdir(dirname(target), { recursive: true });
    // `wx`: what somebody has put there in the meantime is theirs.
    await writeFile(target, content, { flag: "wx" });
  }
  if (options.json) return print(json({ name, folder, template: options.template, files: files.map(({ path }) => path) }));
  print(`${green("✓")} ${name} is in ${shown(folder)}: ${files.length} files\n${nextSteps(name, folder)}`);
}

// npm, Docker, systemd and hostnames all take such a name; 63 is the longest part of a hostname.
const NAME = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;
const MAX_NAME = 63;
// src/main.ts is there already, and a package cannot depend on itself.
const TAKEN = ["main", "zod", "typescript"];

/**
 * @throws {Failure} saying what names are like, for one that a folder, a package or a service cannot have.
 */
export function checkName(name: string): void {
  if (!NAME.test(name) || name.length > MAX_NAME)
    throw new Failure(
      `a kite's name has lower-case letters, digits and single dashes, begins with a letter and has at most ${MAX_NAME} characters, such as image-store; got "${name}"`,
      EXIT.usage,
    );
  if (TAKEN.includes(name))
    throw new Failure(`a kite cannot be called ${name}: something in its folder is; choose another name`, EXIT.usage);
}

async function checkTemplate(template: string): Promise<void> {
  const known = await templateNames();
  if (!known.includes(template)) throw new Failure(`--template should be one of ${known.join(", ")}, and is "${template}"`, EXIT.usage);
}

async function checkEmpty(folder: string): Promise<void> {
  const found = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return [];
    throw new Failure(`no kite can be made in ${folder}: ${cause.message}`, EXIT.error, { cause });
  });
  if (found.length > 0)
    throw new Failure(`${folder} is not empty (${found.slice(0, 3).join(", ")}…); give an empty or new folder with --dir`, EXIT.error);
}

function nextSteps(name: string, folder: string): string {
  const fromCheckout = existsSync(join(CHECKOUT, "kite/src/index.ts"));
  return `
  cd ${shown(folder)}
${fromCheckout ? FROM_CHECKOUT : "  npm install"}
  npm test
  npm start                        # in the mesh of your kite.key
  ${fromCheckout ? `npx --prefix ${CHECKOUT} kite` : "kite"} call ${name} greet world`;
}

// Both src/ and dist/ of this command are three folders below; what npm installed has no library's sources there.
const CHECKOUT = resolve(import.meta.dirname, "../../..");

/** A registry may not have the library of a checkout: it is packed, and goes with the kite into its container. */
const FROM_CHECKOUT = `  npm --prefix ${CHECKOUT} run build
  npm pack ${join(CHECKOUT, "kite")}      # the library of this checkout
  npm install ./kite-mesh-kite-${VERSION}.tgz`;

function shown(folder: string): string {
  const path = relative(process.cwd(), folder);
  if (path === "") return ".";
  return path.startsWith("..") ? folder : path;
}

/** `image-store` → `ImageStore` */
function pascal(name: string): string {
  return name.replaceAll(/(?:^|-)(\w)/g, (_, letter: string) => letter.toUpperCase());
}
