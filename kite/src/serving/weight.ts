/** About how many bytes of memory a value holds: enough to bound what is kept, not to bill anybody. What stands twice counts twice. */
export function weightOf(value: unknown, depth = 0): number {
  if (typeof value === "string") return SMALL + 2 * value.length;
  if (typeof value !== "object" || value === null) return SMALL;
  if (value instanceof Blob) return SMALL + value.size;
  // The whole of what it is a view of: that is what stays in memory.
  if (ArrayBuffer.isView(value)) return SMALL + value.buffer.byteLength;
  // Deeper than any value that can be sent, or contained in itself.
  if (depth > MAX_DEPTH) return Number.POSITIVE_INFINITY;
  let weight = SMALL;
  if (value instanceof Error) weight += weightOf(value.stack) + weightOf(value.message) + weightOf(value.cause, depth + 1);
  for (const [name, item] of Object.entries(value)) weight += 2 * name.length + weightOf(item, depth + 1);
  return weight;
}

// A number in a list takes less, an object with its table of names more.
const SMALL = 16;
const MAX_DEPTH = 1_000;
