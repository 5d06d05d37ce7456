import type { Query, Register } from "@kite-mesh/kite";
import { z } from "zod";
import { MAX_JOIN_TTL_MS } from "./join-tokens.ts";

// What a caller may send to kontrol, and how much of it. kite itself checks what a path and a version may contain.

const field = z.string().max(253);
const optional = field.optional();
const names = {
  username: optional,
  environment: optional,
  name: optional,
  version: z.string().max(256).optional(),
  region: optional,
  hostname: optional,
  id: optional,
};

/** Unknown keys are refused: a misspelt one would match everything. */
const query = z.strictObject(names).transform(withoutUndefined) as unknown as z.ZodType<Query, Query>;

const identity = z.object({ username: field, environment: field, name: field, version: field, region: field, hostname: field, id: field });
const labels = z.record(z.string().min(1).max(63), z.string().max(255)).refine((all) => Object.keys(all).length <= 32, "at most 32 labels");

export const register = z
  .object({
    kite: identity,
    url: z
      .string()
      .max(2_048)
      .refine(isKiteUrl, 'expected where the kite is dialled, such as "http://10.0.0.7:3636", without a password')
      .optional(),
    onLink: z.custom<NonNullable<Register["onLink"]>>((value) => typeof value === "function", "expected a function").optional(),
    visibility: z.enum(["private", "mesh"]).optional(),
    labels: labels.optional(),
  })
  .transform(withoutUndefined) as unknown as z.ZodType<Register, Register>;

/** Names that would be mistaken for somebody who showed no credential, or for kontrol itself, are nobody's. */
const newUsername = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, "expected letters, digits, dots, dashes and underscores, at most 128")
  .refine((name) => !["anonymous", "kontrol"].includes(name.toLowerCase()), "this username is reserved");

const username = z.string().min(1).max(253);
const external = z.object({ issuer: z.string().min(1).max(512), subject: z.string().min(1).max(512) });
export const newPerson = z
  .object({
    username: newUsername,
    name: z.string().max(256).optional(),
    email: z.string().max(320).optional(),
    external: external.optional(),
  })
  .transform(withoutUndefined);
export const whom = z.union([z.strictObject({ username }), z.strictObject({ external })]);
const role = z.enum(["viewer", "operator", "owner"]);
export const newGrant = z.object({ username, role, query, expiresAt: z.number().int().positive().optional() });
export const id = z.object({ id: z.string().min(1).max(253) });
export const joinToken = z.object({ joinToken: z.string().min(1).max(256) });
export const newJoinToken = z.object({
  username,
  purpose: z.string().min(1).max(256),
  ttlMs: z.number().int().min(1_000).max(MAX_JOIN_TTL_MS).optional(),
});
export const named = z.object({ username });
export const queried = z.object({ query });
export const watched = z.object({ query, since: z.string().max(32).optional() });
export const jti = z.object({ jti: z.string().min(1).max(64) });

function isKiteUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password } = new URL(text);
  return /^(https?|wss?):$/.test(protocol) && username === "" && password === "";
}

/** Optional fields that are there as undefined are left out, as the types of the contract have it. */
function withoutUndefined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
