import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { DirectoryKite, Query } from "@kite-mesh/kite";
import type { MeshPlace } from "./mesh.ts";

/** What `kite list` was answered once; `asOf` is in milliseconds since the epoch. */
export interface KeptList {
  readonly asOf: number;
  readonly kites: readonly DirectoryKite[];
}

interface KeptFile {
  readonly kontrolUrl: string;
  readonly username: string;
  /** By the query, the oldest first. */
  readonly answers: Readonly<Record<string, KeptList>>;
}

// Beside the kite.key: who may read that may know this, and nobody else.
const FILE = "list.json";
// A person has a few questions; a script with many needs no memory of ours.
const MOST_ANSWERS = 16;
// A thousand kites have about 300 KB; a larger answer is not worth a write with each command.
const MOST_BYTES = 4 * 1024 * 1024;

/** Keeps an answer in the home folder, without credentials. A folder that cannot be written keeps nothing, and that is no failure. */
export async function keepList(place: MeshPlace, query: Query, kites: readonly DirectoryKite[]): Promise<void> {
  const before = await readKept(place);
  const key = JSON.stringify(query);
  const others = Object.entries(before).filter(([other]) => other !== key);
  const answers = Object.fromEntries([...others.slice(1 - MOST_ANSWERS), [key, { asOf: Date.now(), kites: kites.map(withoutMore) }]]);
  const text = JSON.stringify({ kontrolUrl: place.kontrolUrl, username: place.username, answers } satisfies KeptFile);
  if (text.length > MOST_BYTES) return;
  const path = join(place.home, FILE);
  const temporary = `${path}.${process.pid}`;
  try {
    // A file of its own first: of two commands at once the later one counts, and nobody reads half of one.
    // Made here: one that lies there already, or a link that does, is not written through.
    await writeFile(temporary, text, { mode: 0o600, flag: "wx" });
    await rename(temporary, path);
  } catch {
    await rm(temporary, { force: true }).catch(() => {});
  }
}

/** The last answer to this query, or what of the answer to all kites it means; undefined when neither was asked for. */
export async function keptList(place: MeshPlace, query: Query): Promise<KeptList | undefined> {
  const answers = await readKept(place);
  const own = answers[JSON.stringify(query)];
  const all = answers["{}"];
  if (all === undefined || (own !== undefined && own.asOf >= all.asOf)) return own;
  const { matcher } = await import("@kite-mesh/kite");
  const means = matcher(query);
  return { asOf: all.asOf, kites: all.kites.filter(({ kite, labels }) => means(kite, labels)) };
}

/** Nothing for a file that is not there, is not ours to read, or is about another mesh or person. */
async function readKept({ home, kontrolUrl, username }: MeshPlace): Promise<KeptFile["answers"]> {
  try {
    const kept = JSON.parse(await readFile(join(home, FILE), "utf8")) as KeptFile;
    if (kept.kontrolUrl !== kontrolUrl || kept.username !== username) return {};
    return Object.fromEntries(Object.entries(kept.answers).filter(([, { asOf, kites }]) => Number.isFinite(asOf) && Array.isArray(kites)));
  } catch {
    return {};
  }
}

/** By name, so that nothing comes along that kontrol may say one day, such as a token. */
function withoutMore({ kite, url, visibility, labels, role, registeredAt }: DirectoryKite): DirectoryKite {
  const { username, environment, name, version, region, hostname, id } = kite;
  return { kite: { username, environment, name, version, region, hostname, id }, url, visibility, labels, role, registeredAt };
}
