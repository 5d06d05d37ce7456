import type { Authenticate, KiteErrorCode } from "@kite-mesh/kite";
import { KiteError } from "@kite-mesh/kite";
import type { Pool } from "pg";
import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { Directory } from "../directory/directory.ts";
import type { Follower } from "../directory/follower.ts";
import type { Watchers } from "../directory/watch.ts";
import type { Leases } from "../presence/leases.ts";
import type { Registrar } from "../presence/registrar.ts";
import type { Relay } from "../relay/relay.ts";
import type { Tokens } from "../trust/tokens.ts";

/** Everything that is counted; it counts for itself, in plain numbers that cost nothing until they are read. */
export interface Measured {
  readonly version: string;
  readonly directory: Pick<Directory, "size" | "revision">;
  readonly follower: Pick<Follower, "behind" | "connected">;
  readonly registrar: Pick<Registrar, "size" | "registrations">;
  readonly leases: Pick<Leases, "waiting">;
  readonly watchers: Pick<Watchers, "size">;
  readonly relay: Pick<Relay, "size" | "traffic">;
  readonly tokens: Pick<Tokens, "issued">;
  readonly logins: Pick<Logins, "refused">;
  readonly pool: Pick<Pool, "totalCount" | "idleCount" | "waitingCount">;
}

/** Who came to kontrol and was not let in. */
export interface Logins {
  readonly authenticate: Authenticate;
  readonly refused: ReadonlyMap<KiteErrorCode, number>;
}

/** Counts those whom `authenticate` refuses, by the code that they are told. */
export function countLogins(authenticate: Authenticate): Logins {
  const refused = new Map<KiteErrorCode, number>();
  return {
    refused,
    authenticate: async (...shown) => {
      try {
        return await authenticate(...shown);
      } catch (thrown) {
        const { code } = KiteError.from(thrown);
        refused.set(code, (refused.get(code) ?? 0) + 1);
        throw thrown;
      }
    },
  };
}

/** Enters kontrol's metrics into a register. None is by a person's name: who reads metrics is not to learn who is there. */
export function measure(register: Registry, measured: Measured): void {
  const { directory, follower, registrar, leases, watchers, relay, tokens, logins, pool } = measured;
  const gauge = gauges(register);
  gauge("kontrol_info", "The version that runs; always 1", () => [[{ version: measured.version }, 1]], ["version"]);
  gauge("kontrol_kites", "Kites in the directory", () => [[{}, directory.size]]);
  gauge("kontrol_kites_held", "Kites whose sessions are at this kontrol", () => [[{}, registrar.size]]);
  gauge("kontrol_directory_revision", "Revision of the log that the directory is at", () => [[{}, directory.revision]]);
  gauge("kontrol_directory_lag_revisions", "Revisions that the database has, as far as is known, and the directory has not", () => [
    [{}, follower.behind],
  ]);
  gauge("kontrol_database_connected", "Whether the connection that follows the log is there", () => [[{}, follower.connected ? 1 : 0]]);
  gauge(
    "kontrol_database_connections",
    "Connections of the pool",
    () => [
      [{ state: "busy" }, pool.totalCount - pool.idleCount],
      [{ state: "idle" }, pool.idleCount],
    ],
    ["state"],
  );
  gauge("kontrol_database_waiting", "Requests that wait for a connection of the pool", () => [[{}, pool.waitingCount]]);
  gauge("kontrol_registrations_waiting", "Registrations and their ends that wait to be written", () => [[{}, leases.waiting]]);
  gauge("kontrol_watchers", "Queries that are being watched here", () => [[{}, watchers.size]]);
  gauge("kontrol_relay_links", "Callers that are linked to kites through this relay", () => [[{}, relay.size]]);

  const counter = counters(register);
  counter("kontrol_registrations_total", "Kites that registered here", () => [[{}, registrar.registrations]]);
  counter("kontrol_tokens_issued_total", "Tokens that were signed", () => entries(tokens.issued, "algorithm"), ["algorithm"]);
  counter("kontrol_logins_refused_total", "Credentials that were not accepted", () => entries(logins.refused, "code"), ["code"]);
  counter(
    "kontrol_relay_bytes_total",
    "Bytes of frames that the relay moved",
    () => [
      [{ direction: "to_kite" }, relay.traffic.toKites],
      [{ direction: "to_caller" }, relay.traffic.toCallers],
    ],
    ["direction"],
  );
}

let ofProcess: Registry | undefined;

/** The metrics of a register, and those of the process, which has one memory and one event loop for all kontrols in it. */
export async function exposition(register: Registry): Promise<{ type: string; text: string }> {
  // With the first reader: the delay of the event loop is measured from then on, at some cost, and never stops.
  if (ofProcess === undefined) {
    ofProcess = new Registry();
    collectDefaultMetrics({ register: ofProcess });
  }
  const text = await Promise.all([register.metrics(), ofProcess.metrics()]);
  return { type: register.contentType, text: text.join("\n") };
}

type Samples = () => readonly (readonly [labels: Record<string, string>, value: number])[];

function gauges(register: Registry) {
  return (name: string, help: string, samples: Samples, labelNames: readonly string[] = []): void => {
    new Gauge({
      name,
      help,
      labelNames,
      registers: [register],
      collect() {
        for (const [labels, value] of samples()) this.set(labels, value);
      },
    });
  };
}

function counters(register: Registry) {
  return (name: string, help: string, samples: Samples, labelNames: readonly string[] = []): void => {
    new Counter({
      name,
      help,
      labelNames,
      registers: [register],
      collect() {
        // What is counted is counted elsewhere; here it is only said.
        this.reset();
        for (const [labels, value] of samples()) this.inc(labels, value);
      },
    });
  };
}

function entries(counted: ReadonlyMap<string, number>, label: string): [Record<string, string>, number][] {
  return [...counted].map(([name, count]) => [{ [label]: name }, count]);
}
