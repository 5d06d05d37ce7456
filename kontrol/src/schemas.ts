import type { Identity, Query, Register, Schema, SchemaInput, SchemaOutput } from "@kite-mesh/kite";
import { z } from "zod";
import { MAX_JOIN_TTL_MS } from "./entry/join-tokens.ts";
import { deviceJoin, passwordJoin } from "./entry/login-schemas.ts";
import type { WatchCallback } from "./older/older-watches.ts";
import { looksLikeOneOf, USERNAME } from "./people/usernames.ts";
import { MAX_LABELS } from "./presence/registrar.ts";
import { ALGORITHMS } from "./trust/signing-keys.ts";

// What a caller may send to kontrol, and how much of it. kite itself checks what a path and a version may contain.

/** A NUL and half of a character are text to JavaScript and none to PostgreSQL: one would fail everything that is written with it. */
const text = z.string().regex(/^[^\0\p{Cs}]*$/u, "expected text without NUL and without halves of characters");
const field = text.max(253);
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

const expressions = z.array(z.string().max(320)).max(16).optional();
/** Unknown keys are refused: a misspelt one would match everything. */
const query = z.strictObject({ ...names, labels: expressions }).transform(withoutUndefined) as unknown as z.ZodType<Query, Query>;
/** Without labels: they change without a word, and what a grant gives must not. */
const granted = z.strictObject(names).transform(withoutUndefined) as unknown as z.ZodType<Query, Query>;

const identity = z.object({ username: field, environment: field, name: field, version: field, region: field, hostname: field, id: field });
const labelName = z.string().regex(/^[A-Za-z0-9][\w./-]{0,62}$/, "expected a name of letters, digits, and . _ / -, at most 63");
const labelValue = text.max(255);
const fewLabels = (all: object) => Object.keys(all).length <= MAX_LABELS;
const labels = z.record(labelName, labelValue).refine(fewLabels, `at most ${MAX_LABELS} labels`);
export const labelChange = z.object({
  labels: z.record(labelName, labelValue.nullable()).refine((all) => Object.keys(all).length <= 2 * MAX_LABELS, "too many labels at once"),
});

const url = text.max(2_048).refine(isKiteUrl, 'expected where the kite is dialled, such as "http://10.0.0.7:3636", without a password');

const ownRegister = z
  .object({
    kite: identity,
    url: url.optional(),
    onLink: z.custom<NonNullable<Register["onLink"]>>((value) => typeof value === "function", "expected a function").optional(),
    visibility: z.enum(["private", "mesh"]).optional(),
    labels: labels.optional(),
    instance: text.min(1).max(64).optional(),
    again: z.boolean().optional(),
  })
  .transform(withoutUndefined) as unknown as z.ZodType<Register, Register>;

const NOBODY = ["anonymous", "kontrol"];
const SERVICES = ["kloud", "gateway", "klient"];
/** Names that would be mistaken for somebody who showed no credential, or for kontrol itself, are nobody's. */
export const accountName = z
  .string()
  .regex(USERNAME, "expected letters, digits, dots, dashes and underscores, at most 128")
  .refine((name) => !looksLikeOneOf(name, NOBODY), "this username is reserved");
/** Nor is a person called like a service of the mesh. */
const newUsername = accountName.refine((name) => !looksLikeOneOf(name, SERVICES), "this username is reserved");

export const username = text.min(1).max(253);
const external = z.object({ issuer: text.min(1).max(512), subject: text.min(1).max(512) });
export const newPerson = z
  .object({
    username: newUsername,
    name: text.max(256).optional(),
    email: text.max(320).optional(),
    external: external.optional(),
  })
  .transform(withoutUndefined);
export const whom = z.union([z.strictObject({ username }), z.strictObject({ external })]);

// What gives something, and under which terms, is taken word by word here: an `expires` or a `method` that was passed over would
// leave a grant without its end, and a token wider than was meant.

