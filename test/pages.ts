import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const CHECKOUT = fileURLToPath(new URL("..", import.meta.url));

/** A block of code on a page. */
export interface Block {
  /** The page, by its path in the repository. */
  page: string;
  /** Where it begins. */
  line: number;
  /** What stands behind the fence, such as `ts` or `sh`; empty for a picture. */
  language: string;
  /** The name that it has as a program, with which others on its page import it. */
  file: string | undefined;
  /** The program that must be running meanwhile. */
  beside: string | undefined;
  code: string;
}

/** A line of a block of shell: what is typed, and what is said of it. */
export interface ShellLine {
  command: string;
  comment: string;
}

// Three backticks or tildes; one inside of a list is indented.
const FENCE = /^ *(```+|~~~+)(.*)$/;

const FOLDERS = ["docs", "kite", "kontrol", "klient", "kloud", "gateway", "deploy", "test"];

/** The pages of the repository, by their paths in it. */
export function everyPage(): string[] {
  const within = FOLDERS.flatMap((folder) =>
    readdirSync(path.join(CHECKOUT, folder), { recursive: true, encoding: "utf8" }).map((file) => path.join(folder, file)),
  );
  return [...readdirSync(CHECKOUT), ...within].filter((file) => file.endsWith(".md") && !/(^|\/)(node_modules|dist)\//.test(file));
}

/** Every block of code on a page, whatever is said to be in it. */
export function blocksOf(page: string): Block[] {
  const blocks: Block[] = [];
  let open: { fence: string; block: Block } | undefined;
  for (const [index, line] of readPage(page).split("\n").entries()) {
    const [, fence = "", info = ""] = FENCE.exec(line) ?? [];
    if (open === undefined && fence !== "") open = { fence, block: blockOf(page, index + 1, info) };
    else if (open !== undefined && fence === open.fence && info === "") {
      blocks.push(open.block);
      open = undefined;
    } else if (open !== undefined) open.block.code += `${line}\n`;
  }
  if (open !== undefined) throw new Error(`${page}: the block that begins in line ${open.block.line} does not end`);
  return blocks;
}

export function readPage(page: string): string {
  return readFileSync(path.join(CHECKOUT, page), "utf8");
}

/** What a program prints, by the comments at the ends of the lines that print; `…` stands for anything. */
export function saysOf({ code }: Block): string[] {
  return [...code.matchAll(/\b(?:console\.log|log\.\w+)\(.*\); \/\/ (.*)$/gm)].map(([, said = ""]) => said);
}

/** The lines of a block of shell, without those that are empty. A `#` in quotes or in a word begins no comment. */
export function shellLinesOf({ code }: Block): ShellLine[] {
  return code
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, command = "", comment = ""] = /^((?:'[^']*'|"[^"]*"|(?! #)[^'"])*)(?: # ?(.*))?$/.exec(line) ?? [];
      return { command: command.trim(), comment: comment.trim() };
    });
}

function blockOf(page: string, line: number, info: string): Block {
  const [, language = "", file, beside] = /^(\S*)(?: file=(\S+))?(?: beside=(\S+))?$/.exec(info) ?? [];
  return { page, line, language, file, beside, code: "" };
}
