import os from "node:os";
import type { Row, Sample } from "./outcome.ts";
import { TARGETS } from "./targets.ts";

/** What a run found, for people and for `--json`. */
export interface Figures {
  machine: string;
  rounds: number;
  rows: Row[];
  targets: TargetFound[];
}

interface TargetFound {
  what: string;
  wanted: string;
  found: string;
  met: boolean;
}

export function figuresOf(samples: readonly Sample[], servers: string): Figures {
  const rows = rowsOf(samples);
  return {
    machine: `${os.cpus().length} × ${os.cpus()[0]?.model.trim() ?? "unknown"}, node ${process.version}, ${servers}`,
    rounds: Math.max(...samples.map(({ round }) => round)),
    rows,
    targets: TARGETS.flatMap((target) => {
      const found = target.find(rows);
      if (found === undefined) return [];
      return [{ what: target.what, wanted: target.wanted, found: target.show(found), met: target.isMet(found) }];
    }),
  };
}

export function printFigures({ machine, rounds, rows, targets }: Figures): void {
  console.log(`${machine}; median of ${rounds} rounds, ratios within a round`);
  for (const what of new Set(rows.map((row) => row.what))) {
    console.log(`\n${what}`);
    const of = rows.filter((row) => row.what === what);
    console.table(Object.fromEntries(of.map((row) => [row.side, columnsOf(row, of)])));
  }
  for (const target of targets)
    console.log(`${target.met ? "met   " : "MISSED"} ${target.what}: ${target.found}, to reach ${target.wanted}`);
}

function columnsOf({ side, perSecond, p50Ms, p99Ms, cpuUs, more, rateRatio }: Row, of: readonly Row[]): Record<string, number | string> {
  const other = of.find((row) => row.side !== side)?.side;
  const ratio = other === undefined ? undefined : rateRatio[other];
  return {
    ...(perSecond === undefined ? {} : { "per second": Math.round(perSecond) }),
    ...(ratio === undefined ? {} : { "× the other": round(ratio, 2) }),
    ...(p50Ms === undefined ? {} : { "p50 ms": round(p50Ms, 3) }),
    ...(p99Ms === undefined ? {} : { "p99 ms": round(p99Ms, 3) }),
    ...(cpuUs === undefined ? {} : { "server CPU µs": round(cpuUs.server, 1) }),
    ...(cpuUs?.database === undefined ? {} : { "database CPU µs": round(cpuUs.database, 1) }),
    ...(cpuUs === undefined ? {} : { "client CPU µs": round(cpuUs.clients, 1) }),
    ...Object.fromEntries(Object.entries(more ?? {}).map(([name, value]) => [name, round(value, 1)])),
  };
}

function rowsOf(samples: readonly Sample[]): Row[] {
  const keys = new Set(samples.map(({ what, side }) => `${what}\n${side}`));
  return [...keys].map((key) => {
    const own = samples.filter(({ what, side }) => `${what}\n${side}` === key);
    const { what } = own[0] as Sample;
    return rowOf(
      own,
      samples.filter((sample) => sample.what === what),
    );
  });
}

function rowOf(own: readonly Sample[], like: readonly Sample[]): Row {
  const { scenario, what, side } = own[0] as Sample;
  const [first] = own;
  const others = new Set(like.map((sample) => sample.side).filter((other) => other !== side));
  const ratios = [...others].flatMap((other) => {
    const pairs = own.flatMap(({ round, perSecond }) => {
      const peer = like.find((sample) => sample.side === other && sample.round === round);
      return perSecond === undefined || peer?.perSecond === undefined ? [] : [perSecond / peer.perSecond];
    });
    return pairs.length > 0 ? [[other, median(pairs)] as const] : [];
  });
  const cpu = (of: "server" | "database" | "clients") => medianOf(own.map(({ cpuUs }) => cpuUs?.[of]));
  const database = cpu("database");
  return {
    scenario,
    what,
    side,
    perSecond: medianOf(own.map(({ perSecond }) => perSecond)),
    p50Ms: medianOf(own.map(({ p50Ms }) => p50Ms)),
    p99Ms: medianOf(own.map(({ p99Ms }) => p99Ms)),
    cpuUs: { server: cpu("server") ?? 0, ...(database === undefined ? {} : { database }), clients: cpu("clients") ?? 0 },
    more: Object.fromEntries(Object.keys(first?.more ?? {}).map((name) => [name, medianOf(own.map(({ more }) => more?.[name])) ?? 0])),
    rateRatio: Object.fromEntries(ratios),
  };
}

function medianOf(values: readonly (number | undefined)[]): number | undefined {
  const numbers = values.filter((value) => value !== undefined);
  return numbers.length > 0 ? median(numbers) : undefined;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
