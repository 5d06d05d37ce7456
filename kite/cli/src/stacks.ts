import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import type { Plan, PlanChange, Stack, StackRequest } from "@kite-mesh/kloud/contract";
import type { Command } from "commander";
import { EXIT, Failure } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { followOperation } from "./operation.ts";
import { dim, green, json, print, red, table, when, yellow } from "./output.ts";
import { askYes, canAsk } from "./prompt.ts";

/** `kite stack plan`, `apply`, `list`, `show` and `destroy`. */
export function addStackCommands(program: Command): void {
  const stack = program.command("stack").description("machines that come from a template: plan, apply, list, show, destroy");
  fileOptions(stack.command("plan"))
    .option("--json", "the plan as JSON on one line")
    .description("what applying a template would do, without doing it")
    .action(plan);
  fileOptions(stack.command("apply"))
    .option("--yes", "do not ask")
    .option("--json", "JSON lines: the plan, then each event")
    .description("make a stack as its template says; asks before it does, on a terminal")
    .addHelpText("after", APPLY_EXAMPLES)
    .action(apply);
  stack.command("list").option("--json", "JSON on one line").description("your stacks").action(list);
  stack.command("show").argument("<name>").option("--json", "JSON on one line").description("a stack and its machines").action(show);
  stack
    .command("destroy")
    .argument("<name>")
    .option("--yes", "do not ask")
    .option("--json", "JSON lines")
    .description("remove a stack, its machines and their data; asks before it does, on a terminal")
    .action(destroy);
}

const APPLY_EXAMPLES = `
Without a terminal nobody can be asked: what only adds or changes is done, and a plan that deletes or replaces needs --yes.

Examples:
  kite stack apply -f deploy/local/hello.yaml
  kite stack apply -f web.yaml --var size=small --yes`;

interface FileOptions {
  file: string;
  name?: string;
  var: string[];
  json?: boolean;
}

function fileOptions(command: Command): Command {
  return command
    .requiredOption("-f, --file <file>", "the template, YAML; - for standard input")
    .option("--name <name>", "another name for the stack than the template's")
    .option(
      "--var <name=value>",
      "a variable of the template; may be repeated",
      (value: string, previous: string[]) => [...previous, value],
      [],
    );
}

async function plan(options: FileOptions): Promise<void> {
  const request = await readRequest(options);
  await using mesh = await openMesh();
  const planned = await (await mesh.kloud()).stack.plan(request);
  print(options.json ? json(planned) : render(planned));
}

async function apply(options: FileOptions & { yes?: boolean }): Promise<void> {
  const request = await readRequest(options);
  await using mesh = await openMesh();
  const kloud = await mesh.kloud();
  const planned = await kloud.stack.plan(request);
  print(options.json ? json(planned) : render(planned));
  if (planned.empty) return;
  if (!options.yes && !(await agreed(planned, options.file))) throw new Failure("nothing was changed");
  const { operationId } = await kloud.stack.apply({ ...request, planId: planned.id });
  await followOperation(kloud, operationId, { title: `apply ${planned.stack}`, asJson: options.json ?? false });
}

async function agreed(planned: Plan, file: string): Promise<boolean> {
  if (canAsk() && file !== "-") return askYes(`Apply this to ${planned.stack}?`);
  const losing = planned.changes.filter(({ action }) => action === "delete" || action === "replace").map(({ address }) => address);
  if (losing.length === 0) return true;
  throw new Failure(
    `this plan deletes or replaces ${losing.join(", ")}, and there is no terminal to ask on; add --yes to agree`,
    EXIT.usage,
  );
}

async function list(options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const stacks = await (await mesh.kloud()).stack.list();
  if (options.json) return print(json(stacks));
  if (stacks.length === 0) return print("no stacks; make one with kite stack apply -f deploy/local/hello.yaml");
  const rows = stacks.map((stack) => [stack.name, stack.state, machinesOf(stack), when(stack.updatedAt), stack.error ?? ""]);
  print(table(["NAME", "STATE", "MACHINES", "UPDATED", "ERROR"], rows));
}

async function show(name: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const stack = await (await mesh.kloud()).stack.get({ name });
  if (options.json) return print(json(stack));
  print(`${stack.name}: ${stack.state}${stack.error === null ? "" : ` (${stack.error})`}`);
  print(
    table(
      ["MACHINE", "STATE", "PROVIDER", "ID"],
      stack.machines.map((machine) => [machine.label, machine.state, machine.provider, machine.id]),
    ),
  );
}

function machinesOf(stack: Stack): string {
  return stack.machines.map(({ label, state }) => `${label} (${state})`).join(", ") || "none";
}

async function destroy(name: string, options: { yes?: boolean; json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const kloud = await mesh.kloud();
  const stack = await kloud.stack.get({ name });
  if (!options.yes && canAsk() && !(await askYes(`Destroy ${name} with ${machinesOf(stack)} and all their data?`)))
    throw new Failure("nothing was changed");
  const { operationId } = await kloud.stack.destroy({ name });
  await followOperation(kloud, operationId, { title: `destroy ${name}`, asJson: options.json ?? false });
}

async function readRequest({ file, name, var: variables }: FileOptions): Promise<StackRequest> {
  const template = file === "-" ? await readAll(process.stdin) : await readTemplate(file);
  return { template, ...(name === undefined ? {} : { name }), variables: Object.fromEntries(variables.map(parseVariable)) };
}

async function readTemplate(file: string): Promise<string> {
  return readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new Failure(`the stack's template ${file} cannot be read: ${cause.message}`, EXIT.usage, { cause });
  });
}

function parseVariable(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw new Failure(`--var should be name=value, and is "${text}"`, EXIT.usage);
  return [text.slice(0, at), text.slice(at + 1)];
}

function render(planned: Plan): string {
  if (planned.empty) return `${planned.stack} is as its template says; nothing to do`;
  const changes = planned.changes.filter(({ action }) => action !== "none");
  return [`${planned.stack}, by ${planned.engine}:`, ...changes.map(renderChange), summary(changes)].join("\n");
}

const MARKS = { create: green("+"), update: yellow("~"), replace: red("±"), delete: red("-"), none: " " } as const;

function renderChange(change: PlanChange): string {
  const keys = [...new Set([...Object.keys(change.before ?? {}), ...Object.keys(change.after ?? {})])];
  const lines = keys.map((key) => renderAttribute(key, change)).filter((line) => line !== null);
  const why = change.replaceReasons.map((reason) => `      because ${reason}`);
  return [`  ${MARKS[change.action]} ${change.address} ${dim(change.action)}`, ...why, ...lines].join("\n");
}

function renderAttribute(key: string, { before, after, action }: PlanChange): string | null {
  const [was, is] = [json(before?.[key]), json(after?.[key])];
  if (action === "create") return `      ${key} = ${is}`;
  if (action === "delete" || was === is) return null;
  return `      ${key}: ${was} → ${is}`;
}

function summary(changes: readonly PlanChange[]): string {
  const count = (action: PlanChange["action"]) => changes.filter((change) => change.action === action).length;
  return `${count("create")} to create, ${count("update")} to update, ${count("replace")} to replace, ${count("delete")} to delete`;
}
