import type { Provider, ProviderModule } from "@kite-mesh/kloud/provider";
import { localProvider } from "./local-provider.ts";
import { readLocalSettings } from "./options.ts";

/** How `kloud` opens this provider when `KLOUD_PROVIDERS` names it: with the settings of the environment. */
export const openProvider: ProviderModule["openProvider"] = ({ log }): Provider => {
  const { machinesDir, klient } = readLocalSettings();
  return localProvider({ machinesDir, klient: { main: klient }, log });
};
