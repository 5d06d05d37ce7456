import type { Schema } from "@kite-mesh/kite";

/**
 * How kloud speaks to one kind of machine. A provider is a function from its own options to an object of this shape; it
 * keeps nothing that kloud's store would have to know, except in the attributes that its calls return.
 */
export interface Provider {
  /** As written in templates, such as `local`. */
  readonly name: string;
  /** Resource types, by the name that templates use: `local_instance`. */
  readonly resources: Readonly<Record<string, ResourceType>>;
  /** One line about what this provider does here, such as its rung of isolation. Printed at start. */
  describe(): Promise<string>;
  /** Closes what the provider itself holds open; machines go on. */
  close(): Promise<void>;
}

/** One kind of thing that a provider can make. Every call is idempotent: it may be repeated after a crash. */
export interface ResourceType {
  /** Names of the attributes that a template may set; anything else is refused with its line and the nearest of these. */
  readonly attributes: readonly string[];
  /** Checks the attributes and fills in defaults. */
  readonly schema: Schema<unknown, Record<string, unknown>>;
  /** Attributes that cannot change in place: a difference means replace. */
  readonly replaceOn: readonly string[];
  /** Whether it is a machine with a klient on it. */
  readonly machine: boolean;
  /**
   * Makes it, or finishes what an earlier call under this id began; a machine runs afterwards. Who had to wait for anything
   * looks at `signal` before going on: another worker may have taken over.
   */
  create(request: CreateResource): Promise<ResourceState>;
  /** What is there now, or null when it is gone. Never throws for something that is missing. */
  read(request: ReadResource): Promise<ResourceState | null>;
  /** Brings what is there to the attributes asked for. */
  update(request: CreateResource & { previous: ResourceState }): Promise<ResourceState>;
  /** Removes everything of it. Succeeds when there is nothing (left). */
  delete(request: ReadResource): Promise<void>;
  /** For machines: make it run again, with the klient and the data that it had. */
  start?(request: ReadResource): Promise<ResourceState>;
  stop?(request: ReadResource): Promise<ResourceState>;
}

export interface CreateResource {
  /** Chosen by kloud before the call and kept for ever: what was half made under this id is found again by it. */
  id: string;
  label: string;
  attributes: Record<string, unknown>;
  /** For machines: what the klient on it is started with. */
  boot: MachineBoot | null;
  progress: (message: string) => void;
  signal: AbortSignal;
}

export interface ReadResource {
  id: string;
  state: ResourceState | null;
  signal: AbortSignal;
}

export interface MachineBoot {
  kontrolUrl: string;
  /** One-time; with it the klient obtains its own kite.key. */
  joinToken: string;
  /** The machine's name: the klient's hostname in the mesh. */
  hostname: string;
  username: string;
}

export interface ResourceState {
  id: string;
  /** `running` and `stopped` are for machines; anything else that exists is `present`. */
  status: "present" | "running" | "stopped";
  /** Set and computed attributes together; no secrets. */
  attributes: Record<string, unknown>;
}

/** What a package that provides machines exports, so that `kloud` can load it by name. It reads its own settings. */
export interface ProviderModule {
  openProvider(options: { log: { warn(fields: object, message: string): void } }): Provider;
}
