import { networkInterfaces } from "node:os";
import type { Pool } from "pg";
import { ask } from "../database/connection.ts";

export interface ReplicasOptions {
  readonly pool: Pool;
  /** This process, as the `holder` of its leases. */
  readonly holder: string;
  readonly heartbeatMs: number;
}

// As for kites: one lost beat must not make a healthy replica disappear.
const BEATS = 2;

/**
 * How long the replica of a row may be silent, in SQL: two beats of its own or as many as are said, or of whoever asks where
 * those are longer. `asking` is the place of the latter's beat, in milliseconds.
 */
export function silenceOf(row: string, asking: string, beats = BEATS): string {
  return `(${beats} * greatest(coalesce(${row}.heartbeat_ms, 0), ${asking}) * interval '1 millisecond')`;
}

// The process is to end, whether the database is there or not.
const LEAVE_LIMIT_MS = 2_000;

/**
 * The kontrol processes on this database, and where they reach each other. It is read with every beat, so that to find
 * one costs no query; a replica that started since is asked for once.
 */
export class Replicas {
  readonly #options: ReplicasOptions;
  #known: ReadonlyMap<string, string> = new Map();
  /** Asked for since the last beat. Who asks names holders of the directory, so there are as many as replicas. */
  readonly #asked = new Map<string, Promise<string | undefined>>();

  constructor(options: ReplicasOptions) {
    this.#options = options;
  }

  /** Says that this process lives and where, and learns of the others. Answers with the log's revision. */
  async beat(url: string): Promise<number | undefined> {
    const { pool, holder, heartbeatMs } = this.#options;
    const { rows } = await pool.query<{ revision: number }>(BEAT, [holder, url, heartbeatMs]);
    const others = await pool.query<Row>(OTHERS, [holder, heartbeatMs]);
    this.#known = new Map(others.rows.map((row) => [row.id, row.url]));
    this.#asked.clear();
    return rows[0]?.revision;
  }

  /**
   * Says that this process is gone. Its kites have two beats from now to register elsewhere: they are alive, and nobody
   * should see them vanish and come back.
   */
  async leave(): Promise<void> {
    const { pool, holder } = this.#options;
    const leave = { text: LEAVE, values: [holder], query_timeout: LEAVE_LIMIT_MS };
    await pool.query(leave).catch(() => {}); // its beat goes stale by itself
  }

  /** Where a replica is reached; undefined for one that does not live, as far as the database can be asked. */
  async find(holder: string): Promise<string | undefined> {
    const known = this.#known.get(holder);
    if (known !== undefined) return known;
    const asked = this.#asked.get(holder) ?? this.#ask(holder);
    this.#asked.set(holder, asked);
    return asked;
  }

  async #ask(holder: string): Promise<string | undefined> {
    const { pool, heartbeatMs } = this.#options;
    try {
      const { rows } = await ask<Row>(pool, ONE, [holder, heartbeatMs]);
      return rows[0]?.url;
    } catch {
      // Asked again by the next who needs it.
      this.#asked.delete(holder);
      return undefined;
    }
  }
}

/** Where others reach a process that listens at this address: there, unless it names all addresses of the machine at once. */
export function reachableUrl(listening: string, interfaces = networkInterfaces()): string {
  const url = new URL(listening);
  if (url.hostname !== "0.0.0.0" && url.hostname !== "[::]") return url.origin;
  const outward = Object.values(interfaces).flatMap((addresses) => addresses?.filter(({ internal }) => !internal) ?? []);
  // An address of the link (fe80::) says nothing without the name of the interface, which is another on every machine.
  const [first] = [...outward.filter(isIpv4), ...outward.filter((found) => !isIpv4(found) && !found.address.startsWith("fe80:"))];
  if (first === undefined) return `http://127.0.0.1:${url.port}`;
  return `http://${isIpv4(first) ? first.address : `[${first.address}]`}:${url.port}`;
}

function isIpv4({ family }: { family: string }): boolean {
  return family === "IPv4";
}

interface Row {
  readonly id: string;
  readonly url: string;
}

const BEAT = `
  insert into kontrol.replicas (id, url, heartbeat_ms) values ($1, $2, $3)
  on conflict (id) do update set beat_at = now(), url = excluded.url, heartbeat_ms = excluded.heartbeat_ms
  returning (select revision::float8 from kontrol.head) as revision`;
const LEAVE = "update kontrol.replicas set beat_at = now(), url = null where id = $1";
const LIVES = `url is not null and beat_at > now() - ${silenceOf("replicas", "$2::integer")}`;
const OTHERS = `select id, url from kontrol.replicas where id <> $1 and ${LIVES}`;
const ONE = `select id, url from kontrol.replicas where id = $1 and ${LIVES}`;
