import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** A file that a template makes, by its path in the new folder. */
export interface TemplateFile {
  readonly path: string;
  readonly content: string;
}

/** What stands for `{{name}}` and the others in a template; `NAME` in the name of a file is the name, too. */
export interface TemplateValues {
  readonly name: string;
  readonly contract: string;
  readonly version: string;
}

/** The templates that ship with this package. Beside the sources and beside what is built from them alike. */
const TEMPLATES = fileURLToPath(new URL("../templates/", import.meta.url));

// Keeps a template's files from being taken for files of this repository, by npm as by the tests; dots would be lost in npm's tarball.
const SUFFIX = ".template";
const DOTFILES = ["gitignore", "dockerignore"];

export async function templateNames(): Promise<string[]> {
  const entries = await readdir(TEMPLATES, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}

/** The files of a template, filled in, in the order of their paths. */
export async function readTemplate(template: string, values: TemplateValues): Promise<TemplateFile[]> {
  const folder = join(TEMPLATES, template);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile() && entry.name.endsWith(SUFFIX)).map((entry) => join(entry.parentPath, entry.name));
  return Promise.all(
    paths.sort().map(async (path) => ({
      path: pathInKite(relative(folder, path), values),
      content: fill(await readFile(path, "utf8"), values),
    })),
  );
}

/**
 * Puts values for `{{…}}`.
 *
 * @throws {Error} for a placeholder that nobody knows, which would be a mistake in the template.
 */
export function fill(text: string, values: TemplateValues): string {
  return text.replaceAll(/\{\{(\w+)\}\}/g, (_, key: string) => {
    const value = (values as unknown as Record<string, string | undefined>)[key];
    if (value === undefined) throw new Error(`the template has a placeholder ${key}, which nothing stands for`);
    return value;
  });
}

function pathInKite(path: string, { name }: TemplateValues): string {
  const plain = path.slice(0, -SUFFIX.length).replaceAll("NAME", name);
  return DOTFILES.includes(plain) ? `.${plain}` : plain;
}
