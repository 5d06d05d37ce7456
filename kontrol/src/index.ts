// For whoever runs a kontrol.
export type * from "./contract.ts";
export { createKontrol, type Kontrol, type KontrolOptions } from "./kontrol.ts";
export { readOptions, type ServeOptions } from "./options.ts";
