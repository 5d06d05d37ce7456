import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";

/** What a container of an image starts, and where. */
export interface Started {
  readonly command: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

interface Stage {
  /** Stands for `/`. */
  readonly root: string;
  cwd: string;
  readonly env: Record<string, string>;
  command: readonly string[];
}

const STEP_LIMIT_MS = 120_000;

/**
 * Does what a Dockerfile says, step by step, in empty folders: for a machine without Docker, where a path that is not there, a
 * command that fails and a file that did not come along are found all the same. The base image is this machine.
 */
export async function buildImage(context: string, scratch: string): Promise<Started> {
  const ignored = (await readFile(path.join(context, ".dockerignore"), "utf8")).split("\n");
  const stages = new Map<string, Stage>();
  let stage: Stage | undefined;
  for (const line of (await readFile(path.join(context, "Dockerfile"), "utf8")).split("\n")) {
    const [step = "", ...words] = line.split(" ");
    if (line === "" || step.startsWith("#") || step === "USER" || step === "EXPOSE") continue;
    if (step === "FROM") {
      const name = words[1] === "AS" ? (words[2] ?? "") : String(stages.size);
      stage = { root: path.join(scratch, name), cwd: "/", env: {}, command: [] };
      stages.set(name, stage);
      continue;
    }
    if (stage === undefined) throw new Error(`expected FROM before ${line}`);
    if (step === "COPY") await copy(stage, words, { context, ignored, stages });
    else await follow(stage, step, words);
  }
  if (stage === undefined || stage.command.length === 0) throw new Error("expected the Dockerfile to end in a CMD");
  return { command: stage.command, cwd: path.join(stage.root, stage.cwd), env: stage.env };
}

async function follow(stage: Stage, step: string, words: readonly string[]): Promise<void> {
  const rest = words.join(" ");
  if (step === "WORKDIR") {
    stage.cwd = rest;
    await mkdir(path.join(stage.root, rest), { recursive: true });
  } else if (step === "ENV") for (const pair of words) stage.env[pair.split("=")[0] ?? ""] = pair.split("=")[1] ?? "";
  else if (step === "CMD") stage.command = JSON.parse(rest) as string[];
  else if (step === "RUN") {
    const env = { ...process.env, ...stage.env };
    await promisify(execFile)("sh", ["-c", rest], { cwd: path.join(stage.root, stage.cwd), env, timeout: STEP_LIMIT_MS });
  } else throw new Error(`a Dockerfile with ${step} cannot be followed here`);
}

interface Sources {
  readonly context: string;
  readonly ignored: readonly string[];
  readonly stages: ReadonlyMap<string, Stage>;
}

async function copy(stage: Stage, words: readonly string[], { context, ignored, stages }: Sources): Promise<void> {
  const from = /^--from=(.+)$/.exec(words[0] ?? "")?.[1];
  const paths = words.slice(from === undefined ? 0 : 1);
  const target = path.join(stage.root, stage.cwd, paths.at(-1) ?? "");
  const root = from === undefined ? context : stages.get(from)?.root;
  if (root === undefined) throw new Error(`COPY ${words.join(" ")} is from a stage that is not there`);
  for (const source of paths.slice(0, -1)) {
    for (const found of await matching(root, source)) {
      if (from === undefined && ignored.includes(found)) throw new Error(`COPY ${found} is of what .dockerignore leaves out`);
      const isFolder = paths.length > 2 || paths.at(-1)?.endsWith("/");
      await cp(path.join(root, found), isFolder ? path.join(target, path.basename(found)) : target, { recursive: true });
    }
  }
}

/** As Docker has it: a pattern may match nothing, where others stand beside it. */
async function matching(root: string, source: string): Promise<string[]> {
  if (!source.startsWith("*")) return [source];
  return (await readdir(root)).filter((name) => name.endsWith(source.slice(1)));
}
