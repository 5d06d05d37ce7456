import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { KiteError } from "@kite-mesh/kite";
import type { Pool } from "pg";
import { audit } from "../database/audit.ts";
import { ask } from "../database/connection.ts";
import type { Log } from "../database/log.ts";

/** What one guess costs, as scrypt counts it. */
interface Cost {
  /** The logarithm of N. */
  readonly ln: number;
  readonly r: number;
  readonly p: number;
}

// One of OWASP's equal choices for scrypt (Password Storage Cheat Sheet: N=2^17 p=1, 2^16 p=2, 2^15 p=3 …): the one with
// 32 MiB, so that those that run side by side stay small beside the process. About a quarter of a second.
const COST: Cost = { ln: 15, r: 8, p: 3 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;
// Node has four threads for this, for name lookups and for files; two leave some to the others.
const SIDE_BY_SIDE = 2;
// Eight seconds of work. Who comes later is better told so than kept.
const MAX_WAITING = 64;

const OF = `
  select p.hash from kontrol.passwords p join kontrol.accounts a using (username)
   where username = $1 and a.state = 'active' and a.kind = 'person'`;
const PUT = `
  insert into kontrol.passwords (username, hash) values ($1, $2)
  on conflict (username) do update set hash = excluded.hash, changed_at = now()`;
const REMOVE = "delete from kontrol.passwords where username = $1";
const NOTE_WRONG = `
  insert into kontrol.audit (actor, action, subject, details)
  select 'kontrol', 'people.wrongPassword', $1, $2 where exists (select from kontrol.passwords where username = $1)`;
const ACTIVE = "select 1 from kontrol.accounts where username = $1 and state = 'active' and kind = 'person'";

/** The passwords of people who want one. Hashing happens beside the event loop, and no more of it at a time than the machine bears. */
export class Passwords {
  readonly #pool: Pool;
  readonly #log: Log;
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  readonly #cost: Cost;
  /** Stands in for the hash of somebody who is not there: the answer takes as long. */
  readonly #nobodys: string;

  /** `ln` is the logarithm of N for passwords that are set from now on. */
  constructor(pool: Pool, log: Log, ln: number = COST.ln) {
    this.#pool = pool;
    this.#log = log;
    this.#cost = { ...COST, ln };
    this.#nobodys = format(this.#cost, randomBytes(SALT_BYTES), randomBytes(HASH_BYTES));
  }

  async has(username: string): Promise<boolean> {
    return (await ask(this.#pool, OF, [username])).rows.length > 0;
  }

  /** Whether it is this person's password. False also for people without one or without access, and as late as for a wrong one. */
  async verify(username: string, password: string): Promise<boolean> {
    const [row] = (await ask<{ hash: string }>(this.#pool, OF, [username])).rows;
    const { cost, salt, hash } = parse(row?.hash ?? this.#nobodys);
    const shown = await this.#derive(password, salt, cost);
    return timingSafeEqual(shown, hash) && row !== undefined;
  }

  /**
   * Writes down that a password that there is was guessed wrongly; the limits keep that to a few rows for each person. Nobody
   * waits for it: it would tell who has a password. While the database is away nothing is written.
   */
  noteWrong(username: string, source: string): void {
    ask(this.#pool, NOTE_WRONG, [username, JSON.stringify({ source })]).catch(() => {});
  }

  /**
   * Sets somebody's password; null removes it.
   *
   * @throws {KiteError} `not_found` when there is no such active person.
   */
  async set(username: string, password: string | null, by: string): Promise<void> {
    const salt = randomBytes(SALT_BYTES);
    const hash = password === null ? undefined : format(this.#cost, salt, await this.#derive(password, salt, this.#cost));
    await this.#log.write(async (tx) => {
      const { rowCount } = await tx.query(ACTIVE, [username]);
      if (rowCount === 0) throw new KiteError("not_found", `there is no active person "${username}"`);
      if (hash === undefined) await tx.query(REMOVE, [username]);
      else await tx.query(PUT, [username, hash]);
      await audit(tx, by, hash === undefined ? "people.removePassword" : "people.setPassword", username);
    });
  }

  async #derive(password: string, salt: Buffer, cost: Cost): Promise<Buffer> {
    if (this.#running < SIDE_BY_SIDE) this.#running++;
    else await this.#turn();
    try {
      return await derive(password, salt, cost);
    } finally {
      const next = this.#waiting.shift();
      // The place goes to the next one without being free in between.
      if (next === undefined) this.#running--;
      else next();
    }
  }

  #turn(): Promise<void> {
    if (this.#waiting.length >= MAX_WAITING)
      throw new KiteError("overloaded", `${MAX_WAITING} passwords wait to be verified; try again in a moment`, {
        outcome: "not_run",
        details: { retryAfterMs: 1_000 },
      });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

function derive(password: string, salt: Buffer, { ln, r, p }: Cost): Promise<Buffer> {
  const cost = 2 ** ln;
  return new Promise((resolve, reject) => {
    // The same letters, however a keyboard composes them.
    const text = password.normalize("NFKC");
    scrypt(text, salt, HASH_BYTES, { cost, blockSize: r, parallelization: p, maxmem: 256 * cost * r }, (error, hash) =>
      error === null ? resolve(hash) : reject(error),
    );
  });
}

function format({ ln, r, p }: Cost, salt: Buffer, hash: Buffer): string {
  return `$scrypt$ln=${ln},r=${r},p=${p}$${salt.toString("base64url")}$${hash.toString("base64url")}`;
}

function parse(text: string): { cost: Cost; salt: Buffer; hash: Buffer } {
  const found = /^\$scrypt\$ln=(\d+),r=(\d+),p=(\d+)\$([\w-]+)\$([\w-]+)$/.exec(text);
  if (found === null) throw new KiteError("internal", "a stored password is in a form that this version does not know");
  const [, ln, r, p, salt = "", hash = ""] = found;
  return {
    cost: { ln: Number(ln), r: Number(r), p: Number(p) },
    salt: Buffer.from(salt, "base64url"),
    hash: Buffer.from(hash, "base64url"),
  };
}
