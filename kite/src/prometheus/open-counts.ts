import { Gauge, type Registry } from "prom-client";
import type { ObservedKite, ObservedSession } from "../observe.ts";

type Count = (session: ObservedSession) => number;

/** Enters gauges of what the kites have open, counted anew whenever the metrics are read: nothing is kept up between. */
export function countWhatIsOpen(kites: Iterable<ObservedKite>, register: Registry): void {
  new Gauge({
    name: "kite_sessions",
    help: "Sessions by who opened them and whether they are connected",
    labelNames: ["direction", "state"],
    registers: [register],
    collect() {
      const sessions = sessionsOf(kites);
      for (const direction of DIRECTIONS) {
        for (const state of STATES) {
          this.set({ direction, state }, sessions.filter((session) => session.direction === direction && session.state === state).length);
        }
      }
    },
  });
  gauge("kite_calls_pending", "Calls that wait for an answer", {
    served: ({ counts }) => counts.serving,
    made: ({ counts }) => counts.calls,
  });
  gauge("kite_callbacks", "Functions that one side holds for the other: exported ones are called from there, imported ones from here", {
    exported: ({ counts }) => counts.exported,
    imported: ({ counts }) => counts.imported,
  });
  gauge("kite_streams", "Streams that are open", {
    sending: ({ counts }) => counts.sending,
    receiving: ({ counts }) => counts.receiving,
  });

  function gauge(name: string, help: string, directions: Readonly<Record<string, Count>>): void {
    new Gauge({
      name,
      help,
      labelNames: ["direction"],
      registers: [register],
      collect() {
        const sessions = sessionsOf(kites);
        for (const [direction, count] of Object.entries(directions)) {
          this.set(
            { direction },
            sessions.reduce((sum, session) => sum + count(session), 0),
          );
        }
      },
    });
  }
}

const DIRECTIONS = ["accepted", "dialled"] as const;
// A closed session is none any more.
const STATES = ["connecting", "open", "suspended"] as const;

function sessionsOf(kites: Iterable<ObservedKite>): ObservedSession[] {
  return [...kites].flatMap((kite) => [...kite.sessions()]);
}
