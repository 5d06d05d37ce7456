/** One JSON value on one line. */
export function json(value: unknown): string {
  return JSON.stringify(value) ?? "null";
}

/** A stranger's words: without what would steer the terminal, or show them in another order than they are in. */
export function plain(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Bidi_Control}]+/gu, " ").trim();
}

/** Columns as wide as their widest cell; some of the words are strangers'. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows.map((row) => row.map(plain))];
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines.map((line) => padded(line, widths)).join("\n");
}

function padded(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, column) => cell.padEnd(widths[column] ?? 0))
    .join("  ")
    .trimEnd();
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** For what is said about the work and is not its result. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** A time as people read it, in their own zone; a dash for none. */
export function when(time: string | number | null): string {
  return time === null ? "-" : new Date(time).toLocaleString("sv-SE");
}
