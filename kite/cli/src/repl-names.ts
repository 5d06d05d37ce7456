import { inspect } from "node:util";
import type { MethodDescription } from "@kite-mesh/kite";
import { signature } from "./type-text.ts";

/** Calls a method by its dotted name. */
export type CallByName = (name: string, args: readonly unknown[]) => Promise<unknown>;

/** The methods of a kite as an object: `fs.readFile` is found at `tree.fs.readFile`, and shows its type when it is looked at. */
export function methodTree(methods: readonly MethodDescription[], call: CallByName): object {
  const root: object = Object.create(null);
  // Shorter names first: `fs` may be a method as well as what `fs.readFile` stands in.
  for (const described of [...methods].sort((a, b) => a.name.length - b.name.length)) {
    const steps = described.name.split(".");
    const last = steps.pop() ?? "";
    place(steps.reduce(within, root), last, callable(described, call));
  }
  return root;
}

/** For a kite that does not say what it serves: any name can be called. */
export function anyMethod(call: CallByName, path = ""): object {
  const target = (...args: unknown[]) => call(path, args);
  return new Proxy(target, {
    // A promise resolved with this must not take it for another promise.
    get: (_, name) => (typeof name === "symbol" || name === "then" ? undefined : anyMethod(call, path === "" ? name : `${path}.${name}`)),
  });
}

/** What can be typed for a name, or a word after `.types`: `complete("fs.re", …)` → `["fs.readFile"]`. */
export function complete(word: string, methods: readonly MethodDescription[]): string[] {
  return methods.map(({ name }) => name).filter((name) => name.startsWith(word));
}

/**
 * What stands for a method at the prompt: its name, as far as JavaScript takes it, else `fs["odd name"]`. One that begins with a
 * word of JavaScript's own is found below `under`.
 */
function expression(name: string, under = ""): string {
  const [first = "", ...rest] = name.split(".");
  const own = under === "" && isOurs(first) ? first : `${under || "kite"}${step(first)}`;
  return `${own}${rest.map(step).join("")}`;
}

/** What Tab offers for what was typed. Where JavaScript has the word as well, both are offered. */
export function completeExpression(word: string, methods: readonly MethodDescription[], names: readonly string[]): string[] {
  const under = names.find((name) => word.startsWith(`${name}.`) && !methods.some((known) => known.name.startsWith(`${name}.`))) ?? "";
  const found = complete(under === "" ? word : word.slice(under.length + 1), methods);
  return found.flatMap((name) => {
    const first = name.split(".")[0] ?? "";
    return under === "" && isJavaScripts(first) ? [first, expression(name)] : [expression(name, under)];
  });
}

/** The methods whose first word means something else at the prompt. */
export function shadowed(methods: readonly MethodDescription[]): string[] {
  return [...new Set(methods.map(({ name }) => name.split(".")[0] ?? "").filter((first) => !isOurs(first)))];
}

/** Whether JavaScript has a value of this name, which stays what it is. */
export function isJavaScripts(word: string): boolean {
  return GLOBALS.has(word) || word in Object.prototype;
}

function isOurs(word: string): boolean {
  return IDENTIFIER.test(word) && !RESERVED.has(word) && !isJavaScripts(word);
}

function step(word: string): string {
  return IDENTIFIER.test(word) ? `.${word}` : `[${JSON.stringify(word)}]`;
}

// As they are before the prompt puts the kite's own among them.
const GLOBALS: ReadonlySet<string> = new Set(Object.getOwnPropertyNames(globalThis));
const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;
const RESERVED: ReadonlySet<string> = new Set(
  (
    "await break case catch class const continue debugger default delete do else enum export extends false finally for function if import in " +
    "instanceof let new null return static super switch this throw true try typeof var void while with yield"
  ).split(" "),
);

/** A name that JavaScript takes: `image-store` → `imageStore`. */
export function identifier(name: string): string {
  return name.replaceAll(/[^\w$]+(\w?)/g, (_, letter: string) => letter.toUpperCase()).replace(/^\d/, "_$&");
}

function callable(described: MethodDescription, call: CallByName): object {
  const fn = (...args: unknown[]) => call(described.name, args);
  return Object.defineProperty(fn, inspect.custom, { value: () => signature(described) });
}

function within(node: object, step: string): object {
  const inner: unknown = Object.getOwnPropertyDescriptor(node, step)?.value;
  if ((typeof inner === "object" || typeof inner === "function") && inner !== null) return inner;
  return place(node, step, Object.create(null));
}

/** Defined and not assigned: a stranger's method may be called `__proto__`. */
function place(node: object, name: string, value: object): object {
  Object.defineProperty(node, name, { value, enumerable: true, configurable: true, writable: true });
  return value;
}
