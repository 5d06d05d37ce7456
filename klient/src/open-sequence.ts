/**
 * Follows a terminal's output and knows the bytes at its end that are not whole yet: half an escape sequence or half a
 * character. A snapshot of the screen does not contain them, so whoever joins there must be given them first; without
 * them the other half, which comes next, would be printed as garbage.
 */
export class OpenSequence {
  #bytes: Buffer = EMPTY;
  #overlong = false;

  /** What a viewer that joins here needs, after the snapshot. */
  get bytes(): Buffer {
    return this.#bytes;
  }

  /** Whether the output stands in the middle of something. */
  get isOpen(): boolean {
    return this.#overlong || this.#bytes.length > 0;
  }

  push(chunk: Buffer): void {
    if (this.#overlong && !endsOverlong(chunk)) return;
    this.#overlong = false;
    const data = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    const start = openFrom(data);
    const open = data.length - start;
    this.#overlong = open > MAX_OPEN_BYTES;
    // A copy: a slice would keep the whole chunk in memory.
    this.#bytes = open === 0 || this.#overlong ? EMPTY : Buffer.from(data.subarray(start));
  }
}

/** Where the unfinished end of `data` begins; its length when everything is whole. */
function openFrom(data: Buffer): number {
  const last = data.lastIndexOf(ESC);
  if (last >= 0 && !isWhole(data.subarray(last))) return last;
  return openCharacterFrom(data);
}

/** Whether a sequence that begins with ESC, and contains no other, has its end. */
function isWhole(sequence: Buffer): boolean {
  const kind = sequence[1];
  if (kind === undefined) return false;
  if (kind === 0x5b /* [ */) return hasByte(sequence, 2, 0x40, 0x7e) || isAborted(sequence);
  // An operating system command ends with BEL; other strings, and it too, with ESC \, which is then the last ESC.
  if (kind === 0x5d /* ] */) return sequence.includes(BEL) || isAborted(sequence);
  if (STRINGS.has(kind)) return isAborted(sequence);
  if (kind >= 0x20 && kind <= 0x2f) return hasByte(sequence, 2, 0x30, 0x7e) || isAborted(sequence);
  return true;
}

function isAborted(sequence: Buffer): boolean {
  return sequence.includes(CAN) || sequence.includes(SUB);
}

function hasByte(data: Buffer, from: number, low: number, high: number): boolean {
  for (let index = from; index < data.length; index++) {
    const byte = data[index] as number;
    if (byte >= low && byte <= high) return true;
  }
  return false;
}

/** Looks at the last three bytes for the beginning of a UTF-8 character that needs more. */
function openCharacterFrom(data: Buffer): number {
  for (let back = 1; back <= 3 && back <= data.length; back++) {
    const byte = data[data.length - back] as number;
    if (byte < 0x80) break;
    if (byte >= 0xc0) {
      const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return needed > back ? data.length - back : data.length;
    }
  }
  return data.length;
}

function endsOverlong(chunk: Buffer): boolean {
  return chunk.includes(ESC) || chunk.includes(BEL) || isAborted(chunk);
}

const EMPTY = Buffer.alloc(0);
const ESC = 0x1b;
const BEL = 0x07;
const CAN = 0x18;
const SUB = 0x1a;
// P, X, ^ and _ begin device control, start of string, privacy message and application command.
const STRINGS: ReadonlySet<number> = new Set([0x50, 0x58, 0x5e, 0x5f]);
// An image sent through the terminal can have megabytes; a viewer that joins in the middle does without it.
const MAX_OPEN_BYTES = 64 * 1024;
