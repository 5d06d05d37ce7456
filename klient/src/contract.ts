/** What klient, the agent on each machine, serves. Names and fields are those of Koding's klient. */
export interface KlientContract {
  /** Runs a shell command to its end. For output while it runs, use `os.exec`. */
  exec(request: { command: string; timeoutMs?: number }): Promise<ExecResult>;
  os: {
    /** Starts a program on pipes, never on a pty. `exit` is called after both outputs were delivered. */
    exec(request: OsExec): Promise<{ pid: number }>;
    kill(request: { pid: number; signal?: string }): Promise<Record<string, never>>;
    home(request?: { username?: string }): Promise<string>;
    currentUsername(): Promise<string>;
  };
  klient: {
    info(): Promise<KlientInfo>;
  };
  webterm: {
    /** Opens a terminal session or attaches to one. The session stays when the viewer goes. */
    connect(request: WebtermConnect): Promise<WebtermSession>;
    getSessions(): Promise<string[]>;
    killSession(request: { session: string }): Promise<true>;
    killSessions(): Promise<true>;
    rename(request: { oldName: string; newName: string }): Promise<true>;
  };
  fs: {
    readDirectory(request: { path: string; recursive?: boolean; ignoreFolders?: string[] }): Promise<{ files: FileEntry[] }>;
    glob(request: { pattern: string }): Promise<string[]>;
    readFile(request: { path: string; offset?: number; blockSize?: number }): Promise<{ content: Uint8Array }>;
    /** Bytes written. With `lastContentHash` (sha256 hex) the file must still be what the caller last saw. */
    writeFile(request: FsWriteFile): Promise<number>;
    uniquePath(request: { path: string }): Promise<string>;
    getInfo(request: { path: string }): Promise<FileEntry>;
    setPermissions(request: { path: string; mode: number; recursive?: boolean }): Promise<true>;
    remove(request: { path: string; recursive?: boolean }): Promise<true>;
    rename(request: { oldPath: string; newPath: string }): Promise<true>;
    move(request: { oldPath: string; newPath: string }): Promise<true>;
    createDirectory(request: { path: string; recursive?: boolean }): Promise<true>;
    copy(request: { srcPath: string; dstPath: string }): Promise<true>;
    getDiskInfo(request: { path: string }): Promise<DiskInfo>;
    getPathSize(request: { path: string }): Promise<number>;
    abs(request: { path: string }): Promise<{ absPath: string; isDir: boolean; exist: boolean }>;
  };
}

export interface ExecResult {
  stdout: string;
  stderr: string;
  /** -1 when a signal ended the command. */
  exitStatus: number;
}

export interface OsExec {
  cmd: string;
  args?: string[];
  /** Merged over klient's own environment. */
  envs?: Record<string, string>;
  workDir?: string;
  /** What the program reads: some bytes, or a stream that is followed to its end. */
  stdin?: Uint8Array | AsyncIterable<Uint8Array>;
  /** Awaited before more is read from the program: a slow caller slows the program, and loses nothing. */
  stdout?: (chunk: Uint8Array) => unknown;
  stderr?: (chunk: Uint8Array) => unknown;
  /** The exit status, or 128 + the signal's number, as a shell reports it. */
  exit?: (status: number) => unknown;
}

export interface WebtermConnect {
  /** Left out: a new session with a name of its own. */
  session?: string;
  /** Columns, then rows. */
  sizeX: number;
  sizeY: number;
  /** `create` makes the session if it is missing, `resume` insists that it exists, `shared` joins beside the others. Default `create`. */
  mode?: "create" | "attach" | "resume" | "shared" | "noscreen";
  remote: {
    /** First the exact screen as it is now, then everything the program prints. Awaited: a slow viewer slows nobody else. */
    output: (data: Uint8Array | string) => unknown;
    sessionEnded: () => unknown;
  };
}

export interface WebtermSession {
  session: string;
  input: (data: string) => unknown;
  controlSequence: (data: string) => unknown;
  setSize: (x: number, y: number) => unknown;
  /** Leaves; the session stays. */
  close: () => unknown;
  /** Ends the program in the terminal. */
  terminate: () => unknown;
}

export interface KlientInfo {
  username: string;
  home: string;
  groups: string[];
  os: string;
  arch: string;
  hostname: string;
  version: string;
  providerName: string;
}

export interface FsWriteFile {
  path: string;
  content: Uint8Array | string;
  doNotOverwrite?: boolean;
  append?: boolean;
  lastContentHash?: string;
  offset?: number;
}

/** A missing file has `exists: false` and only its name and path. */
export interface FileEntry {
  name: string;
  fullPath: string;
  exists: boolean;
  isDir: boolean;
  size: number;
  mode: number;
  /** Last change, ISO 8601. */
  time: string;
  isBroken: boolean;
  readable: boolean;
  writable: boolean;
}

export interface DiskInfo {
  blockSize: number;
  blocksTotal: number;
  blocksFree: number;
  blocksUsed: number;
  ioSize: number;
}
