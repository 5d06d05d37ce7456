import { type Call, method } from "@kite-mesh/kite";
import type { Team, TeamSummary } from "../contract.ts";
import type { Actor } from "../database/audit.ts";
import type { Log } from "../database/log.ts";
import type { Directory } from "../directory/directory.ts";
import type { Follower } from "../directory/follower.ts";
import type { EntryGuard } from "../entry/entry-guard.ts";
import * as schemas from "../schemas.ts";
import { noTeam } from "./grants.ts";
import { addMember, createTeam, removeMember, removeTeam } from "./teams.ts";

export interface TeamServices {
  readonly log: Log;
  readonly directory: Directory;
  readonly follower: Follower;
  readonly guard: EntryGuard;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
}

/** `teams` of the contract: questions are answered from memory, changes when the directory has them. */
export function teamMethods({ log, directory, follower, guard, now }: TeamServices) {
  const written = async <T>(writing: Promise<{ result: T; revision: number }>): Promise<T> => {
    const { result, revision } = await writing;
    await follower.reached(revision);
    return result;
  };
  return {
    list: method({ role: "viewer" }, ({ caller }) => listTeams(directory, actor(caller))),
    get: method({ role: "viewer", input: schemas.team }, ({ name }, { caller }) => getTeam(directory, name, actor(caller))),
    create: method({ role: "viewer", input: schemas.newTeam }, (team, { caller }) => written(createTeam(log, team, actor(caller)))),
    remove: method({ role: "viewer", input: schemas.team }, ({ name }, { caller }) => written(removeTeam(log, name, actor(caller), now))),
    add: method({ role: "viewer", input: schemas.newMember }, (member, { caller }) => {
      guard.spend("membersPerAccount", caller.username);
      return written(addMember(log, member, actor(caller)));
    }),
    removeMember: method({ role: "viewer", input: schemas.member }, (member, { caller }) =>
      written(removeMember(log, member, actor(caller), now)),
    ),
  };
}

/** Who calls, as it is remembered: at kontrol administrators are owners. */
export function actor({ username, role }: Call["caller"]): Actor {
  return { username, admin: role === "owner" };
}

function listTeams(directory: Directory, { username, admin }: Actor): TeamSummary[] {
  const names = [...(admin ? directory.teams() : directory.teamsOf(username))].sort();
  return names.map((name) => {
    const members = directory.members(name);
    return { name, members: members?.size ?? 0, role: members?.get(username) ?? null };
  });
}

function getTeam(directory: Directory, name: string, { username, admin }: Actor): Team {
  const members = directory.members(name);
  if (members === undefined || (!admin && !members.has(username))) throw noTeam(name);
  const sorted = [...members].sort(([one], [other]) => (one < other ? -1 : 1));
  return { name, members: sorted.map(([username, role]) => ({ username, role })) };
}
