import { wrongUse } from "./failure.ts";

/** A flag's number. An empty text is no zero: it is a variable of the shell that was not set. */
export function wholeNumber(flag: string, text: string, most = Number.MAX_SAFE_INTEGER): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= 1 && number <= most) return number;
  const expected = most === Number.MAX_SAFE_INTEGER ? "a whole number from 1" : `a whole number from 1 to ${most}`;
  throw wrongUse(`${flag} is ${expected}, got "${text}"`);
}
