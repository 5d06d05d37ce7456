import { createInterface, type Interface } from "node:readline";
import { createInterface as createPromises } from "node:readline/promises";
import { Writable } from "node:stream";
import { EXIT, Failure } from "./failure.ts";
import { isTerminal, note } from "./output.ts";

/** Whether there is somebody who can be asked, and sees the question. */
export const canAsk = (): boolean => process.stdin.isTTY === true && isTerminal();

/** Asks for a yes; anything else is a no. */
export async function askYes(question: string): Promise<boolean> {
  const lines = createPromises({ input: process.stdin, output: process.stdout });
  lines.once("SIGINT", leave);
  try {
    return /^y(es)?$/i.test((await lines.question(`${question} [y/N] `)).trim());
  } finally {
    lines.close();
  }
}

/** Where secrets come from: a person who does not see what he types, or the lines of a pipe. Whoever opened it closes it. */
export interface Secrets extends Disposable {
  /** Whether a person types: only he mistypes, and is asked twice. */
  readonly typed: boolean;
  /** @throws {Failure} when there is no answer. */
  ask(question: string): Promise<string>;
}

export function openSecrets(): Secrets {
  return process.stdin.isTTY === true ? typedSecrets() : pipedSecrets();
}

function typedSecrets(): Secrets {
  let open: Interface | undefined;
  return {
    typed: true,
    ask: (question) =>
      new Promise((resolve, reject) => {
        // Standard output is for results. What is typed is echoed into nothing.
        process.stderr.write(question);
        const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
        const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true, historySize: 0 });
        open = lines;
        lines.once("SIGINT", leave);
        lines.once("close", () => {
          note("");
          reject(noAnswer(question));
        });
        lines.question("", (answer) => {
          resolve(answer);
          lines.close();
        });
      }),
    [Symbol.dispose]: () => open?.close(),
  };
}

function pipedSecrets(): Secrets {
  const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  const answers = lines[Symbol.asyncIterator]();
  return {
    typed: false,
    async ask(question) {
      const { value, done } = await answers.next();
      if (done || value === "") throw noAnswer(question);
      return value;
    },
    [Symbol.dispose]: () => lines.close(),
  };
}

function noAnswer(question: string): Failure {
  return new Failure(`nothing was given for "${question.trim().replace(/:$/, "")}"`, EXIT.usage);
}

function leave(): void {
  note("");
  process.exit(130);
}
