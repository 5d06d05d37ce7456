/** How long ago, in one unit: "now", "42 s", "5 min", "3 h", "12 d". */
export function formatAge(thenMs: number, nowMs: number): string {
  const seconds = Math.floor((nowMs - thenMs) / 1000);
  if (seconds < 1) return "now";
  const unit = UNITS.find(({ seconds: length }) => seconds >= length) ?? SECOND;
  return `${Math.floor(seconds / unit.seconds)} ${unit.name}`;
}

/** A moment in full, for tooltips. */
export function formatMoment(thenMs: number): string {
  return new Date(thenMs).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** The time of day, for something that happened today. */
export function formatClock(thenMs: number): string {
  return new Date(thenMs).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

/** Calls `tick` every few seconds, and whenever the page is looked at again, so that ages on the page stay true. */
export function everyFewSeconds(tick: () => void, signal: AbortSignal): void {
  const timer = setInterval(tick, AGE_REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  document.addEventListener("visibilitychange", tick, { signal });
}

const SECOND = { name: "s", seconds: 1 };
const UNITS = [{ name: "d", seconds: 86_400 }, { name: "h", seconds: 3_600 }, { name: "min", seconds: 60 }, SECOND];
// Ages in seconds need not be exact; a fresh row should not say "now" for long.
const AGE_REFRESH_MS = 5_000;
