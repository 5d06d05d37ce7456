export { type LocalProviderOptions, localProvider } from "./local-provider.ts";
export { openProvider } from "./open-provider.ts";
