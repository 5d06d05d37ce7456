import type { PooledBalance } from "../balance.ts";
import { highest } from "./rendezvous.ts";

/** What a choice is made by. */
export interface Choosable {
  readonly id: string;
  /** Calls that wait for its answer. */
  readonly pending: number;
  /** How long a round trip to it takes; undefined before it was measured. */
  readonly latencyMs: number | undefined;
}

/** Chooses one of several; undefined only if there is none. */
export type Choose = <M extends Choosable>(members: readonly M[], method: string, args: readonly unknown[]) => M | undefined;

/** The rule for a way of balancing. It may remember whose turn it is, so every pool has its own. */
export function chooserOf(balance: PooledBalance, random: () => number): Choose {
  // Not all callers begin with the first: those that start together would move on together.
  let turn = Math.floor(random() * TURNS);
  const inTurn: Choose = (members) => members[turn++ % members.length];
  const leastPending: Choose = (members, method, args) =>
    inTurn(
      lowest(members, ({ pending }) => pending),
      method,
      args,
    );
  if (balance === "round-robin") return inTurn;
  if (balance === "least-pending") return leastPending;
  if (balance === "nearest") return (members, method, args) => leastPending(near(members), method, args);
  return (members, method, args) => highest(balance.stickyBy(method, args), members);
}

const TURNS = 1_000;

/** Those that are about as near as the nearest, among whom the load decides; while nothing is measured, all. */
function near<M extends Choosable>(members: readonly M[]): readonly M[] {
  const measured = members.flatMap(({ latencyMs }) => (latencyMs === undefined ? [] : [latencyMs]));
  if (measured.length === 0) return members;
  const limit = Math.min(...measured) * ALIKE + ALIKE_MS;
  return members.filter(({ latencyMs }) => latencyMs !== undefined && latencyMs <= limit);
}

// Measurements of the same distance differ by as much; telling them apart would send everything to whoever was lucky.
const ALIKE = 1.25;
const ALIKE_MS = 0.5;

function lowest<M>(members: readonly M[], of: (member: M) => number): readonly M[] {
  const least = Math.min(...members.map(of));
  return members.filter((member) => of(member) === least);
}
