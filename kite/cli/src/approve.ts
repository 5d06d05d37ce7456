import type { Command } from "commander";
import { EXIT, Failure } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { clock, json, print } from "./output.ts";
import { askYes, canAsk } from "./prompt.ts";

/** `kite approve`: lets a machine in that shows a code. */
export function addApproveCommand(program: Command): void {
  program
    .command("approve")
    .argument("<code>", "what kite login shows there, such as BCDF-GHJK")
    .option("--yes", "do not ask")
    .option("--deny", "tell the machine that it gets nothing")
    .option("--json", "JSON on one line")
    .description("let a machine in that waits in kite login: it gets a kite.key of yours")
    .action(approve);
}

async function approve(userCode: string, options: { yes?: boolean; deny?: boolean; json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const request = await mesh.kontrol.login.look({ userCode });
  if (!options.json) print(`${request.hostname}, as it calls itself, asks from ${request.source} since ${clock(request.askedAt)}`);
  if (options.deny) {
    await mesh.kontrol.login.deny({ userCode });
    return print(options.json ? json({ ...request, approved: false }) : "it gets nothing");
  }
  if (!options.yes && !(await agreed(mesh.username))) throw new Failure("nothing was approved; the machine still waits");
  await mesh.kontrol.login.approve({ userCode });
  print(options.json ? json({ ...request, approved: true }) : `it has a kite.key of ${mesh.username} now; kite logout there ends it`);
}

async function agreed(username: string): Promise<boolean> {
  if (canAsk()) return askYes(`Whoever sits there will be ${username}. Is that you, and do you let it in?`);
  throw new Failure("there is no terminal to ask on; look at the machine, and add --yes to agree", EXIT.usage);
}
