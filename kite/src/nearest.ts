/**
 * The one of `known` that was probably meant by `word`, or undefined when none is close.
 *
 * @example nearest("mat", ["math", "chat"]) // "math"
 */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  // A third of the letters may be wrong: `reosurce` finds `resource`, `foo` finds nothing.
  const wanted = word.slice(0, LONGEST).toLowerCase();
  const limit = Math.max(1, Math.floor(word.length / 3));
  let best: { name: string; distance: number } | undefined;
  for (const name of known) {
    const distance = editDistance(wanted, name.slice(0, LONGEST).toLowerCase());
    if (distance <= limit && (best === undefined || distance < best.distance)) best = { name, distance };
  }
  return best?.name;
}

// The work grows with the square of it, and a stranger chooses the word.
const LONGEST = 64;

/** Letters to add, drop, change or swap with their neighbour until `a` is `b`. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let cost = Math.min(at(previous, column) + 1, at(current, column - 1) + 1, at(previous, column - 1) + (same ? 0 : 1));
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (swapped) cost = Math.min(cost, at(before, column - 2) + 1);
      current.push(cost);
    }
    before = previous;
    previous = current;
  }
  return at(previous, b.length);
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY;
}
