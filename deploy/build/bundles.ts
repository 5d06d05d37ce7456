import { cp } from "node:fs/promises";
import path from "node:path";
import { bundleDashboard } from "../../gateway/src/assets.ts";
import { bundleKlient } from "../../klient/bundle.ts";
import { ROOT } from "./workspaces.ts";

// What leaves the mesh's own processes, in one piece each: the agent for machines, the dashboard for browsers.
await bundleKlient({ outDir: path.join(ROOT, "klient/dist/bundle") });

const web = path.join(ROOT, "gateway/web");
const builtWeb = path.join(ROOT, "gateway/dist/web");
await cp(web, builtWeb, { recursive: true, filter: (file) => !/[.](ts|tsx|css)$/.test(file) });
await bundleDashboard(web, builtWeb);
