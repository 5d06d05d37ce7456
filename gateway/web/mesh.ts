import type { Role } from "@kite-mesh/kite";
import type { Query, WatchEvent } from "@kite-mesh/kite/browser/registry";
import type { Operation, OperationStarted, StackEvent } from "@kite-mesh/kloud/contract";

/**
 * Everything that the page needs from the mesh. `kite-mesh.ts` speaks to the real one; the views know only this, so that
 * they can be looked at with any data. Calls fail with an error that has a `code` and a sentence.
 */
export interface Mesh {
  /** Every kite that the person may see. Settles only when the watch is lost (rejects) or its signal aborts. */
  watchKites(watcher: Watcher<WatchEvent>): Promise<void>;
  /** The person's stacks and machines, first as a snapshot. Settles as `watchKites` does. */
  watchStacks(watcher: Watcher<StackEvent>): Promise<void>;
  operation(operationId: string): Promise<Operation>;
  startMachine(machineId: string): Promise<OperationStarted>;
  stopMachine(machineId: string): Promise<OperationStarted>;
  /** Names of the terminal sessions that are open on a machine, whoever looks at them. */
  terminalSessions(klient: KlientAddress): Promise<string[]>;
  attachTerminal(request: TerminalRequest, viewer: TerminalViewer): Promise<AttachedTerminal>;
  close(): Promise<void>;
}

export interface Watcher<Event> {
  event(event: Event): void;
  /** False while the connection is away and may come back without losing an event; true once it is back. */
  connected(connected: boolean): void;
  signal: AbortSignal;
}

/** Enough to find a machine's klient again after it was restarted with another id. */
export interface KlientAddress {
  id: string;
  username: string;
  hostname: string;
}

export interface TerminalRequest {
  klient: KlientAddress;
  /** Left out: a new session, which klient names. Given: that session and no other; it must exist. */
  session?: string;
  columns: number;
  rows: number;
}

export interface TerminalViewer {
  /** Awaited by the machine before it sends more: resolve when the screen has taken the bytes. */
  output(data: Uint8Array | string): Promise<void>;
  /** The program in the terminal has ended, and the session with it. */
  ended(): void;
  connected(connected: boolean): void;
  /** The connection is gone for good; the session on the machine goes on. */
  lost(reason: unknown): void;
}

export interface AttachedTerminal {
  session: string;
  role: Role;
  input(data: string): Promise<void>;
  /** Bytes that are not text, one per character, such as mouse reports. */
  binary(data: string): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
  /** Stops looking; the session stays. */
  leave(): Promise<void>;
  /** Ends the program in the terminal. */
  terminate(): Promise<void>;
}

/** How to find the klient: by its id, and if that is gone, by the name of its machine. */
export function klientQueries(klient: KlientAddress): Query[] {
  return [{ id: klient.id }, { name: "klient", username: klient.username, hostname: klient.hostname }];
}
