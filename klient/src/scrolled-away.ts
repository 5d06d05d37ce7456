/**
 * Leaves out the beginning of a large piece of plain output, when so many lines follow that none of it could still be
 * seen, neither on the screen nor above it. A program that prints a hundred megabytes then costs the emulator almost
 * nothing. The caller makes sure that the terminal shows its normal screen, without a scroll region, and that the output
 * does not begin in the middle of a sequence.
 *
 * @param lines What the terminal keeps: its rows and the lines above them.
 */
export function skipScrolledAway(output: Buffer, lines: number): Buffer {
  if (output.length < WORTHWHILE_BYTES) return output;
  const cut = afterLineFromEnd(output, lines + 1);
  if (cut < output.length / 2) return output;
  // A bare line feed keeps the column, so only a return before it makes the next line independent of the ones before.
  if (output[cut - 2] !== CR) return output;
  return SPECIAL.test(output.toString("latin1", 0, cut)) ? output : output.subarray(cut);
}

/** The offset after the line feed that has `count` more behind it; 0 when there are fewer. */
function afterLineFromEnd(output: Buffer, count: number): number {
  let index = output.length;
  for (let found = 0; found <= count; found++) {
    if (index <= 0) return 0;
    index = output.lastIndexOf(LF, index - 1);
    if (index < 0) return 0;
  }
  return index + 1;
}

const LF = 0x0a;
const CR = 0x0d;
// Anything that may change more than text: control characters other than bell, backspace, tab and line ends, and the eight-bit forms of escape sequences.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
const SPECIAL = /[\x00-\x06\x0b\x0c\x0e-\x1f]|\xc2[\x80-\x9f]/;
const WORTHWHILE_BYTES = 128 * 1024;
