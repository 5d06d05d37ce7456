/**
 * Whether brackets outside of strings are nested beyond `max`. Asked before a text from a stranger is parsed, so that
 * nothing recursive ever meets a hostile depth.
 *
 * @example nestedBeyond('[[1]]', 1) // true
 */
export function nestedBeyond(text: string, max: number): boolean {
  let depth = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    // Of a bracket or a brace, the brace.
    const brace = code | 0x20;
    if (code === QUOTE) index = endOfString(text, index);
    else if (brace === OPEN_BRACE) {
      if (++depth > max) return true;
    } else if (brace === CLOSE_BRACE) depth--;
  }
  return false;
}

/** The index of the quote that ends the string beginning at `start`; a text that ends before is none of JSON's. */
function endOfString(text: string, start: number): number {
  for (let index = start + 1; ; index++) {
    index = text.indexOf('"', index);
    if (index === -1) return text.length;
    let slashes = 0;
    while (text.charCodeAt(index - 1 - slashes) === BACKSLASH) slashes++;
    if (slashes % 2 === 0) return index;
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
