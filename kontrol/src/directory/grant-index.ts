import type { GrantRecord } from "../database/record.ts";
import { type PreparedGrant, prepareGrant } from "./access.ts";

/** Grants by who gave and who got them: a question about one kite looks at few of them, however many there are. */
export class GrantIndex {
  readonly #all = new Map<string, PreparedGrant>();
  readonly #given = new Map<string, Map<string, Set<PreparedGrant>>>();

  get(id: string): PreparedGrant | undefined {
    return this.#all.get(id);
  }

  values(): Iterable<PreparedGrant> {
    return this.#all.values();
  }

  /** What an owner gave to somebody, or to a team that they are in. */
  *reaching(owner: string, username: string, teams: ReadonlySet<string>): Iterable<PreparedGrant> {
    const given = this.#given.get(owner);
    if (given === undefined) return;
    yield* given.get(receiver({ username })) ?? [];
    for (const team of teams) yield* given.get(receiver({ team })) ?? [];
  }

  add(grant: GrantRecord): void {
    this.remove(grant.id);
    const prepared = prepareGrant(grant);
    this.#all.set(grant.id, prepared);
    const given = this.#given.get(grant.owner) ?? new Map<string, Set<PreparedGrant>>();
    this.#given.set(grant.owner, given);
    const key = receiver(grant);
    const same = given.get(key);
    if (same === undefined) given.set(key, new Set([prepared]));
    else same.add(prepared);
  }

  remove(id: string): void {
    const grant = this.#all.get(id);
    if (grant === undefined) return;
    this.#all.delete(id);
    const given = this.#given.get(grant.owner);
    const same = given?.get(receiver(grant));
    same?.delete(grant);
    if (same?.size === 0) given?.delete(receiver(grant));
    if (given?.size === 0) this.#given.delete(grant.owner);
  }

  clear(): void {
    this.#all.clear();
    this.#given.clear();
  }
}

/** A team may be called like a person. */
function receiver({ username, team }: { username?: string | undefined; team?: string | undefined }): string {
  return team === undefined ? `person ${username}` : `team ${team}`;
}