const role = z.enum(["viewer", "operator", "owner"]);
/** As in addresses, and small: two teams whose names look the same would be mistaken for one another. */
const newTeamName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, "expected small letters, digits, dots, dashes and underscores, at most 63");
const teamName = z.string().min(1).max(63);
const newGrantTerms = { role, query: granted, expiresAt: z.number().int().positive().optional() };
export const newGrant = either(
  has("team"),
  z.strictObject({ ...newGrantTerms, team: teamName }),
  z.strictObject({ ...newGrantTerms, username }),
);
export const newTeam = z.object({ name: newTeamName, maintainer: username.optional() });
export const team = z.object({ name: teamName });
export const newMember = z.object({ team: teamName, username, role: z.enum(["member", "maintainer"]).optional() });
export const member = z.object({ team: teamName, username });
export const id = z.object({ id: z.string().min(1).max(253) });
const ownJoinToken = z.object({ joinToken: z.string().min(1).max(256) });
export const newJoinToken = z.strictObject({
  username,
  purpose: text.min(1).max(256),
  ttlMs: z.number().int().min(1_000).max(MAX_JOIN_TTL_MS).optional(),
});
export const newKey = z.strictObject({ username, alg: z.enum(ALGORITHMS).optional() });
export const audited = z
  .strictObject({
    actor: username.optional(),
    action: z.string().max(64).optional(),
    subject: username.optional(),
    before: z.number().int().positive().optional(),
    limit: z.number().int().min(1).max(1_000).optional(),
  })
  .optional();
export const newSigningKey = z.object({ alg: z.enum(ALGORITHMS).optional() }).optional();
export const retiredKey = z.strictObject({ kid: z.string().min(1).max(128), now: z.boolean().optional() });
export const named = z.object({ username });
const methodName = z.string().min(1).max(128);
const methodNames = z.array(methodName).min(1).max(64);
export const onBehalf = z.strictObject({ username, methods: methodNames.optional() });
const ownQueried = z
  .strictObject({
    query,
    role: role.optional(),
    methods: methodNames.optional(),
    ttlMs: z.number().int().min(1_000).optional(),
    renew: z.boolean().optional(),
  })
  .transform(withoutUndefined);
export const queried = z.object({ query });
export const watched = z.object({ query, since: z.string().max(32).optional() });
export const issuedKeys = z
  .strictObject({ username: username.optional(), limit: z.number().int().min(1).max(1_000).optional() })
  .optional();
export const jti = z.object({ jti: z.string().min(1).max(64) });

// What kites in Go and of kite.js send instead. They send null for what they leave out, and more than is read here.

const callback = z.custom<WatchCallback>((value) => typeof value === "function", "expected a function").nullish();
export const olderGetKites = z.object({ query, known: z.string().max(64).nullish(), watchCallback: callback, watchHandler: callback });
const olderGetToken = z.object({ ...names, force: z.boolean().nullish() });
const olderRegister = z.object({ url });
/** What is not there is asked for in a call of its own. */
const olderRegisterMachine = z.object({
  authType: z.enum(["password", "token", "joinToken"]),
  username: optional.nullable(),
  token: z.string().max(256).nullish(),
});
export const watcherId = z.string().min(1).max(64);
export const httpRegister = z.object({
  url,
  kite: identity.extend({ username: optional.default("") }),
  auth: z.object({ type: z.string().max(64), key: z.string().max(8_192) }).optional(),
}) as unknown as z.ZodType<{ url: string; kite: Identity; auth?: { type: string; key: string } | undefined }>;

export const register = either(has("kite"), ownRegister, olderRegister);
export const getToken = either(has("query"), ownQueried, olderGetToken);
export const registerMachine = either(
  has("authType"),
  olderRegisterMachine,
  either(has("joinToken"), ownJoinToken, either(has("deviceCode"), deviceJoin, passwordJoin)),
);

/** Reads with the one schema or the other. A union would answer a mistake with the complaints of both. */
function either<A extends Schema, B extends Schema>(
  isFirst: (value: unknown) => boolean,
  first: A,
  second: B,
): Schema<SchemaInput<A> | SchemaInput<B>, SchemaOutput<A> | SchemaOutput<B>> {
  // The type of what a schema answers depends on it; one of the two is answered as it is.
  const pick = (value: unknown) => (isFirst(value) ? first : second)["~standard"].validate(value) as never;
  return Object.assign({ "~standard": { version: 1, vendor: "kontrol", validate: pick } } as const, { either: [first, second] });
}

function has(key: string): (value: unknown) => boolean {
  return (value) => typeof value === "object" && value !== null && key in value;
}

/** What kites can dial: WebSockets, and addresses on a NATS server. */
function isKiteUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password } = new URL(text);
  return /^(https?|wss?|nats):$/.test(protocol) && username === "" && password === "";
}

/** Optional fields that are there as undefined are left out, as the types of the contract have it. */
function withoutUndefined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
