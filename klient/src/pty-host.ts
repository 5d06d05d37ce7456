import { randomBytes } from "node:crypto";
import { chmodSync, rmSync, statSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { type HostedTerminals, PtyHostLink } from "./pty-host-link.ts";
import type { PtyModule } from "./pty-module.ts";
import { type AttachRequest, type Person, PTY_HOST_SOCKET, PtyHostError, type SessionInfo } from "./pty-protocol.ts";
import { PtySession } from "./pty-session.ts";
import { socketPath } from "./socket-path.ts";

export interface PtyHostOptions {
  /** klient's state folder, mode 0700; the socket is made in it. */
  folder: string;
  pty: { name: string; module: PtyModule };
  /** Called when there is no reason left to live: idle for a minute, asked to end, or the state folder gone. */
  onEnd: (why: string) => void;
  idleMs?: number;
}

/**
 * Owns the terminals of a machine and serves them to klient over a unix socket. It knows nothing of the mesh: who may do
 * what was decided by klient. `close` ends all terminals and what runs in them.
 */
export class PtyHost implements HostedTerminals {
  readonly #options: PtyHostOptions;
  readonly #server: Server;
  readonly #links = new Set<PtyHostLink>();
  readonly #sessions = new Map<string, PtySession>();
  #releasePath = () => {};
  #inode = 0;
  #idleSince = Date.now();
  #watch: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(options: PtyHostOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  get library(): string {
    return this.#options.pty.name;
  }

  /** @throws when the socket cannot be made. A socket that a dead host left behind is replaced. */
  async listen(): Promise<void> {
    const real = join(this.#options.folder, PTY_HOST_SOCKET);
    rmSync(real, { force: true });
    const { path, close } = socketPath(this.#options.folder, PTY_HOST_SOCKET);
    this.#releasePath = close;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(path, resolve);
    });
    chmodSync(real, 0o600);
    this.#inode = statSync(real).ino;
    this.#watch = setInterval(() => this.#check(real), Math.min(CHECK_MS, this.#idleMs));
  }

  /** Joins a session, or makes it first. */
  attach(request: AttachRequest): PtySession {
    const { session: name, mode } = request;
    const found = name === undefined || mode === "noscreen" ? undefined : this.#sessions.get(name);
    if (found !== undefined && !found.persistent) throw failure("not_found", `session ${name} has no screen to join`, "SessionNotFound");
    if (found === undefined) return this.#create(request);
    if (mode !== "shared" && request.canType) found.detachUser(request.by.user, ELSEWHERE);
    return found;
  }

  list(): SessionInfo[] {
    return [...this.#sessions.values()].map(({ name, user, viewers }) => ({ name, user, viewers }));
  }

  async kill(name: string, by: Person): Promise<void> {
    const session = this.#own(name, by, "ended");
    session.terminate();
    await session.exited;
  }

  async killAll(): Promise<number> {
    const sessions = [...this.#sessions.values()];
    for (const session of sessions) session.terminate();
    await Promise.all(sessions.map((session) => session.exited));
    return sessions.length;
  }

  rename(from: string, to: string, by: Person): void {
    const session = this.#own(from, by, "renamed");
    if (from === to) return;
    if (this.#sessions.has(to)) throw failure("already_exists", `there is a session ${to} already; choose another name`);
    this.#sessions.delete(from);
    session.name = to;
    this.#sessions.set(to, session);
  }

  /** Ends every terminal with all that runs in it, then the connections and the socket. */
  async close(why: string): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#watch);
    const sessions = [...this.#sessions.values()];
    for (const session of sessions) session.terminate();
    const allEnded = Promise.all(sessions.map((session) => session.exited));
    await Promise.race([allEnded, afterGrace()]);
    for (const session of sessions) session.kill();
    await allEnded;
    this.#server.close();
    this.#releasePath();
    // One turn later, for the answer to whoever asked for this.
    setImmediate(() => {
      for (const link of this.#links) link.end();
    });
    this.#options.onEnd(why);
  }

  #create(request: AttachRequest): PtySession {
    const { session, mode, by, canType, shell, cols, rows } = request;
    if (mode === "resume" || mode === "shared") {
      throw failure(
        "not_found",
        `there is no session ${session ?? "without a name"} to ${mode === "resume" ? "resume" : "join"}`,
        "SessionNotFound",
      );
    }
    if (this.#ended) throw failure("unavailable", "the terminals of this machine are being ended");
    if (!canType) throw failure("permission_denied", "opening a terminal needs the role operator; a viewer can join one that exists");
    const own = this.list().filter(({ user }) => user === by.user).length;
    if (own >= MAX_SESSIONS) {
      throw failure(
        "limit_exceeded",
        `${by.user} has ${own} terminal sessions here and may have ${MAX_SESSIONS}; end one first`,
        "SessionLimit",
      );
    }
    const name = mode === "noscreen" || session === undefined ? randomBytes(12).toString("hex") : session;
    const created = new PtySession({
      module: this.#options.pty.module,
      name,
      user: by.user,
      persistent: mode !== "noscreen",
      shell,
      cols,
      rows,
      onEnd: () => this.#forget(created),
    });
    this.#sessions.set(name, created);
    return created;
  }

  #forget(session: PtySession): void {
    this.#sessions.delete(session.name);
    if (this.#sessions.size === 0) this.#idleSince = Date.now();
  }

  #own(name: string, by: Person, done: string): PtySession {
    const session = this.#sessions.get(name);
    if (session === undefined) throw failure("not_found", `there is no session ${name}`, "SessionNotFound");
    if (session.user === by.user || by.isOwner) return session;
    throw failure("permission_denied", `session ${name} is ${session.user}'s; it can be ${done} by them and by the machine's owner`);
  }

  #accept(socket: Socket): void {
    const link: PtyHostLink = new PtyHostLink({ host: this, socket, onClose: () => this.#links.delete(link) });
    this.#links.add(link);
  }

  #check(socket: string): void {
    const idle = this.#sessions.size === 0 && Date.now() - this.#idleSince >= this.#idleMs;
    if (idle) void this.close("no terminals for a while").catch(() => {});
    else if (inodeOf(socket) !== this.#inode) void this.close("the state folder is gone: nobody could reach the terminals").catch(() => {});
  }

  get #idleMs(): number {
    return this.#options.idleMs ?? IDLE_MS;
  }
}

function failure(code: string, message: string, reason?: string): PtyHostError {
  return new PtyHostError(reason === undefined ? { code, message } : { code, message, reason });
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

function afterGrace(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SHUTDOWN_GRACE_MS).unref());
}

const ELSEWHERE = "\r\n[opened elsewhere]\r\n";
const MAX_SESSIONS = 20;
const IDLE_MS = 60_000;
const CHECK_MS = 5_000;
// Time for a shell to write its history; the machine is stopping, and waits for us.
const SHUTDOWN_GRACE_MS = 1_000;
