import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { EXIT, Failure } from "./failure.ts";

/**
 * What a person types for a method's arguments: JSON; `@file` and `-` (standard input) for JSON from there; and words that
 * need no quotes because they cannot be read as JSON.
 */
export async function readArguments(words: readonly string[], stdin: NodeJS.ReadableStream = process.stdin): Promise<unknown[]> {
  if (words.filter((word) => word === "-").length > 1)
    throw new Failure('"-" (standard input) can be read once, and stands there twice', EXIT.usage);
  return Promise.all(words.map((word) => readArgument(word, stdin)));
}

async function readArgument(word: string, stdin: NodeJS.ReadableStream): Promise<unknown> {
  if (word === "-") return parseText(await readAll(stdin), "standard input");
  if (!word.startsWith("@") || word === "@") return parseWord(word);
  const path = word.slice(1);
  const content = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new Failure(`the argument ${word} names a file that cannot be read: ${cause.message}`, EXIT.usage, { cause });
  });
  return parseText(content, path);
}

function parseWord(word: string): unknown {
  try {
    return JSON.parse(word);
  } catch (cause) {
    // What begins like an object or a list was meant as JSON: passing it on as text would only move the error further away.
    if (/^\s*[[{]/.test(word)) throw new Failure(`the argument ${word} is not JSON: ${(cause as Error).message}`, EXIT.usage, { cause });
    return word;
  }
}

function parseText(content: string, from: string): unknown {
  try {
    return JSON.parse(content);
  } catch (cause) {
    throw new Failure(`${from} should hold JSON, and does not: ${(cause as Error).message}`, EXIT.usage, { cause });
  }
}
