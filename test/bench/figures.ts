import os from "node:os";
import { placement } from "./cpus.ts";
import { STREAM_CHUNK, STREAM_CHUNKS, WORKLOADS, type Workload } from "./side.ts";
import { SIDE_NAMES, type SideName } from "./sides.ts";

/** Sequential calls show what one call costs; 64 in flight what a busy connection carries. */
export const LOADS = { sequential: 1, loaded: 64 } as const;
export type Load = keyof typeof LOADS;

/** One measurement of one side, in one round. */
export interface Sample {
  round: number;
  side: SideName;
  workload: Workload;
  load: Load;
  callsPerSecond: number;
  p50Us: number;
  p99Us: number;
  cpuUsPerCall: number;
}

/** What a run found, for people and for `--json`. */
export interface Figures {
  machine: string;
  placement: string;
  rounds: number;
  rows: Row[];
  targets: Target[];
}

export interface Row {
  workload: Workload;
  load: Load;
  side: SideName;
  p50Us: number;
  p99Us: number;
  callsPerSecond: number;
  /** Of client and server together. */
  cpuUsPerCall: number;
  /** Medians over the rounds of this side's figure divided by the other's in the same round. */
  p50Ratio: Partial<Record<SideName, number>>;
  rateRatio: Partial<Record<SideName, number>>;
  cpuRatio: Partial<Record<SideName, number>>;
}

export interface Target {
  what: string;
  wanted: string;
  found: string;
  met: boolean;
}

export function figuresOf(samples: readonly Sample[]): Figures {
  const rows = rowsOf(samples);
  return {
    machine: `${os.cpus().length} × ${os.cpus()[0]?.model.trim() ?? "unknown"}, node ${process.version}`,
    placement: placement(),
    rounds: Math.max(...samples.map((sample) => sample.round)),
    rows,
    targets: targetsOf(rows),
  };
}

export function printFigures({ machine, placement, rounds, rows, targets }: Figures): void {
  console.log(`${machine}; median of ${rounds} rounds, ratios to plain ws within a round\n${placement}`);
  for (const { title, of } of groups(rows)) {
    console.log(`\n${title}`);
    console.table(
      Object.fromEntries(
        of.map((row) => [
          row.side,
          {
            "p50 µs": round(row.p50Us, 1),
            "× ws p50": row.p50Ratio.ws ? round(row.p50Ratio.ws, 2) : "–",
            "p99 µs": round(row.p99Us, 1),
            ...(row.workload === "stream"
              ? { "MB/s": Math.round((row.callsPerSecond * STREAM_CHUNKS * STREAM_CHUNK.byteLength) / 1e6) }
              : { "calls/s": Math.round(row.callsPerSecond) }),
            "× ws rate": row.rateRatio.ws ? round(row.rateRatio.ws, 2) : "–",
            "CPU µs/call": round(row.cpuUsPerCall, 1),
            "× ws CPU": row.cpuRatio.ws ? round(row.cpuRatio.ws, 2) : "–",
          },
        ]),
      ),
    );
  }
  for (const target of targets)
    console.log(`${target.met ? "met   " : "MISSED"} ${target.what}: ${target.found}, to reach ${target.wanted}`);
}

function groups(rows: readonly Row[]): { title: string; of: Row[] }[] {
  const titles = { sequential: "one after the other", loaded: "64 in flight" } as const;
  const names = { unary: "unary call", callback: "call with a function that is called back", stream: "stream of 32 MiB" } as const;
  const keys = [...new Set(rows.map((row) => `${row.workload} ${row.load}`))];
  return keys.map((key) => {
    const of = rows.filter((row) => `${row.workload} ${row.load}` === key);
    const { workload, load } = of[0] as Row;
    return { title: `${names[workload]}, ${titles[load]}`, of };
  });
}

function rowsOf(samples: readonly Sample[]): Row[] {
  const rows: Row[] = [];
  for (const workload of WORKLOADS) {
    for (const load of ["sequential", "loaded"] as const) {
      const like = samples.filter((sample) => sample.workload === workload && sample.load === load);
      for (const side of SIDE_NAMES) {
        const own = like.filter((sample) => sample.side === side);
        if (own.length > 0) rows.push(rowOf(own, like));
      }
    }
  }
  return rows;
}

function rowOf(own: readonly Sample[], like: readonly Sample[]): Row {
  const { workload, load, side } = own[0] as Sample;
  const ratios = (figure: (sample: Sample) => number) =>
    Object.fromEntries(
      SIDE_NAMES.flatMap((other) => {
        const pairs = own.flatMap((sample) => {
          const peer = like.find((found) => found.side === other && found.round === sample.round);
          return peer ? [figure(sample) / figure(peer)] : [];
        });
        return pairs.length > 0 ? [[other, median(pairs)]] : [];
      }),
    );
  return {
    workload,
    load,
    side,
    p50Us: median(own.map((sample) => sample.p50Us)),
    p99Us: median(own.map((sample) => sample.p99Us)),
    callsPerSecond: median(own.map((sample) => sample.callsPerSecond)),
    cpuUsPerCall: median(own.map((sample) => sample.cpuUsPerCall)),
    p50Ratio: ratios((sample) => sample.p50Us),
    rateRatio: ratios((sample) => sample.callsPerSecond),
    cpuRatio: ratios((sample) => sample.cpuUsPerCall),
  };
}

/** What kite promises, as ratios: a figure in microseconds from another day says nothing. */
function targetsOf(rows: readonly Row[]): Target[] {
  const find = (workload: Workload, load: Load, side: SideName = "kite") =>
    rows.find((row) => row.side === side && row.workload === workload && row.load === load);
  const atMost = (what: string, limit: number, found: number | undefined) => target(what, `≤ ${limit} ×`, found, (ratio) => ratio <= limit);
  const atLeast = (what: string, limit: number, found: number | undefined) =>
    target(what, `≥ ${limit} ×`, found, (ratio) => ratio >= limit);
  const sequential = find("unary", "sequential");
  const loaded = find("unary", "loaded");
  const callbacks = find("callback", "loaded");
  const calledBack = find("callback", "sequential");
  const stream = find("stream", "sequential");
  const dnode = find("unary", "loaded", "kite-dnode");
  const nats = find("unary", "loaded", "kite-nats");
  return [
    ...atMost("unary p50 against plain ws", 1.3, sequential?.p50Ratio.ws),
    ...atLeast("unary rate, 64 in flight, against plain ws", 2, loaded?.rateRatio.ws),
    ...atLeast("unary rate, 64 in flight, against Cap'n Web", 4, loaded?.rateRatio.capnweb),
    ...atMost("callback p50 against Socket.IO", 1, calledBack?.p50Ratio["socket.io"]),
    ...atLeast("callback rate, 64 in flight, against Cap'n Web", 3, callbacks?.rateRatio.capnweb),
    ...atLeast("dnode dialect, 64 in flight, against kite.js", 2.5, dnode?.rateRatio["kite.js"]),
    ...atLeast("over NATS, 64 in flight, against nats.js", 2, nats?.rateRatio["nats.js"]),
    ...atLeast("over NATS, 64 in flight, against Moleculer over NATS", 1, nats?.rateRatio["moleculer-nats"]),
    ...atLeast("bytes of a stream per second against plain ws", 0.8, stream?.rateRatio.ws),
  ];
}

function target(what: string, wanted: string, found: number | undefined, isMet: (ratio: number) => boolean): Target[] {
  return found === undefined ? [] : [{ what, wanted, found: `${found.toFixed(2)} ×`, met: isMet(found) }];
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
