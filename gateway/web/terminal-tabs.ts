import type { KlientAddress } from "./mesh.ts";

/** A terminal that is open on the page, as far as it must survive a reload. */
export interface TerminalTab {
  klient: KlientAddress;
  session: string;
}

export interface RememberedTabs {
  tabs: TerminalTab[];
  /** The session that was in front; null when the terminals were put away. */
  active: string | null;
}

export const NO_TABS: RememberedTabs = { tabs: [], active: null };

/** Where tabs are remembered: `sessionStorage`, which belongs to one browser tab and outlives its reloads. */
export type Memory = Pick<Storage, "getItem" | "setItem">;

export function rememberTabs(memory: Memory, remembered: RememberedTabs): void {
  memory.setItem(MEMORY_KEY, JSON.stringify(remembered));
}

/** What was open before the reload; nothing when it cannot be read. */
export function recallTabs(memory: Memory): RememberedTabs {
  try {
    return readTabs(JSON.parse(memory.getItem(MEMORY_KEY) ?? "null"));
  } catch {
    return NO_TABS;
  }
}

const MEMORY_KEY = "kite-mesh.terminals";

function readTabs(value: unknown): RememberedTabs {
  if (!isRecord(value) || !Array.isArray(value.tabs)) return NO_TABS;
  const tabs = value.tabs.flatMap((tab: unknown) => readTab(tab) ?? []);
  const active = tabs.some((tab) => tab.session === value.active) ? (value.active as string) : null;
  return { tabs, active };
}

function readTab(value: unknown): TerminalTab | undefined {
  if (!isRecord(value) || !isRecord(value.klient)) return undefined;
  const { session, klient } = value;
  const { id, username, hostname } = klient;
  if (![session, id, username, hostname].every((text) => typeof text === "string" && text !== "")) return undefined;
  return { session: session as string, klient: { id: id as string, username: username as string, hostname: hostname as string } };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
