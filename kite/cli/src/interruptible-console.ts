import { Console } from "node:console";
import { writeSync } from "node:fs";
import { wantsColor } from "./options.ts";

/**
 * A console whose loops Ctrl-C ends. V8 can lose the interruption of a script, and every later one, when it arrives inside of a
 * stream's own code: a loop that prints by Node's console may then not be ended at all. This one writes without a stream.
 *
 * @param place is called with each write, and puts it where it belongs.
 */
export function interruptibleConsole(place: (write: () => void) => void): Console {
  return new Console({
    // A Console asks no more of them as long as it passes errors on.
    stdout: writingAtOnce(process.stdout, place) as NodeJS.WriteStream,
    stderr: writingAtOnce(process.stderr, place) as NodeJS.WriteStream,
    ignoreErrors: false,
    colorMode: process.stdout.isTTY === true && wantsColor(),
  });
}

function writingAtOnce(stream: Output, place: (write: () => void) => void): Pick<NodeJS.WriteStream, "write"> {
  return {
    write: (text: string) => {
      place(() => writeAtOnce(stream, text));
      return true;
    },
  };
}

type Output = NodeJS.WriteStream & { fd: number };

function writeAtOnce(stream: Output, text: string): void {
  let rest: Uint8Array = Buffer.from(text);
  try {
    while (rest.byteLength > 0) rest = rest.subarray(writeSync(stream.fd, rest));
  } catch {
    // Full or closed: the stream waits for room, and tells of what is worse.
    stream.write(rest);
  }
}
