import { KiteError } from "../errors.ts";

/** Where a kite is asked for a link. Only the kite itself should be allowed to subscribe here. */
export function acceptSubject(address: string): string {
  return `kite.${address}.accept`;
}

/** A new subject for one side of one link. With 128 random bits it is not to be guessed while the link lives. */
export function linkSubject(address: string): string {
  const random = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `kite.${address}.link.${random}`;
}

/**
 * Whether a subject that a stranger named is one side of a link. Anything else is not answered: with this kite's rights a
 * stranger could publish where it may not itself.
 */
export function isLinkSubject(subject: string): boolean {
  return subject.length <= MAX_SUBJECT && LINK.test(subject);
}

/** Makes one word of a subject of any name, such as a kite's id; different names stay different. */
export function toAddress(name: string): string {
  return encodeURIComponent(name).replace(/[.!~*'()]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** `nats://5f0c` for the address `5f0c`. */
export function toUrl(address: string): string {
  return `nats://${address}`;
}

/**
 * Reads the address out of a url.
 *
 * @throws {KiteError} `invalid_argument` when it is not `nats://<address>`.
 */
export function addressOf(url: string): string {
  const address = URL_FORM.exec(url)?.[1];
  if (address === undefined || address.length > MAX_ADDRESS) {
    throw new KiteError("invalid_argument", `an address such as nats://<kite id> was expected, got ${url.slice(0, MAX_ADDRESS)}`);
  }
  return address;
}

/**
 * Makes sure that an address that somebody chose is one word.
 *
 * @throws {KiteError} `invalid_argument` otherwise.
 */
export function checkAddress(address: string): string {
  return addressOf(toUrl(address));
}

// Longer than any encoded id that is in use; NATS itself takes subjects of a few KiB.
const MAX_ADDRESS = 512;
const MAX_SUBJECT = 600;
const LINK = /^kite[.][\w%-]+[.]link[.][0-9a-f]{32}$/;
const URL_FORM = /^nats:[/]{2}([\w%-]+)[/]?$/;
