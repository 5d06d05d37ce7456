import { expect, test, vi } from "vitest";
import { OlderRegistrations, type OlderRegistrationsOptions } from "./older-registrations.ts";

test("for a kite with a session, whose beat this is not, the same is done as for an unknown one: nobody can tell by the time which it was", async () => {
  const beatElsewhere = vi.fn(async (_id: string, _source: string) => undefined);
  const held = (id: string) => (id === "here" ? { sessionId: "1" } : undefined);
  const registrar = { held } as unknown as OlderRegistrationsOptions["registrar"];
  const older = new OlderRegistrations({ registrar, beatElsewhere } as unknown as OlderRegistrationsOptions);

  const answers = await Promise.all(["here", "unknown"].map((id) => older.heartbeat(id, "192.0.2.1")));

  expect(answers).toEqual(["registeragain", "registeragain"]);
  expect(beatElsewhere.mock.calls).toEqual([
    ["here", "192.0.2.1"],
    ["unknown", "192.0.2.1"],
  ]);
});
