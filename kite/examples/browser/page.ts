import { Kite } from "@kite-mesh/kite/browser";
import type { ClockContract } from "./clock.ts";

const kite = new Kite({ name: "page", version: "1.0.0" });
const clock = kite.dial<ClockContract>({ url: location.origin });

show("greeting", await clock.greet("browser"));
await clock.everySecond((time) => show("time", time));
for await (const number of await clock.count(1_000)) show("count", String(number));

function show(id: string, text: string): void {
  const element = document.getElementById(id);
  if (element !== null) element.textContent = text;
}
