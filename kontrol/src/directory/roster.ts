import type { TeamRole } from "../contract.ts";
import type { MemberRecord } from "../database/record.ts";

/** Which teams there are and who is in them, both ways round. */
export class Roster {
  readonly #members = new Map<string, Map<string, TeamRole>>();
  readonly #teamsOf = new Map<string, Set<string>>();

  /** Undefined when there is no such team. */
  members(team: string): ReadonlyMap<string, TeamRole> | undefined {
    return this.#members.get(team);
  }

  teamsOf(username: string): ReadonlySet<string> {
    return this.#teamsOf.get(username) ?? NONE;
  }

  teams(): Iterable<string> {
    return this.#members.keys();
  }

  create(team: string): void {
    if (!this.#members.has(team)) this.#members.set(team, new Map());
  }

  remove(team: string): void {
    for (const username of [...(this.#members.get(team)?.keys() ?? [])]) this.leave(team, username);
    this.#members.delete(team);
  }

  /** Adds somebody, or changes the role. */
  enter({ team, username, role }: MemberRecord): void {
    const members = this.#members.get(team);
    if (members === undefined) return;
    members.set(username, role);
    const teams = this.#teamsOf.get(username);
    if (teams === undefined) this.#teamsOf.set(username, new Set([team]));
    else teams.add(team);
  }

  leave(team: string, username: string): void {
    this.#members.get(team)?.delete(username);
    const teams = this.#teamsOf.get(username);
    teams?.delete(team);
    if (teams?.size === 0) this.#teamsOf.delete(username);
  }

  /** Takes somebody out of every team. */
  forget(username: string): void {
    for (const team of [...this.teamsOf(username)]) this.leave(team, username);
  }

  clear(): void {
    this.#members.clear();
    this.#teamsOf.clear();
  }
}

const NONE: ReadonlySet<string> = new Set();
