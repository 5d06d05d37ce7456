import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { StringDecoder } from "node:string_decoder";
import { alternateScreen } from "./alternate-screen.ts";
import { deferred } from "./deferred.ts";
import { leaveKeys } from "./leave-keys.ts";

/** This side's terminal, in raw mode: every key goes to the other side. */
export interface Terminal {
  /** Columns, then rows. */
  size(): [number, number];
  /** Answered when the terminal has taken it. */
  write(data: Uint8Array | string): Promise<void>;
  /** A line of our own, between the other side's. */
  say(text: string): void;
  /** Makes an editor or a viewer paint its screen again; a shell has nothing to paint. */
  repaint(): void;
  /** Where keys and changes of the size go from now on; null: nowhere. */
  use(receiver: Receiver | null): void;
  /** The person has left: by the keys `~.`, by closing the window, or by a signal. */
  readonly left: Promise<{ how: "left"; exitCode?: number }>;
  /** Gives the terminal back as it was. Also happens when the process exits for any reason. */
  restore(): void;
}

export interface Receiver {
  input(data: string): void;
  resize(columns: number, rows: number): void;
}

/** Takes the terminal of this process; whoever opened it restores it. */
export function openTerminal(): Terminal {
  const { stdin, stdout } = process;
  const left = deferred<{ how: "left"; exitCode?: number }>();
  const decoder = new StringDecoder("utf8");
  const keys = leaveKeys();
  const screen = alternateScreen();
  let receiver: Receiver | null = null;
  let restored = false;

  const onData = (chunk: Buffer) => {
    const { send, leave } = keys.read(decoder.write(chunk));
    if (send !== "") receiver?.input(send);
    if (leave) left.resolve({ how: "left" });
  };
  const onResize = () => receiver?.resize(...size());
  const onEnd = () => left.resolve({ how: "left", exitCode: 129 });
  const signals = [
    ["SIGTERM", 143],
    ["SIGHUP", 129],
    ["SIGINT", 130],
  ] as const;
  const handlers = signals.map(([signal, exitCode]) => [signal, () => left.resolve({ how: "left", exitCode })] as const);
  const size = (): [number, number] => [stdout.columns || 80, stdout.rows || 24];

  const restore = () => {
    if (restored) return;
    restored = true;
    stdin.off("data", onData).off("end", onEnd).off("error", onEnd);
    stdout.off("resize", onResize).off("error", onEnd);
    for (const [signal, handler] of handlers) process.off(signal, handler);
    process.off("exit", restore);
    if (stdin.isTTY) stdin.setRawMode(false);
    stdin.pause();
    if (!stdout.destroyed) stdout.write(`${screen.entered ? LEAVE_SCREEN : ""}${RESET}`);
  };

  process.on("exit", restore);
  for (const [signal, handler] of handlers) process.on(signal, handler);
  stdout.on("resize", onResize).on("error", onEnd);
  stdin.on("data", onData).on("end", onEnd).on("error", onEnd);
  stdin.setRawMode(true);
  keepOutputRaw();
  stdin.resume();

  return {
    size,
    write: async (data) => {
      screen.read(data);
      if (!restored && !stdout.write(data)) await once(stdout, "drain").catch(() => {});
    },
    say(text) {
      if (restored) return;
      // What an editor has painted is not scrolled: there the words go over its last line, until it paints again.
      const [before, after] = screen.entered ? ["\x1b7\x1b[999;1H\x1b[2K", "\x1b8"] : ["\r\n", "\r\n"];
      stdout.write(`${before}\x1b[2m[kite: ${text}]\x1b[0m${after}`);
    },
    repaint() {
      if (!screen.entered) return;
      const [columns, rows] = size();
      receiver?.resize(columns, rows - 1);
      receiver?.resize(columns, rows);
    },
    use: (next) => {
      receiver = next;
    },
    left: left.promise,
    restore,
  };
}

/**
 * Node's raw mode still turns every line feed of the output into two characters; a program over there that moves the cursor
 * down by a line feed would find it in the first column. Leaving raw mode undoes this too.
 */
function keepOutputRaw(): void {
  // Without stty the terminal works all the same, but for such programs.
  spawnSync("stty", ["-opost"], { stdio: ["inherit", "ignore", "ignore"], timeout: 2000 });
}

const LEAVE_SCREEN = "\x1b[?1049l";
// What else a program on the other side may have switched on and can no longer switch off: hidden cursor, mouse,
// bracketed paste, focus events, application keys, colours. A new line, because the cursor may stand anywhere.
const RESET = "\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1004l\x1b[?1l\x1b>\x1b[0m\r\n";
