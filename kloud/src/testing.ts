/** For tests of kloud and of providers: a store and a provider without a server, and a way to crash at any step. */

export { memoryStore } from "./store/memory.ts";
export { type CrashPoint, crashPoint } from "./testing/crash-point.ts";
export { type ExampleMesh, exampleMesh } from "./testing/example-mesh.ts";
export { type ExampleProvider, exampleProvider } from "./testing/example-provider.ts";
