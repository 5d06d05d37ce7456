import { EXIT, Failure } from "./failure.ts";

/**
 * The number that a flag was given.
 *
 * @throws {Failure} naming the flag, what it should be and what came, so that nobody has to read a schema's words.
 */
export function wholeNumber(flag: string, text: string, most = Number.MAX_SAFE_INTEGER): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= 1 && number <= most) return number;
  const expected = most === Number.MAX_SAFE_INTEGER ? "a whole number from 1" : `a whole number from 1 to ${most}`;
  throw new Failure(`${flag} is ${expected}, got "${text}"`, EXIT.usage);
}
