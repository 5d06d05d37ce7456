import type { DirectoryKite, Identity, WatchEvent } from "@kite-mesh/kite/browser/registry";

/** The kites that the person may see, by id. */
export type Directory = ReadonlyMap<string, DirectoryKite>;

/** The directory after one event of kontrol's watch. */
export function applyWatchEvent(directory: Directory, event: WatchEvent): Directory {
  switch (event.type) {
    case "snapshot":
      return new Map(event.kites.map((entry) => [entry.kite.id, entry]));
    case "registered":
      return new Map(directory).set(event.kite.kite.id, event.kite);
    case "gone": {
      const next = new Map(directory);
      next.delete(event.kite.id);
      return next;
    }
  }
}

/** Those that contain every word of the filter somewhere in their path, address or labels; sorted as people look for them. */
export function selectKites(directory: Directory, filter: string): DirectoryKite[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return [...directory.values()]
    .filter((entry) => {
      const text = searchText(entry);
      return words.every((word) => text.includes(word));
    })
    .sort(byNameThenOwner);
}

/** How callers reach a kite: at its own address, or through kontrol's relay because it cannot be dialled. */
export function reachOf(entry: DirectoryKite): { relayed: boolean; text: string } {
  const relayed = entry.url.replace(/\/+$/, "").endsWith(`/relay/${entry.kite.id}`);
  return { relayed, text: relayed ? "relay" : entry.url.replace(/^(?:ws|http)s?:\/\//, "").replace(/\/$/, "") };
}

/** The kite's path, as the `kite` command takes it. */
export function pathOf({ username, environment, name, version, region, hostname, id }: Identity): string {
  return `/${[username, environment, name, version, region, hostname, id].join("/")}`;
}

/** Enough of an id to tell neighbours apart. */
export function shortId(id: string): string {
  return id.slice(0, 8);
}

function searchText(entry: DirectoryKite): string {
  const labels = Object.entries(entry.labels).map(([name, value]) => `${name}=${value}`);
  return [pathOf(entry.kite), reachOf(entry).text, entry.visibility, ...labels].join(" ").toLowerCase();
}

function byNameThenOwner(a: DirectoryKite, b: DirectoryKite): number {
  for (const field of SORT_FIELDS) {
    const order = collator.compare(a.kite[field], b.kite[field]);
    if (order !== 0) return order;
  }
  return 0;
}

const SORT_FIELDS = ["name", "username", "hostname", "id"] as const;
// Made once: a collator per comparison would take most of the time of a long list.
const collator = new Intl.Collator(undefined, { numeric: true });
