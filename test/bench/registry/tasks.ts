import * as beatSockets from "./clients/beat-sockets.ts";
import * as etcd from "./clients/etcd.ts";
import * as kites from "./clients/kites.ts";
import * as kontrol from "./clients/kontrol.ts";
import * as relayed from "./clients/relayed.ts";
import * as revoked from "./clients/revoked.ts";
import * as tokens from "./clients/tokens.ts";
import * as watchers from "./clients/watchers.ts";

/** Everything that a process of the benchmark can do. What a task opens stays open as long as its process. */
export const TASKS = { ...kontrol, ...kites, ...beatSockets, ...watchers, ...tokens, ...relayed, ...revoked, ...etcd };
export type Tasks = typeof TASKS;
export type TaskName = keyof Tasks;
