import type { JsonSchema } from "./json-schema.ts";

/** Where a range ends, in the words of its schema. */
export interface Bound {
  readonly keyword: string;
  readonly value: number;
}

/** One end of one kind of range: `open` is the keyword for an end that does not belong to it. */
export interface Range {
  readonly type: "number" | "string" | "array" | "object";
  readonly isUpper: boolean;
  readonly closed: string;
  readonly open?: string;
}

export const RANGES: readonly Range[] = [
  { type: "number", isUpper: true, closed: "maximum", open: "exclusiveMaximum" },
  { type: "number", isUpper: false, closed: "minimum", open: "exclusiveMinimum" },
  { type: "string", isUpper: true, closed: "maxLength" },
  { type: "string", isUpper: false, closed: "minLength" },
  { type: "array", isUpper: true, closed: "maxItems" },
  { type: "array", isUpper: false, closed: "minItems" },
  { type: "object", isUpper: true, closed: "maxProperties" },
  { type: "object", isUpper: false, closed: "minProperties" },
];

export const BOUND_KEYWORDS: readonly string[] = RANGES.flatMap(({ closed, open }) => (open === undefined ? [closed] : [closed, open]));

/** The end that holds: of `minimum` and `exclusiveMinimum` the one that allows less. */
export function boundOf(schema: JsonSchema, range: Range): Bound | undefined {
  const said = [range.closed, range.open].flatMap((keyword) => {
    const value = keyword === undefined ? undefined : schema[keyword];
    return keyword !== undefined && typeof value === "number" ? [{ keyword, value }] : [];
  });
  return said.reduce<Bound | undefined>((held, bound) => (held === undefined || isInside(bound, held, range) ? bound : held), undefined);
}

/**
 * Whether a range that ends at `inner` ends inside one that ends at `outer`. Of whole numbers alone, above 0 is from 1 on.
 */
export function isInside(inner: Bound, outer: Bound, range: Range, isWhole = false): boolean {
  const [a, b] = isWhole ? [wholeEnd(inner, range), wholeEnd(outer, range)] : [inner, outer];
  if (a.value !== b.value) return range.isUpper ? a.value < b.value : a.value > b.value;
  return a.keyword === range.open || b.keyword === range.closed;
}

/** Whether a value is on the side of the bound where it may be. */
export function isWithin(value: number, { keyword, value: end }: Bound, { isUpper, open }: Range): boolean {
  if (value === end) return keyword !== open;
  return isUpper ? value < end : value > end;
}

function wholeEnd({ keyword, value }: Bound, { isUpper, open, closed }: Range): Bound {
  const isOpen = keyword === open;
  const end = isUpper ? (isOpen ? Math.ceil(value) - 1 : Math.floor(value)) : isOpen ? Math.floor(value) + 1 : Math.ceil(value);
  return { keyword: closed, value: end };
}
