import { createHash, randomBytes, randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { KiteError } from "@kite-mesh/kite";
import type { Pool, PoolClient } from "pg";
import type { DeviceLogin, DeviceRequest } from "../contract.ts";
import { audit } from "../database/audit.ts";
import { ask, databaseError, withConnection } from "../database/connection.ts";
import type { Log } from "../database/log.ts";
import type { Directory } from "../directory/directory.ts";
import { issueKiteKey, type KiteKeyOptions } from "../trust/kite-keys.ts";

export interface DeviceCodesOptions {
  readonly pool: Pool;
  readonly log: Log;
  readonly directory: Directory;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
}

// A person reads a code, opens another terminal and types it.
const TTL_MS = 10 * 60_000;
// Consonants that are not mistaken for others or for digits, and spell no words (RFC 8628, 6.1): eight are 34 bits.
const LETTERS = "BCDFGHJKLMNPQRSTVWXZ";
const GROUP = 4;
// What a mesh of any size asks for in ten minutes; the rest is a flood, and each is a row. When all are taken, the oldest of
// whichever network has most makes room: a flood displaces itself.
const MAX_WAITING = 5_000;
const MAX_WAITING_PER_SOURCE = 50;
// A /48 of IPv6 is one customer, though it is 65,536 sources; a /24 of IPv4 is a few.
const MAX_WAITING_PER_NETWORK = 200;
// About a second's work.
const MAX_IN_LINE = 500;
// An approval is heard of from the log. While the log cannot be followed, the table is looked at this often.
const LOOK_MS = 15_000;

const TIDY = "delete from kontrol.device_codes where expires_at < to_timestamp($1::float8 / 1000)";
// One after the other: two that count at the same time would both find the last place.
const BEGIN_ALONE = "begin; select pg_advisory_xact_lock(hashtext('kontrol.device_codes'))";
const COUNT = `
  select count(*)::int as waiting, count(*) filter (where source = $1)::int as source,
         count(*) filter (where left(source, length($2)) = $2)::int as network
    from kontrol.device_codes where state = 'waiting'`;
const parts = (count: number): string => {
  const joined = (separator: string) =>
    Array.from({ length: count }, (_, n) => `split_part(source, '${separator}', ${n + 1})`).join(" || '.' || ");
  return `case when source like '%:%' then ${joined(":")} else ${joined(".")} end`;
};
const MAKE_ROOM = `
  delete from kontrol.device_codes where hash = (
    select hash from (select hash, asked_at, count(*) over (partition by ${parts(3)}) as near, count(*) over (partition by ${parts(2)}) as far
                        from kontrol.device_codes where state = 'waiting') as waiting
     order by near desc, far desc, asked_at limit 1)`;
const ADD = `
  insert into kontrol.device_codes (hash, user_code, hostname, source, asked_at, expires_at)
  values ($1, $2, $3, $4, to_timestamp($5::float8 / 1000), to_timestamp($6::float8 / 1000))`;
const LOOK = `
  select hostname, source, floor(extract(epoch from asked_at) * 1000)::float8 as "askedAt",
         floor(extract(epoch from expires_at) * 1000)::float8 as "expiresAt"
    from kontrol.device_codes where user_code = $1 and state = 'waiting' and expires_at > to_timestamp($2::float8 / 1000)`;
const DECIDE = `
  update kontrol.device_codes set state = $2, username = $3
   where user_code = $1 and state = 'waiting' and expires_at > to_timestamp($4::float8 / 1000)
  returning encode(hash, 'hex') as id, hostname, source`;
const STATE = `
  select state, username from kontrol.device_codes where hash = $1 and state <> 'used' and expires_at > to_timestamp($2::float8 / 1000)`;
const USE = `
  update kontrol.device_codes set state = 'used'
   where hash = $1 and state = 'approved' and expires_at > to_timestamp($2::float8 / 1000)
  returning username, hostname, source`;

/**
 * How a machine gets the kite.key of a person who sits elsewhere (after RFC 8628): it asks, shows a short code, and waits; the
 * person looks at what asks, and approves it. No code is kept, only what it can be recognised by.
 */
export class DeviceCodes {
  readonly #options: DeviceCodesOptions;
  /** Who waits, by the digest of the device code. Each leaves with the call that it belongs to. */
  readonly #waiting = new Map<string, Set<() => void>>();
  #line: Promise<void> = Promise.resolve();
  #inLine = 0;

  constructor(options: DeviceCodesOptions) {
    this.#options = options;
    options.directory.listen((applied) => {
      // After a reset anything may have been missed.
      if (applied === "reset") for (const waiting of this.#waiting.values()) wakeAll(waiting);
      else if (applied.change.kind === "login.decided") wakeAll(this.#waiting.get(applied.change.id));
    });
  }

  /** @throws {KiteError} `overloaded` when too many from the same source or network wait for a decision. */
  async begin({ hostname, source }: { hostname: string; source: string }): Promise<DeviceLogin> {
    const { pool, now } = this.#options;
    const deviceCode = randomBytes(32).toString("base64url");
    const userCode = Array.from({ length: 2 * GROUP }, () => LETTERS[randomInt(LETTERS.length)]).join("");
    const [askedAt, expiresAt] = [now(), now() + TTL_MS];
    await this.#inTurn(() =>
      withConnection(pool, async (client) => {
        await client.query(BEGIN_ALONE);
        await client.query(TIDY, [askedAt]);
        await takePlace(client, source);
        await client.query(ADD, [digest(deviceCode), digest(userCode), hostname, source, askedAt, expiresAt]);
        await client.query("commit");
      }),
    );
    return { deviceCode, userCode: `${userCode.slice(0, GROUP)}-${userCode.slice(GROUP)}`, expiresAt };
  }

  /** In the database they stand in one line; here, too, so that a flood of them holds one connection, and not all there are. */
  async #inTurn(work: () => Promise<void>): Promise<void> {
    if (this.#inLine >= MAX_IN_LINE)
      throw new KiteError("overloaded", `${MAX_IN_LINE} machines ask to be let in at this moment; try again in a moment`, {
        outcome: "not_run",
      });
    this.#inLine++;
    const done = this.#line.then(work).finally(() => this.#inLine--);
    this.#line = done.catch(() => {});
    try {
      await done;
    } catch (cause) {
      throw databaseError(cause);
    }
  }

  /** @throws {KiteError} `not_found`. */
  async look(userCode: string): Promise<DeviceRequest> {
    const { pool, now } = this.#options;
    const [request] = (await ask<DeviceRequest>(pool, LOOK, [digestTyped(userCode), now()])).rows;
    if (request === undefined) throw unknownCode();
    return request;
  }

  /**
   * Lets the machine have a kite.key of `by`, or does not; wherever it waits, it is told.
   *
   * @throws {KiteError} `not_found`.
   */
  async decide(userCode: string, state: "approved" | "denied", by: string): Promise<{ hostname: string; source: string }> {
    const { log, now } = this.#options;
    const { result } = await log.write(async (tx) => {
      const values = [digestTyped(userCode), state, by, now()];
      const [decided] = (await tx.query<{ id: string; hostname: string; source: string }>(DECIDE, values)).rows;
      if (decided === undefined) throw unknownCode();
      const { id, ...machine } = decided;
      tx.append({ kind: "login.decided", id });
      await audit(tx, by, state === "approved" ? "login.approve" : "login.deny", by, machine);
      return machine;
    });
    return result;
  }

  /**
   * Waits until the machine is approved, and exchanges its code for a kite.key, once. Whoever was cut off asks again. `known` is
   * called as soon as the code is seen to be one that was given out.
   *
   * @throws {KiteError} `unauthenticated` for a code that is unknown, was used or has expired, `permission_denied` for one that was denied.
   */
  async redeem(
    deviceCode: string,
    kiteKeys: KiteKeyOptions,
    { signal, known = () => {} }: { signal: AbortSignal; known?: () => void },
  ): Promise<{ kiteKey: string; revision: number }> {
    const { pool, now } = this.#options;
    const hash = digest(deviceCode);
    for (;;) {
      // Before looking, so that no decision falls in between.
      using decision = this.#decision(hash.toString("hex"));
      const [row] = (await ask<{ state: string; username: string }>(pool, STATE, [hash, now()])).rows;
      if (row === undefined) throw refusedCode();
      known();
      if (row.state === "denied") throw new KiteError("permission_denied", `${row.username} has denied this login`);
      // A key that nobody waits for would be lost.
      signal.throwIfAborted();
      if (row.state === "approved") return await this.#use(hash, kiteKeys);
      const late = new AbortController();
      const stop = AbortSignal.any([signal, late.signal]);
      await Promise.race([decision.made, delay(LOOK_MS, undefined, { signal: stop }).catch(() => {})]);
      late.abort();
    }
  }

  async #use(hash: Buffer, kiteKeys: KiteKeyOptions) {
    const { log, now } = this.#options;
    const { result: kiteKey, revision } = await log.write(async (tx) => {
      const [used] = (await tx.query<{ username: string; hostname: string; source: string }>(USE, [hash, now()])).rows;
      if (used === undefined) throw refusedCode();
      const { username, ...machine } = used;
      const issued = await issueKiteKey(tx, username, kiteKeys);
      await audit(tx, username, "registerMachine", username, { by: "deviceCode", ...machine });
      return issued;
    });
    return { kiteKey, revision };
  }

  #decision(id: string): Disposable & { made: Promise<void> } {
    let wake = (): void => {};
    const made = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting.add(wake));
    return {
      made,
      [Symbol.dispose]: () => {
        waiting.delete(wake);
        if (waiting.size === 0) this.#waiting.delete(id);
      },
    };
  }
}

