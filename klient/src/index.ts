// For those who run a machine's agent.
export { createKlient, type Klient, type KlientOptions, KLIENT_VERSION } from "./klient.ts";
export { type KlientEnvironment, readOptions } from "./options.ts";

// For those who call one.
export type * from "./contract.ts";
