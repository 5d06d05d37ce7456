import { Counter, register as defaultRegister, Histogram, type Registry } from "prom-client";
import type { ObservedKite, Observer } from "../observe.ts";
import { countWhatIsOpen } from "./open-counts.ts";
import { SeriesNames } from "./series-names.ts";

/** Where metrics go; may be left out. */
export interface MetricsOptions {
  /** Where the metrics are entered. Default: prom-client's own `register`. */
  readonly register?: Registry | undefined;
}

/**
 * Metrics of the kites that it is given to, for prom-client: calls served and made with their codes and durations, and how
 * many calls, sessions, functions and streams are open when the metrics are read. One of it per register; it may be given
 * to several kites, whose numbers are then added up.
 *
 * @throws {Error} of prom-client when the register has metrics of these names already.
 * @example
 * import { metrics } from "@kite-mesh/kite/prometheus";
 * import { register } from "prom-client";
 * const kite = await openKite({ name: "math", version: "1.0.0", methods, observers: [metrics()] });
 * console.log(await register.metrics());
 */
export function metrics({ register = defaultRegister }: MetricsOptions = {}): Observer {
  const kites = new Set<ObservedKite>();
  const served = servedCalls(register);
  const made = madeCalls(register);
  countWhatIsOpen(kites, register);
  return (kite) => {
    kites.add(kite);
    return {
      serving: ({ method = OTHER }) => {
        const begin = performance.now();
        return { ended: (error) => served(method, error?.code ?? "ok", secondsSince(begin)) };
      },
      calling: (call) => {
        const begin = performance.now();
        return { ended: (error) => made(call.peer?.name ?? UNREACHED, call.method, error?.code ?? "ok", secondsSince(begin)) };
      },
      closed: () => void kites.delete(kite),
    };
  };
}

function servedCalls(register: Registry) {
  const registers = [register];
  const total = new Counter({
    name: "kite_calls_served_total",
    help: "Calls that were answered, by how they ended",
    labelNames: ["method", "code"],
    registers,
  });
  const seconds = new Histogram({
    name: "kite_call_served_seconds",
    help: "Time from a call's arrival to its answer",
    labelNames: ["method"],
    buckets: BUCKETS,
    registers,
  });
  return (method: string, code: string, duration: number): void => {
    total.inc({ method, code });
    seconds.observe({ method }, duration);
  };
}

function madeCalls(register: Registry) {
  const registers = [register];
  const total = new Counter({
    name: "kite_calls_made_total",
    help: "Calls that were made, by how they ended",
    labelNames: ["peer_name", "method", "code"],
    registers,
  });
  const seconds = new Histogram({
    name: "kite_call_made_seconds",
    help: "Time from a call to its answer, with the dial if there was one",
    labelNames: ["peer_name", "method"],
    buckets: BUCKETS,
    registers,
  });
  const names = new SeriesNames(MAX_MADE);
  return (peer: string, called: string, code: string, duration: number): void => {
    const isOwn = names.admit(`${peer}/${called}`);
    const peer_name = isOwn ? peer : OTHER;
    const method = isOwn ? called : OTHER;
    total.inc({ peer_name, method, code });
    seconds.observe({ peer_name, method }, duration);
  };
}

function secondsSince(begin: number): number {
  return (performance.now() - begin) / 1000;
}

// From what a call in the same house takes to the default deadline.
const BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
// Peers give themselves their names, and a proxy calls what it is asked to. Each pair is some twenty lines at every scrape.
const MAX_MADE = 500;
const OTHER = "other";
const UNREACHED = "unreached";
