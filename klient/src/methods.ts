import { arch, hostname, platform } from "node:os";
import { method, roleAllows } from "@kite-mesh/kite";
import { z } from "zod";
import type { DiskInfo, ExecResult, FileEntry, KlientInfo } from "./contract.ts";
import type { Programs } from "./exec.ts";
import type { Files } from "./files.ts";
import { homeOf, type MachineUser } from "./machine-user.ts";
import type { Terminals } from "./terminal.ts";

export interface MethodParts {
  user: MachineUser;
  version: string;
  providerName: string;
  programs: Programs;
  terminals: Terminals;
  files: Files;
}

/** Everything that klient serves, each method with the role that it needs. */
export function klientMethods(parts: MethodParts) {
  return {
    ...programMethods(parts),
    klient: {
      info: method({ ...reading, output: klientInfo, description: "Tells whose machine this is, and what it runs on." }, () =>
        infoOf(parts),
      ),
    },
    webterm: terminalMethods(parts.terminals),
    fs: { ...readingMethods(parts.files), ...writingMethods(parts.files) },
  };
}

function programMethods({ programs, user }: MethodParts) {
  return {
    exec: method(
      {
        role: "operator",
        input: z.object({ command: text, timeoutMs: z.number().positive().max(MAX_TIMER_MS).exactOptional() }),
        output: execResult,
        description: "Runs a shell command to its end and answers with what it printed.",
      },
      (request, call) => programs.run(request, { signal: call.signal, closed: call.session.closed }),
    ),
    os: {
      exec: method(
        {
          role: "operator",
          input: osExec,
          output: z.object({ pid }),
          description: "Starts a program on pipes; what it prints and how it ends go to the functions that were passed.",
        },
        (request, call) => programs.start(request, { signal: call.signal, closed: call.session.closed }),
      ),
      kill: method(
        {
          role: "operator",
          input: z.object({ pid, signal: z.string().exactOptional() }),
          description: "Sends a signal, SIGTERM unless another one is named, to a program that os.exec started.",
        },
        async (request) => {
          programs.kill(request);
          return {} as Record<string, never>;
        },
      ),
      home: method(
        {
          ...reading,
          input: z.object({ username: text.exactOptional() }).optional(),
          output: z.string(),
          description: "Answers with a user's home folder; without a name, that of the machine's user.",
        },
        async (request) => {
          const username = request?.username ?? user.username;
          return username === user.username ? user.home : homeOf(username);
        },
      ),
      currentUsername: method(
        { ...reading, output: z.string(), description: "Answers with the name of the user whom programs run as." },
        async () => user.username,
      ),
    },
  };
}

function terminalMethods(terminals: Terminals) {
  return {
    connect: method(
      {
        role: "viewer",
        input: webtermConnect,
        description: "Opens a terminal session or joins one, and answers with the functions that type into it.",
      },
      (request, call) => terminals.connect(request, call),
    ),
    getSessions: method({ ...reading, output: z.array(z.string()), description: "Lists the names of the terminal sessions." }, () =>
      terminals.list(),
    ),
    killSession: method(
      {
        role: "operator",
        input: z.object({ session: sessionName }),
        output: done,
        description: "Ends a terminal session and what runs in it.",
      },
      (request, call) => terminals.kill(request, call),
    ),
    killSessions: method({ role: "owner", output: done, description: "Ends all terminal sessions." }, () => terminals.killAll()),
    rename: method(
      {
        role: "operator",
        input: z.object({ oldName: sessionName, newName: sessionName }),
        output: done,
        description: "Gives a terminal session another name.",
      },
      (request, call) => terminals.rename(request, call),
    ),
  };
}

function readingMethods(files: Files) {
  const atPath = { ...reading, input: z.object({ path: text }) };
  return {
    readDirectory: method(
      {
        ...reading,
        input: z.object({ path: text, recursive: z.boolean().exactOptional(), ignoreFolders: z.array(z.string()).exactOptional() }),
        output: z.object({ files: z.array(fileEntry) }),
        description: "Lists a folder's files, with those of its folders if asked to.",
      },
      (request, call) => files.readDirectory(request, call),
    ),
    glob: method(
      {
        ...reading,
        input: z.object({ pattern: text }),
        output: z.array(z.string()),
        description: "Lists the paths that match a pattern such as src/**/*.ts.",
      },
      (request, call) => files.glob(request, call),
    ),
    readFile: method(
      {
        ...reading,
        input: z.object({ path: text, offset: count.exactOptional(), blockSize: count.exactOptional() }),
        description: "Reads a file, or a part of it.",
      },
      (request, { caller }) => files.readFile(request, { mayReadCredentials: roleAllows(caller.role, "operator") }),
    ),
    uniquePath: method(
      { ...atPath, output: z.string(), description: "Answers with a path beside this one that is not taken." },
      (request) => files.uniquePath(request),
    ),
    getInfo: method({ ...atPath, output: fileEntry, description: "Tells what is at a path, also that nothing is." }, (request) =>
      files.getInfo(request),
    ),
    getDiskInfo: method({ ...atPath, output: diskInfo, description: "Tells how full the disk under a path is." }, (request) =>
      files.getDiskInfo(request),
    ),
    getPathSize: method(
      { ...atPath, output: z.number(), description: "Adds up the bytes of a file, or of everything in a folder." },
      (request, call) => files.getPathSize(request, call),
    ),
    abs: method(
      {
        ...atPath,
        output: z.object({ absPath: z.string(), isDir: z.boolean(), exist: z.boolean() }),
        description: "Makes a path absolute, and tells whether something is there.",
      },
      (request) => files.abs(request),
    ),
  };
}

