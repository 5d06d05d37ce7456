import {
  type Call,
  type Caller,
  type CallSession,
  type ContractOf,
  describeIssues,
  KiteError,
  type Logger,
  type Method,
  type Methods,
  method,
  type Schema,
} from "@kite-mesh/kite";
import { z } from "zod";
import { ask } from "./database/connection.ts";
import type { MeshUse } from "./database/database.ts";
import { EntryGuard } from "./entry/entry-guard.ts";
import { Passwords } from "./entry/passwords.ts";
import { type Closers, NAME, openMemory, TOKEN_TTL_MS } from "./kontrol.ts";
import { type Administered, administrationMethods, describeGrant, giveGrant } from "./methods.ts";
import { ensureAccount } from "./people/people.ts";
import { silenceOf } from "./presence/replicas.ts";
import * as schemas from "./schemas.ts";
import { Tokens } from "./trust/tokens.ts";

export interface AdministrationOptions {
  readonly databaseUrl: string;
  readonly log: Logger;
  /** Who does it, for the audit log. */
  readonly actor: string;
  /** Where kite.keys send their bearers, in place of where the kontrol that runs is. */
  readonly publicUrl?: string | undefined;
  /** Where they send them while no kontrol runs; undefined when nobody can say. */
  readonly likelyUrl: () => string | undefined;
  readonly tokenTtlMs?: number | undefined;
  readonly keyGraceMs?: number | undefined;
  readonly mesh: MeshUse;
}

/**
 * The mesh on its database alone, for whoever runs it: no port, no lease, and every kontrol that runs hears of a change
 * through the log. What is asked and what comes of it is checked by the methods that kontrol serves. Whoever opened it closes it.
 */
export interface Administration extends AsyncDisposable {
  readonly call: ContractOf<AdministratorsMethods>;
  /** The address that kite.keys made here name. */
  readonly keyUrl: string | undefined;
}

type AdministratorsMethods = ReturnType<typeof administratorsMethods>;

/**
 * Opens the database for one piece of administration.
 *
 * @throws {KiteError} `unavailable` when the database does not answer, `failed_precondition` when there is no mesh in it.
 */
