import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const CHECKOUT = fileURLToPath(new URL("..", import.meta.url));
const FOLDERS = ["kite/src", "kontrol/src", "klient", "kloud", "gateway", "deploy", "test"];

/** The code of an `@example`. */
export interface Example {
  /** Of the file, in the repository. */
  path: string;
  line: number;
  code: string;
}

/** Every `@example` of the sources. */
export function allExamples(): Example[] {
  return FOLDERS.flatMap(sourcesIn).flatMap((file) => {
    const text = readFileSync(path.join(CHECKOUT, file), "utf8");
    return text.includes("@example") ? examplesOf(file, text) : [];
  });
}

function sourcesIn(folder: string): string[] {
  return readdirSync(path.join(CHECKOUT, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => /(?<![.]d|[.]test)[.]ts$/.test(file) && !/(^|\/)(node_modules|dist)\//.test(file))
    .map((file) => path.join(folder, file));
}

function examplesOf(file: string, text: string): Example[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);
  const found: Example[] = [];
  const look = (node: ts.Node): void => {
    for (const tag of ts.getJSDocTags(node))
      if (tag.tagName.text === "example" && tag.parent.parent === node)
        found.push({
          path: file,
          line: source.getLineAndCharacterOfPosition(tag.getStart()).line + 1,
          code: ts.getTextOfJSDocComment(tag.comment) ?? "",
        });
    ts.forEachChild(node, look);
  };
  look(source);
  return found;
}

/** What examples take for granted: the kite that one has, what it serves, and whom it calls. */
export const KNOWN_NAMES = `
import type * as kites from "@kite-mesh/kite";
import type * as contracts from "@kite-mesh/kontrol/contract";
declare global {
  const z: typeof import("zod").z;
  const assert: typeof import("node:assert/strict");
  const connect: typeof import("nats").connect;
  const expect: typeof import("vitest").expect;
  const pino: typeof import("pino").pino;
  const readFile: typeof import("node:fs/promises").readFile;
  const spawn: typeof import("node:child_process").spawn;
  const WebSocketServer: typeof import("ws").WebSocketServer;

  interface MathContract { square(n: number): number; add(a: number, b: number): number }
  interface ClockContract { now(): string }
  interface PricesContract { of(what: string): number }
  interface PromptContract { kite: { prompt(question: string): string } }
  interface LogsContract { tail(file: string): kites.RemoteStream<string> }
  type KontrolContract = contracts.KontrolContract;

  const kite: kites.Kite;
  const math: kites.Remote<MathContract>;
  const logs: kites.Remote<LogsContract>;
  const kontrol: kites.Remote<KontrolContract>;
  const methods: { square: kites.Method<[number], number> };
  const call: kites.Call;
  const released: kites.Contract;
  const log: kites.Logger;
  const keys: kites.KeySet;
  const kiteKey: kites.KiteKey;
  const auth: kites.Auth;
  const identity: kites.Identity;
  const options: kites.KiteOptions;
  const signal: AbortSignal;
  const program: import("commander").Command;
  const home: string;
  const key: string;
  const kontrolUrl: string;
  const path: string;
  const text: string;
  const token: string;
  const url: string;
  const Order: import("zod").ZodType<{ item: string }>;
  const orders: { place(order: { item: string }): Promise<string> };
  const db: { query(text: string, values: unknown[]): Promise<{ rows: unknown[] }> };
  // Of the innermost parts alone.
  const sleep: (ms: number, options: { signal: AbortSignal }) => Promise<void>;
  const attempt: () => Promise<boolean>;
  const connection: import("node:net").Socket;
  const socket: import("node:net").Socket;
  const frame: Uint8Array<ArrayBuffer>;
  const bytes: Uint8Array<ArrayBuffer>;
  const heartbeatMs: number;
  const ticket: string;
}
`;
