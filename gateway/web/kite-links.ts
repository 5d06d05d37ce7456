import type { DirectoryKite, Remote } from "@kite-mesh/kite/browser/registry";

/** A share in a connection to a kite. Whoever opened it closes it. */
export interface KiteLink<Contract> {
  readonly remote: Remote<Contract>;
  close(): void;
}

interface Shared {
  readonly entry: DirectoryKite;
  readonly remote: Promise<AsyncDisposable>;
  users: number;
}

/** One connection to each kite, however many views use it; it ends with the last of them. */
export class KiteLinks {
  readonly #connect: (id: string) => Promise<AsyncDisposable>;
  readonly #open = new Map<string, Shared>();

  constructor(connect: (id: string) => Promise<AsyncDisposable>) {
    this.#connect = connect;
  }

  async open<Contract>(entry: DirectoryKite): Promise<KiteLink<Contract>> {
    const { id } = entry.kite;
    const shared = this.#open.get(id) ?? { entry, remote: this.#connect(id), users: 0 };
    this.#open.set(id, shared);
    shared.users++;
    let closed = false;
    const close = () => {
      if (closed) return;
      closed = true;
      shared.users--;
      if (shared.users === 0) this.#end(shared);
    };
    try {
      // What a kite serves follows from its name, and nobody here takes a klient for a kloud.
      return { remote: (await shared.remote) as Remote<Contract>, close };
    } catch (error) {
      close();
      throw error;
    }
  }

  /**
   * A kite is in the directory. A connection to the one that ran in its place before can only be waiting for what will not
   * come back: it ends now, and who used it looks for the new one.
   */
  noticed(entry: DirectoryKite): void {
    for (const shared of this.#open.values()) if (replaces(entry, shared.entry)) this.#end(shared);
  }

  #end(shared: Shared): void {
    const { id } = shared.entry.kite;
    if (this.#open.get(id) === shared) this.#open.delete(id);
    // A connection that never stood needs no end.
    shared.remote.then((remote) => remote[Symbol.asyncDispose]()).catch(() => undefined);
  }
}

/** The same kite in another life: all names but the id agree, the version aside, which an upgrade changes. */
function replaces(next: DirectoryKite, before: DirectoryKite): boolean {
  const same = (["username", "environment", "name", "region", "hostname"] as const).every(
    (field) => next.kite[field] === before.kite[field],
  );
  return same && next.kite.id !== before.kite.id && next.registeredAt > before.registeredAt;
}
