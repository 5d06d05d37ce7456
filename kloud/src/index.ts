// For whoever runs a kloud.
export { createKloud, type Kloud, type KloudOptions } from "./kloud.ts";
export { type KloudSettings, readKloudSettings } from "./options.ts";

// For engines and stores.
export type { ApplyRequest, Engine, EngineEvent, PlanRequest } from "./engine/engine.ts";
export type { Change, WantedResource } from "./plan.ts";
export type { Collection, Store } from "./store/store.ts";

// What kloud serves.
export type * from "./contract.ts";
