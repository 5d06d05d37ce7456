import { createRequire } from "node:module";

/** The part of node-pty that klient uses; both packages below have it. */
export interface PtyModule {
  spawn(file: string, args: string[], options: PtySpawnOptions): RawPty;
}

export interface PtySpawnOptions {
  name: string;
  cols: number;
  rows: number;
  cwd: string;
  env: Record<string, string>;
  /** null: bytes, not text. A chunk may end in the middle of a character. */
  encoding: null;
}

/**
 * A pty as node-pty hands it out. The names with an underscore are node-pty's own; they are the same in both packages,
 * whose versions are pinned exactly in package.json for this reason. `pty.ts` says what each is needed for.
 */
export interface RawPty {
  readonly pid: number;
  resize(cols: number, rows: number): void;
  onExit(listener: (exit: { exitCode: number; signal?: number }) => void): unknown;
  readonly _fd: number;
  readonly _pty: string;
  readonly _socket: import("node:tty").ReadStream;
  _emittedClose: boolean;
}

/** node-pty is compiled on the machine; the second carries a binary, for machines without a compiler or with install scripts off. */
export const PTY_MODULES = ["node-pty", "@lydell/node-pty"] as const;
export type PtyModuleName = (typeof PTY_MODULES)[number];

/**
 * Loads the first of the two packages that works here.
 *
 * @throws {Error} naming both failures when neither loads.
 */
export function loadPtyModule(candidates: readonly PtyModuleName[] = PTY_MODULES): { name: PtyModuleName; module: PtyModule } {
  const require = createRequire(MODULES_FROM);
  const failures: string[] = [];
  for (const name of candidates) {
    try {
      return { name, module: require(name) as PtyModule };
    } catch (cause) {
      failures.push(`${name}: ${cause instanceof Error ? cause.message.split("\n")[0] : String(cause)}`);
    }
  }
  throw new Error(`no terminal library loads here; install one of them with npm (${failures.join("; ")})`);
}

/** Replaced by the bundler with the place where klient's own node_modules are found: the bundle itself may lie anywhere. */
declare const KLIENT_MODULES_FROM: string | undefined;
const MODULES_FROM = typeof KLIENT_MODULES_FROM === "string" ? KLIENT_MODULES_FROM : import.meta.url;
