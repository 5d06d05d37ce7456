import { access, readdir } from "node:fs/promises";
import { join } from "node:path";
import { KiteError } from "@kite-mesh/kite";

/**
 * The paths that match a pattern, sorted: `*`, `?` and `[a-z]` within a name, `**` for any number of folders. As in a
 * shell, a name that begins with a dot is matched only by a pattern that does. Folders that cannot be read have no matches.
 */
export async function globPaths(pattern: string, signal: AbortSignal): Promise<string[]> {
  const found: string[] = [];
  // "**" twice in a row says no more than once, and would be walked twice.
  const steps = pattern.split("/").filter((step, index, all) => step !== "" && !(step === "**" && all[index - 1] === "**"));
  await expand("/", steps, (path) => {
    signal.throwIfAborted();
    if (found.length >= MAX_MATCHES)
      throw new KiteError("limit_exceeded", `${pattern} matches more than ${MAX_MATCHES} paths; make it narrower`);
    found.push(path);
  });
  return [...new Set(found)].sort();
}

async function expand(folder: string, steps: readonly string[], match: (path: string) => void): Promise<void> {
  const [step, ...rest] = steps;
  if (step === undefined) return match(folder);
  if (step === "**") return expandDeep(folder, rest, match);
  if (!/[*?[\\]/.test(step)) {
    const path = join(folder, step);
    if (await exists(path)) await expand(path, rest, match);
    return;
  }
  const fits = nameMatcher(step);
  for (const entry of await entriesOf(folder)) {
    const path = join(folder, entry.name);
    if (fits(entry.name) && (rest.length === 0 || !entry.isFile())) await expand(path, rest, match);
  }
}

async function expandDeep(folder: string, rest: readonly string[], match: (path: string) => void): Promise<void> {
  if (rest.length > 0) await expand(folder, rest, match);
  for (const entry of await entriesOf(folder)) {
    if (entry.name.startsWith(".")) continue;
    const path = join(folder, entry.name);
    if (rest.length === 0) match(path);
    // Not through symbolic links: they may lead back.
    if (entry.isDirectory()) await expandDeep(path, rest, match);
  }
}

type Part = "any" | ((character: string) => boolean);

/** No regular expression for the whole: with many stars it would try every way to cut a name, which takes longer than a day. */
function nameMatcher(step: string): (name: string) => boolean {
  const parts = partsOf(step);
  return (name) => (step.startsWith(".") || !name.startsWith(".")) && matches([...name], parts);
}

/** Only the last star that was passed is ever tried again, which is enough: what is before it fits already. */
function matches(name: readonly string[], parts: readonly Part[]): boolean {
  let [at, part, star, resume] = [0, 0, -1, 0];
  while (at < name.length) {
    const wanted = parts[part];
    if (wanted === "any") {
      star = part++;
      resume = at;
    } else if (wanted?.(name[at] as string)) {
      at++;
      part++;
    } else if (star < 0) return false;
    else {
      at = ++resume;
      part = star + 1;
    }
  }
  return parts.slice(part).every((left) => left === "any");
}

function partsOf(step: string): Part[] {
  const characters = [...step];
  const parts: Part[] = [];
  for (let index = 0; index < characters.length; index++) {
    const character = characters[index] as string;
    const end = character === "[" ? characters.indexOf("]", index + 2) : -1;
    if (character === "*") parts.push("any");
    else if (character === "?") parts.push(() => true);
    else if (end > 0) {
      const range = characters.slice(index + 1, end).join("");
      const expression = compile(`[${range.replace(/^!/, "^").replace(/[\\[]/g, "\\$&")}]`, step);
      parts.push((one) => expression.test(one));
      index = end;
    } else {
      if (character === "\\") index++;
      const literal = characters[index] ?? "\\";
      parts.push((one) => one === literal);
    }
  }
  return parts;
}

function compile(source: string, step: string): RegExp {
  try {
    return new RegExp(`^${source}$`, "su");
  } catch (cause) {
    throw new KiteError("invalid_argument", `the pattern ${step} cannot be read; a range goes from low to high, as in [a-z]`, { cause });
  }
}

async function entriesOf(folder: string) {
  return readdir(folder, { withFileTypes: true }).catch(() => []);
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

const MAX_MATCHES = 10_000;
