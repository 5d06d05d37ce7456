import type { Engine } from "./engine/engine.ts";
import type { Mesh } from "./mesh.ts";
import type { OperationRun } from "./operation-run.ts";
import type { Provider } from "./provider.ts";
import type { Store } from "./store/store.ts";

/** What operations work with. */
export interface Workshop {
  store: Store;
  engine: Engine;
  providers: readonly Provider[];
  mesh: Mesh;
  now: () => Date;
  /** How long a machine's klient may take to appear. */
  klientTimeoutMs: number;
}

/** One run of an operation: everything that its steps need. */
export interface Job extends Workshop {
  run: OperationRun;
  /** This worker's number; greater than that of every worker before it on this stack. */
  fence: number;
}
