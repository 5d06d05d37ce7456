import { arch, hostname, platform } from "node:os";
import { method, roleAllows } from "@kite-mesh/kite";
import { z } from "zod";
import type { KlientInfo } from "./contract.ts";
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
    klient: { info: method({ role: "viewer", description: "Whose machine this is, and what it runs on." }, () => infoOf(parts)) },
    webterm: terminalMethods(parts.terminals),
    fs: { ...readingMethods(parts.files), ...writingMethods(parts.files) },
  };
}

function programMethods({ programs, user }: MethodParts) {
  return {
    exec: method(
      { role: "operator", input: z.object({ command: text, timeoutMs: z.number().positive().max(MAX_TIMER_MS).exactOptional() }) },
      (request, call) => programs.run(request, { signal: call.signal, closed: call.session.closed }),
    ),
    os: {
      exec: method({ role: "operator", input: osExec }, (request, call) =>
        programs.start(request, { signal: call.signal, closed: call.session.closed }),
      ),
      kill: method(
        { role: "operator", input: z.object({ pid: z.number().int().positive(), signal: z.string().exactOptional() }) },
        async (request) => {
          programs.kill(request);
          return {} as Record<string, never>;
        },
      ),
      home: method({ role: "viewer", input: z.object({ username: text.exactOptional() }).optional() }, async (request) => {
        const username = request?.username ?? user.username;
        return username === user.username ? user.home : homeOf(username);
      }),
      currentUsername: method({ role: "viewer" }, async () => user.username),
    },
  };
}

function terminalMethods(terminals: Terminals) {
  return {
    connect: method({ role: "viewer", input: webtermConnect }, (request, call) => terminals.connect(request, call)),
    getSessions: method({ role: "viewer" }, () => terminals.list()),
    killSession: method({ role: "operator", input: z.object({ session: sessionName }) }, (request, call) => terminals.kill(request, call)),
    killSessions: method({ role: "owner" }, () => terminals.killAll()),
    rename: method({ role: "operator", input: z.object({ oldName: sessionName, newName: sessionName }) }, (request, call) =>
      terminals.rename(request, call),
    ),
  };
}

function readingMethods(files: Files) {
  const role = "viewer";
  const atPath = z.object({ path: text });
  return {
    readDirectory: method(
      { role, input: z.object({ path: text, recursive: z.boolean().exactOptional(), ignoreFolders: z.array(z.string()).exactOptional() }) },
      (request, call) => files.readDirectory(request, call),
    ),
    glob: method({ role, input: z.object({ pattern: text }) }, (request, call) => files.glob(request, call)),
    readFile: method(
      { role, input: z.object({ path: text, offset: count.exactOptional(), blockSize: count.exactOptional() }) },
      (request, { caller }) => files.readFile(request, { mayReadCredentials: roleAllows(caller.role, "operator") }),
    ),
    uniquePath: method({ role, input: atPath }, (request) => files.uniquePath(request)),
    getInfo: method({ role, input: atPath }, (request) => files.getInfo(request)),
    getDiskInfo: method({ role, input: atPath }, (request) => files.getDiskInfo(request)),
    getPathSize: method({ role, input: atPath }, (request, call) => files.getPathSize(request, call)),
    abs: method({ role, input: atPath }, (request) => files.abs(request)),
  };
}

function writingMethods(files: Files) {
  const role = "operator";
  const twoPaths = z.object({ oldPath: text, newPath: text });
  const recursive = z.boolean().exactOptional();
  return {
    writeFile: method({ role, input: fsWriteFile }, (request) => files.writeFile(request)),
    setPermissions: method({ role, input: z.object({ path: text, mode: count.max(0o7777), recursive }) }, (request, call) =>
      files.setPermissions(request, call),
    ),
    remove: method({ role, input: z.object({ path: text, recursive }) }, (request) => files.remove(request)),
    rename: method({ role, input: twoPaths }, (request) => files.move(request)),
    move: method({ role, input: twoPaths }, (request) => files.move(request)),
    createDirectory: method({ role, input: z.object({ path: text, recursive }) }, (request) => files.createDirectory(request)),
    copy: method({ role, input: z.object({ srcPath: text, dstPath: text }) }, (request) => files.copy(request)),
  };
}

async function infoOf({ user, version, providerName }: MethodParts): Promise<KlientInfo> {
  const { username, home, groups } = user;
  return { username, home, groups, os: platform(), arch: arch(), hostname: hostname(), version, providerName };
}

const text = z.string().min(1);
const count = z.number().int().nonnegative();
const bytes = z.instanceof(Uint8Array);
// A name is typed at a prompt and printed in lists: no spaces, nothing invisible, not a path.
const sessionName = z.string().regex(/^[^\s/\p{Cc}]{1,64}$/u, "a session's name has 1 to 64 characters, without spaces and slashes");
const size = z.number().int().min(1).max(1_000);
const MAX_TIMER_MS = 2 ** 31 - 1;

function callback<Arguments extends unknown[]>() {
  return z.custom<(...args: Arguments) => unknown>((value) => typeof value === "function", "expected a function");
}

const osExec = z.object({
  cmd: text,
  args: z.array(z.string()).exactOptional(),
  envs: z.record(z.string(), z.string()).exactOptional(),
  workDir: text.exactOptional(),
  stdin: z.union([bytes, z.custom<AsyncIterable<Uint8Array>>(isStream, "expected bytes or a stream")]).exactOptional(),
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