/** Makes sure that there is a place for one more, as far as its source and its network have not used up theirs. */
async function takePlace(client: PoolClient, source: string): Promise<void> {
  const { rows } = await client.query<Record<"waiting" | "source" | "network", number>>(COUNT, [source, networkOf(source)]);
  const { waiting = 0, source: own = 0, network = 0 } = rows[0] ?? {};
  if (own >= MAX_WAITING_PER_SOURCE || network >= MAX_WAITING_PER_NETWORK)
    throw new KiteError("overloaded", "too many machines wait to be let in from where this one is; try again in some minutes", {
      outcome: "not_run",
    });
  if (waiting >= MAX_WAITING) await client.query(MAKE_ROOM);
}

/** What sources of the same /48 of IPv6 or /24 of IPv4 begin with. */
function networkOf(source: string): string {
  const separator = source.includes(":") ? ":" : ".";
  return source.split(separator).slice(0, 3).join(separator) + separator;
}

function wakeAll(waiting: ReadonlySet<() => void> | undefined): void {
  for (const wake of waiting ?? []) wake();
}

function digest(code: string): Buffer {
  return createHash("sha256").update(code).digest();
}

/** However it was typed: in small letters, with a blank in place of the dash. */
function digestTyped(userCode: string): Buffer {
  return digest(userCode.toUpperCase().replace(/[\s-]/g, ""));
}

function unknownCode(): KiteError {
  return new KiteError("not_found", "no machine waits under this code: it is mistyped, was decided on, or is older than ten minutes");
}

function refusedCode(): KiteError {
  return new KiteError("unauthenticated", "the device code is unknown, was used before or has expired; begin again with login.begin");
}