function writingMethods(files: Files) {
  const role = "operator";
  const moving = { role, input: z.object({ oldPath: text, newPath: text }), output: done } as const;
  const recursive = z.boolean().exactOptional();
  return {
    writeFile: method(
      { role, input: fsWriteFile, output: count, description: "Writes a file or a part of it, and answers with the number of bytes." },
      (request) => files.writeFile(request),
    ),
    setPermissions: method(
      {
        role,
        input: z.object({ path: text, mode: count.max(0o7777), recursive }),
        output: done,
        repetition: "idempotent",
        description: "Changes who may read, write and execute a file, or all in a folder.",
      },
      (request, call) => files.setPermissions(request, call),
    ),
    remove: method(
      {
        role,
        input: z.object({ path: text, recursive }),
        output: done,
        description: "Removes a file, or a folder with all that is in it.",
      },
      (request) => files.remove(request),
    ),
    rename: method({ ...moving, description: "Moves a file or a folder, as move does." }, (request) => files.move(request)),
    move: method({ ...moving, description: "Moves a file or a folder to another path." }, (request) => files.move(request)),
    createDirectory: method(
      { role, input: z.object({ path: text, recursive }), output: done, description: "Makes a folder, and those above it if asked to." },
      (request) => files.createDirectory(request),
    ),
    copy: method(
      {
        role,
        input: z.object({ srcPath: text, dstPath: text }),
        output: done,
        description: "Copies a file, or a folder with all that is in it.",
      },
      (request) => files.copy(request),
    ),
  };
}

async function infoOf({ user, version, providerName }: MethodParts): Promise<KlientInfo> {
  const { username, home, groups } = user;
  return { username, home, groups, os: platform(), arch: arch(), hostname: hostname(), version, providerName };
}

const text = z.string().min(1);
const count = z.number().int().nonnegative();
const pid = z.number().int().positive();
// `x-kite` is how a description names what JSON Schema has no word for.
const bytes = z.instanceof(Uint8Array).meta({ "x-kite": "bytes" });
const byteStream = z.custom<AsyncIterable<Uint8Array>>(isStream, "expected bytes or a stream").meta({ "x-kite": "stream" });
const done = z.literal(true);
// Looking twice is like looking once: a call whose answer was lost may be made again.
const reading = { role: "viewer", repetition: "idempotent" } as const;
// A name is typed at a prompt and printed in lists: no spaces, nothing invisible, not a path.
const sessionName = z.string().regex(/^[^\s/\p{Cc}]{1,64}$/u, "a session's name has 1 to 64 characters, without spaces and slashes");
const size = z.number().int().min(1).max(1_000);
const MAX_TIMER_MS = 2 ** 31 - 1;

function callback<Arguments extends unknown[]>() {
  const isFunction = (value: unknown) => typeof value === "function";
  return z.custom<(...args: Arguments) => unknown>(isFunction, "expected a function").meta({ "x-kite": "callback" });
}

const osExec = z.object({
  cmd: text,
  args: z.array(z.string()).exactOptional(),
  envs: z.record(z.string(), z.string()).exactOptional(),
  workDir: text.exactOptional(),
  stdin: z.union([bytes, byteStream]).exactOptional(),
  stdout: callback<[Uint8Array]>().exactOptional(),
  stderr: callback<[Uint8Array]>().exactOptional(),
  exit: callback<[number]>().exactOptional(),
});

const webtermConnect = z.object({
  session: sessionName.exactOptional(),
  sizeX: size,
  sizeY: size,
  mode: z.enum(["create", "attach", "resume", "shared", "noscreen"]).exactOptional(),
  remote: z.object({ output: callback<[Uint8Array | string]>(), sessionEnded: callback<[]>() }),
});

const fsWriteFile = z.object({
  path: text,
  content: z.union([bytes, z.string()]),
  doNotOverwrite: z.boolean().exactOptional(),
  append: z.boolean().exactOptional(),
  lastContentHash: z
    .string()
    .regex(/^[0-9a-f]{64}$/i, "expected the sha256 of the content as 64 hexadecimal digits")
    .exactOptional(),
  offset: count.exactOptional(),
});

function isStream(value: unknown): boolean {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

const klientInfo = z.object({
  username: z.string(),
  home: z.string(),
  groups: z.array(z.string()),
  os: z.string(),
  arch: z.string(),
  hostname: z.string(),
  version: z.string(),
  providerName: z.string(),
}) satisfies z.ZodType<KlientInfo>;

const execResult = z.object({ stdout: z.string(), stderr: z.string(), exitStatus: z.number() }) satisfies z.ZodType<ExecResult>;

const fileEntry = z.object({
  name: z.string(),
  fullPath: z.string(),
  exists: z.boolean(),
  isDir: z.boolean(),
  size: z.number(),
  mode: z.number(),
  time: z.string(),
  isBroken: z.boolean(),
  readable: z.boolean(),
  writable: z.boolean(),
}) satisfies z.ZodType<FileEntry>;

const diskInfo = z.object({
  blockSize: z.number(),
  blocksTotal: z.number(),
  blocksFree: z.number(),
  blocksUsed: z.number(),
  ioSize: z.number(),
}) satisfies z.ZodType<DiskInfo>;
