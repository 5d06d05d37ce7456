import { createHash, randomBytes } from "node:crypto";
import type { Database } from "./database.ts";

/** A secret to hand out, and when it ends, in milliseconds since the epoch. Only its hash is kept. */
export interface Handout {
  readonly secret: string;
  readonly expiresAt: number;
}

/** What a one-time link is good for: nothing any more, or to sign somebody in. */
export type LinkState =
  | { readonly usable: true; readonly username: string }
  | { readonly usable: false; readonly why: "unknown" | "expired" | "used" };

/** Makes the secret of a one-time sign-in link. The database never sees it, so that a stolen copy signs nobody in. */
export async function createSignInLink(database: Database, username: string, now: Date): Promise<Handout> {
  const expiresAt = now.getTime() + LINK_MS;
  const secret = newSecret();
  await database.query("insert into gateway.sign_in_links (hash, username, expires_at) values ($1, $2, $3)", [
    hashOf(secret),
    username,
    new Date(expiresAt),
  ]);
  return { secret, expiresAt };
}

/** Looks at a link without using it up: programs that preview links may look as often as they like. */
export async function lookAtLink(database: Database, secret: string, now: Date): Promise<LinkState> {
  const { rows } = await database.query<LinkRow>("select username, expires_at, used_at from gateway.sign_in_links where hash = $1", [
    hashOf(secret),
  ]);
  const [link] = rows;
  if (link === undefined) return { usable: false, why: "unknown" };
  if (link.used_at !== null) return { usable: false, why: "used" };
  if (link.expires_at <= now) return { usable: false, why: "expired" };
  return { usable: true, username: link.username };
}

/** Uses a link up. Of two that try at once, one gets the name; undefined means that the link is good for nothing. */
export async function takeLink(database: Database, secret: string, now: Date): Promise<string | undefined> {
  const { rows } = await database.query<{ username: string }>(TAKE_LINK, [hashOf(secret), now]);
  return rows[0]?.username;
}

/** Begins a browser's session; its secret is the cookie. */
export async function openWebSession(database: Database, username: string, now: Date): Promise<Handout> {
  const secret = newSecret();
  const values = [hashOf(secret), username, now, new Date(now.getTime() + IDLE_MS)];
  await database.query("insert into gateway.web_sessions (hash, username, created_at, expires_at) values ($1, $2, $3, $4)", values);
  return { secret, expiresAt: now.getTime() + ABSOLUTE_MS };
}

/** Whose session it is, if it has not ended. Looking keeps it alive, up to its absolute end. */
export async function findWebSession(database: Database, secret: string, now: Date): Promise<string | undefined> {
  const hash = hashOf(secret);
  const { rows } = await database.query<{ username: string; expires_at: Date }>(FIND_SESSION, [hash, now]);
  const [session] = rows;
  if (session === undefined) return undefined;
  // Once in a while is enough; a write for every request would make looking expensive.
  if (session.expires_at.getTime() - now.getTime() < IDLE_MS - EXTEND_AFTER_MS) {
    await database.query(EXTEND_SESSION, [hash, new Date(now.getTime() + IDLE_MS), ABSOLUTE_MS]);
  }
  return session.username;
}

export async function endWebSession(database: Database, secret: string): Promise<void> {
  await database.query("delete from gateway.web_sessions where hash = $1", [hashOf(secret)]);
}

/** Ends all sessions of a person and makes open links to their account useless; returns how many sessions there were. */
export async function endWebSessionsOf(database: Database, username: string): Promise<number> {
  await database.query("delete from gateway.sign_in_links where username = $1", [username]);
  return (await database.query("delete from gateway.web_sessions where username = $1", [username])).rowCount ?? 0;
}

/** Removes what ended. Links stay for another day, so that a late visitor reads "used" or "expired", not "unknown". */
export async function pruneSignOn(database: Database, now: Date): Promise<void> {
  await database.query("delete from gateway.sign_in_links where expires_at < $1", [new Date(now.getTime() - DAY_MS)]);
  await database.query("delete from gateway.web_sessions where expires_at < $1", [now]);
}

const DAY_MS = 86_400_000;
// Long enough to fetch a link from one's mail, short enough that one found in a history is worthless.
const LINK_MS = 10 * 60_000;
// A working day with a long break; whoever is away for a night signs in again.
const IDLE_MS = DAY_MS / 2;
const EXTEND_AFTER_MS = 10 * 60_000;
// However busy a session is, a stolen cookie ends within a week.
const ABSOLUTE_MS = 7 * DAY_MS;
const SECRET_BYTES = 32;

const TAKE_LINK = `
  update gateway.sign_in_links set used_at = $2
  where hash = $1 and used_at is null and expires_at > $2
  returning username`;

const FIND_SESSION = "select username, expires_at from gateway.web_sessions where hash = $1 and expires_at > $2";

const EXTEND_SESSION = `
  update gateway.web_sessions set expires_at = least($2, created_at + $3 * interval '1 ms')
  where hash = $1`;

interface LinkRow {
  username: string;
  expires_at: Date;
  used_at: Date | null;
}

function newSecret(): string {
  return randomBytes(SECRET_BYTES).toString("base64url");
}

function hashOf(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}