export async function openAdministration(options: AdministrationOptions): Promise<Administration> {
  const opened: Closers = [];
  const close = async () => {
    for (const end of opened.splice(0).reverse()) await end();
  };
  try {
    const memory = await openMemory(options, opened);
    const { pool, keys, identity } = memory;
    const keyUrl = options.publicUrl ?? (await runningAt(pool, identity.id)) ?? options.likelyUrl();
    const kiteKeys = () => ({ keys, issuer: NAME, kontrolUrl: known(keyUrl), now: Date.now });
    const tokens = new Tokens({ ...memory, issuer: NAME, ttlMs: options.tokenTtlMs ?? TOKEN_TTL_MS, now: Date.now });
    const door = { guard: new EntryGuard(), passwords: new Passwords(pool, memory.log) };
    const methods = administratorsMethods({ ...memory, ...door, tokens, now: Date.now, kiteKeys });
    return { call: answeredHere(methods, options.actor), keyUrl, [Symbol.asyncDispose]: close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

/** What kontrol serves to administrators, and what only whoever runs it may do: nobody calls these over the network. */
function administratorsMethods(services: Administered) {
  const { directory, follower, log } = services;
  const served = administrationMethods(services);
  return {
    ...served,
    accounts: {
      /** Makes an account of a kind that `people.create` does not make, or an administrator of a person. */
      ensure: method({ input: newAccount }, async ({ demote = false, ...account }, { caller }) => {
        const { username, kind } = account;
        const before = directory.account(username);
        if (before?.state === "removed") throw new KiteError("failed_precondition", `"${username}" was removed, and does not come back`);
        if (before !== undefined && before.kind !== kind)
          throw new KiteError("already_exists", `there is a ${before.kind} called "${username}" already; choose another name`);
        if (before?.admin && !account.admin && !demote) {
          throw new KiteError(
            "failed_precondition",
            `"${username}" is an administrator, and is left one: say so with --admin, or take that away with --no-admin`,
          );
        }
        const { revision } = await ensureAccount(log, account, { by: caller.username });
        await follower.reached(revision);
        return { changed: before === undefined || before.admin !== account.admin };
      }),
    },
    grants: {
      ...served.grants,
      all: method({}, () => [...directory.grants()].map(describeGrant)),
      give: method({ input: [schemas.username, schemas.newGrant] }, (owner, grant, { caller }) => {
        if (directory.account(owner)?.state !== "active") throw new KiteError("not_found", `there is nobody called "${owner}"`);
        return giveGrant(grant, { username: owner, admin: true }, services, caller.username);
      }),
    },
  };
}

const newAccount = z.object({
  // Also the names of the mesh's own services, which no person may have.
  username: schemas.accountName,
  kind: z.enum(["person", "service"]),
  admin: z.boolean(),
  /** Who is an administrator may cease to be one by this. */
  demote: z.boolean().optional(),
  name: z.string().max(256).optional(),
});

// A kontrol that runs has written its beat within the last minute, or within two of its own.
const RUNNING = `
  select k.url from kontrol.kites k join kontrol.replicas r on r.id = k.holder
   where k.id = $1 and k.gone_at is null and r.beat_at > now() - ${silenceOf("r", "30000")}`;

/** Where the kontrol that runs on this database says that it is. */
async function runningAt(pool: Administered["pool"], id: string): Promise<string | undefined> {
  return (await ask<{ url: string }>(pool, RUNNING, [id])).rows[0]?.url;
}

function known(url: string | undefined): string {
  if (url !== undefined) return url;
  throw new KiteError(
    "failed_precondition",
    "no kontrol runs, and its port is left to chance: set KONTROL_URL to the address that the kite.key is to name",
  );
}

/** Makes methods into functions of this process: their input is checked as for a caller, and the caller is its owner. */
function answeredHere<const M extends Methods>(methods: M, actor: string): ContractOf<M> {
  const caller: Caller = {
    username: actor,
    role: "owner",
    kite: undefined,
    expiresAt: undefined,
    methods: undefined,
    credential: undefined,
  };
  const here = (tree: Methods, prefix: string): object =>
    Object.fromEntries(
      Object.entries(tree).map(([name, entry]) => [
        name,
        isMethod(entry)
          ? (...args: unknown[]) => answer(entry, args, { ...CALL, method: prefix + name, caller })
          : here(entry as Methods, `${prefix}${name}.`),
      ]),
    );
  return here(methods, "") as ContractOf<M>;
}

async function answer({ options: { input = [] }, handler }: Method, args: readonly unknown[], call: Call): Promise<unknown> {
  const expected: readonly Schema[] = Array.isArray(input) ? input : [input];
  const values = await Promise.all(
    expected.map(async (schema, index) => {
      const result = await schema["~standard"].validate(args[index]);
      if (result.issues === undefined) return result.value;
      throw new KiteError("invalid_argument", describeIssues(result.issues));
    }),
  );
  return (handler as (...args: unknown[]) => unknown)(...values, call);
}

function isMethod(entry: Methods[string]): entry is Method {
  return typeof (entry as Method).handler === "function";
}

const NOBODY = () => Promise.reject(new KiteError("failed_precondition", "nobody called this who could be called back"));
const SESSION: CallSession = {
  id: "here",
  state: "open",
  remoteAddress: undefined,
  closed: new AbortController().signal,
  call: NOBODY,
  notify: () => {},
  onState: () => () => {},
};
// The wait is the database's, which has limits of its own.
const CALL: Omit<Call, "method" | "caller"> = {
  signal: new AbortController().signal,
  remainingMs: 60_000,
  meta: {},
  session: SESSION,
};
