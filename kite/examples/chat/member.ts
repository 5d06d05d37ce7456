import { createInterface } from "node:readline";
import { openKite } from "@kite-mesh/kite";
import type { ChatContract } from "./chat.ts";

const [name = "somebody"] = process.argv.slice(2);

await using kite = await openKite({ name: "chat-member", version: "1.0.0" });
await using chat = await kite.connect<ChatContract>({ name: "chat" });
await chat.join(name, (line) => console.log(line));

// What is typed is said; the end of the input leaves, as does Ctrl-C.
const typed = createInterface({ input: process.stdin });
process.once("SIGINT", () => typed.close());
for await (const text of typed) await chat.say(name, text);
