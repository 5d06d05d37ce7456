import type { Machine } from "@kite-mesh/kloud/contract";
import type { Command } from "commander";
import { EXIT, Failure } from "./failure.ts";
import { type Mesh, openMesh } from "./mesh.ts";
import { followOperation } from "./operation.ts";
import { json, pretty, print, table } from "./output.ts";

/** `kite exec`, `ssh` and `machine …`: what one does with machines. */
export function addMachineCommands(program: Command): void {
  program
    .command("exec")
    .argument("<machine>", "its name, or the id of its klient")
    .argument("<command...>", "a program and its arguments, run without a shell")
    .option("--cwd <folder>", "the folder on the machine to run it in")
    .option("--env <name=value>", "set a variable for it; may be repeated", collect, [])
    .description("run a program on a machine: streams in and out, exits with its status (255: the way there failed, 127: no such program)")
    .addHelpText("after", EXEC_EXAMPLES)
    .passThroughOptions()
    .action(async (machine: string, command: string[], options: { cwd?: string; env: string[] }) => {
      const { exec } = await import("./machine-exec.ts");
      // What follows the machine is passed on as it is, including the "--" that people are used to put there.
      await exec({ machine, command: command[0] === "--" ? command.slice(1) : command, ...options });
    });
  program
    .command("ssh")
    .argument("<machine>", "its name, or the id of its klient")
    .option("--session <name>", "come back to a session, or give a new one a name")
    .description("a terminal on a machine; closing it leaves the session, ~. at the start of a line leaves too")
    .addHelpText("after", SSH_EXAMPLES)
    .action(async (machine: string, options: { session?: string }) => {
      const { ssh } = await import("./machine-ssh.ts");
      await ssh({ machine, session: options.session });
    });
  addMachineNoun(program.command("machine").description("your machines: list, info, start, stop, sessions"));
}

const EXEC_EXAMPLES = `
Examples:
  kite exec hello -- uname -a
  kite exec hello -- sh -c 'echo out; echo err >&2; exit 3'
  tar c src | kite exec hello --cwd /tmp -- tar x`;

const SSH_EXAMPLES = `
Examples:
  kite ssh hello
  kite ssh hello --session build     comes back to it from anywhere`;

function addMachineNoun(machine: Command): void {
  machine.command("list").option("--json", "JSON on one line").description("machines of your stacks, and how they are").action(list);
  machine
    .command("info")
    .argument("<machine>", "name or id")
    .option("--json", "JSON on one line")
    .description("what is known of a machine")
    .action(info);
  machine
    .command("start")
    .argument("<machine>", "name or id")
    .option("--json", "JSON lines")
    .description("start a stopped machine, with the data that it had")
    .action((name: string, options: { json?: boolean }) => change("start", name, options.json ?? false));
  machine
    .command("stop")
    .argument("<machine>", "name or id")
    .option("--json", "JSON lines")
    .description("stop a machine and keep its data")
    .action((name: string, options: { json?: boolean }) => change("stop", name, options.json ?? false));
  machine
    .command("sessions")
    .argument("<machine>", "name or id")
    .option("--json", "JSON on one line")
    .description("terminal sessions that are open on a machine")
    .action(sessions);
}

async function list(options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const machines = await (await mesh.kloud()).machine.list();
  if (options.json) return print(json(machines));
  if (machines.length === 0) return print("no machines; make one with kite stack apply -f deploy/local/hello.yaml");
  const rows = machines.map((machine) => [machine.label, machine.state, machine.stack, machine.provider, machine.id]);
  print(table(["NAME", "STATE", "STACK", "PROVIDER", "ID"], rows));
}

async function info(name: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const machine = await findMachine(mesh, name);
  const current = await (await mesh.kloud()).machine.info({ machineId: machine.id });
  print(options.json ? json(current) : pretty(current));
}

async function change(action: "start" | "stop", name: string, asJson: boolean): Promise<void> {
  await using mesh = await openMesh();
  const machine = await findMachine(mesh, name);
  const kloud = await mesh.kloud();
  const { operationId } = await kloud.machine[action]({ machineId: machine.id });
  await followOperation(kloud, operationId, { title: `${action} ${machine.label}`, asJson });
}

async function sessions(name: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const klient = await mesh.klient(name);
  const names = await klient.webterm.getSessions();
  if (options.json) return print(json(names));
  print(names.length === 0 ? `no sessions; open one with kite ssh ${name}` : names.join("\n"));
}

async function findMachine(mesh: Mesh, name: string): Promise<Machine> {
  const machines = await (await mesh.kloud()).machine.list();
  const matching = machines.filter(({ label, id }) => label === name || id === name);
  const [first, second] = matching;
  if (first === undefined) {
    const { nearest } = await import("@kite-mesh/kite");
    const guess = nearest(
      name,
      machines.map(({ label }) => label),
    );
    throw new Failure(`no machine is called ${name}; ${guess === undefined ? "kite machine list shows yours" : `did you mean ${guess}?`}`);
  }
  if (second !== undefined) {
    const ids = matching.map(({ id, stack }) => `${id} (stack ${stack})`).join(", ");
    throw new Failure(`${matching.length} machines are called ${name}; give the id of the one you mean: ${ids}`, EXIT.usage);
  }
  return first;
}

function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}
