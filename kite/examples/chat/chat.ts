import { type Callback, type ContractOf, callback, formatIdentity, method, openKite } from "@kite-mesh/kite";
import { z } from "zod";

type OnLine = (line: string) => void;
const members = new Map<string, Callback<OnLine>>();

const methods = {
  // The function that a caller passes stays callable for as long as its session lasts, dropped sockets included.
  join: method({ role: "viewer", input: [z.string().min(1), callback<OnLine>()] }, (name, onLine, { session }) => {
    members.set(name, onLine);
    session.closed.addEventListener("abort", () => leave(name, onLine));
    tellAll(`${name} has joined`);
  }),
  say: method({ role: "viewer", input: [z.string(), z.string()] }, (name, text) => tellAll(`${name}: ${text}`)),
};
export type ChatContract = ContractOf<typeof methods>;

function leave(name: string, onLine: Callback<OnLine>): void {
  if (members.get(name) !== onLine) return;
  members.delete(name);
  tellAll(`${name} has left`);
}

function tellAll(line: string): void {
  // Nobody waits for the slowest member; one that is gone hears nothing.
  for (const onLine of members.values()) void onLine(line).catch(() => {});
}

const kite = await openKite({ name: "chat", version: "1.0.0", methods });
await kite.listen();
await kite.register();
console.log(`${formatIdentity(kite.identity)} at ${kite.url}; try: npm run example:member -- NAME in another terminal`);

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void kite.close());
