/**
 * A short text that is the same for the same arguments, whatever the order of their properties. It finds a key that was used
 * again by mistake, which is no attack: the caller would only fool itself. So it is fast instead of cryptographic.
 */
export function fingerprint(value: unknown): string {
  const hash = new Hash();
  feed(value, hash);
  return hash.digest();
}

/** Whether a value holds functions or streams: what lives in one session, and cannot be given out again. */
export function isLive(value: unknown, depth = 0): boolean {
  if (typeof value === "function") return true;
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return false;
  // Deeper than any value that can be sent, or contained in itself.
  if (depth > MAX_DEPTH || Symbol.asyncIterator in value) return true;
  return Object.values(value).some((item) => isLive(item, depth + 1));
}

const MAX_DEPTH = 1_000;

function feed(value: unknown, hash: Hash): void {
  if (typeof value === "string") return hash.text(`s${value.length}:${value}`);
  if (typeof value !== "object" || value === null)
    return hash.text(typeof value === "function" ? "f" : `${typeof value} ${String(value)};`);
  if (value instanceof Uint8Array) return hash.bytes(value);
  if (value instanceof Date) return hash.text(`d${value.getTime()};`);
  // Only what can be seen without waiting for it.
  if (value instanceof Blob) return hash.text(`B${value.size}:${value.type};`);
  if (value instanceof Error) return feed([value.name, value.message], hash);
  // Functions and streams are new ones in every call: where one stands counts, not which.
  if (Symbol.asyncIterator in value) return hash.text("a");
  if (Array.isArray(value)) {
    hash.text(`[${value.length}:`);
    for (const item of value) feed(item, hash);
    return;
  }
  const record = value as Record<string, unknown>;
  hash.text("{");
  for (const key of Object.keys(record).sort()) {
    if (record[key] === undefined) continue;
    feed(key, hash);
    feed(record[key], hash);
  }
  hash.text("}");
}

/** FNV-1a, twice with different beginnings: 64 bits, without a Node built-in and without a promise. */
class Hash {
  #left = 0x811c9dc5;
  #right = 0x9e3779b9;

  text(text: string): void {
    for (let index = 0; index < text.length; index++) this.#add(text.charCodeAt(index));
  }

  bytes(bytes: Uint8Array): void {
    this.text(`b${bytes.length}:`);
    for (const byte of bytes) this.#add(byte);
  }

  digest(): string {
    return `${(this.#left >>> 0).toString(36)}-${(this.#right >>> 0).toString(36)}`;
  }

  #add(unit: number): void {
    this.#left = Math.imul(this.#left ^ unit, FNV_PRIME);
    // Mixed otherwise than the first, or the second lane would say nothing that the first does not.
    this.#right = Math.imul(this.#right ^ (unit << 7) ^ (this.#right >>> 15), FNV_PRIME);
  }
}

const FNV_PRIME = 0x01000193;
