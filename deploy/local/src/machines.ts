import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { callWith, Kite, KiteError } from "@kite-mesh/kite";
import type { KlientContract } from "@kite-mesh/klient/contract";
import type { KloudContract, Machine, MachineState } from "@kite-mesh/kloud/contract";
import type { Provider } from "@kite-mesh/kloud/provider";
import { CHECKOUT } from "./options.ts";

const SAMPLE_STACK = join(CHECKOUT, "deploy", "local", "hello.yaml");

export interface OpenSample {
  owner: string;
  kiteKey: string;
  tell: (message: string) => void;
  signal: AbortSignal;
}

/**
 * Applies the sample stack unless its owner has it, and waits until the klients of its machines answer: what is printed
 * afterwards works when it is typed.
 *
 * @returns the engine that makes machines, and what became of these.
 */
export async function openSample({ owner, kiteKey, tell, signal }: OpenSample): Promise<{ engine: string; described: string }> {
  const template = await readFile(SAMPLE_STACK, "utf8");
  await using kite = new Kite({ name: "start", version: "1.0.0", kiteKey });
  const kloud = callWith(await kite.connect<KloudContract>({ username: "kloud", name: "kloud" }, { signal }), { signal });
  const plan = await kloud.stack.plan({ template });
  const known = (await kloud.stack.list()).find(({ name }) => name === plan.stack);
  if (known === undefined) {
    tell("planned");
    const { operationId } = await kloud.stack.apply({ template, planId: plan.id });
    for await (const event of await kloud.operation.watch({ operationId })) {
      tell(event.message);
      if (event.state === "failed")
        throw new KiteError("failed_precondition", `${SAMPLE_STACK} could not be applied: ${event.error ?? event.message}`);
    }
  }
  const stack = await kloud.stack.get({ name: plan.stack });
  const lines = await Promise.all(stack.machines.map((machine) => describe({ kite, kloud, owner, signal }, machine)));
  return { engine: plan.engine.split("; ")[0] ?? plan.engine, described: lines.join(", ") || "none" };
}

/** Stops the local machines, and leaves it to the next start to bring back those that are wanted: kloud is not told. */
export async function stopMachines(provider: Provider, machinesDir: string, signal: AbortSignal): Promise<void> {
  const type = provider.resources["local_instance"];
  const ids = await readdir(machinesDir).catch((): string[] => []);
  const stopped = await Promise.allSettled(ids.map(async (id) => type?.stop?.({ id, state: null, signal })));
  const failed = stopped.filter((outcome) => outcome.status === "rejected");
  if (failed.length > 0) throw new KiteError("internal", failed.map(({ reason }) => KiteError.from(reason).message).join("; "));
}

// Machines that should be up and are not are brought back by kloud when it starts.
const UP: readonly MachineState[] = ["Building", "Starting", "Running"];
// kloud looks after its machines within milliseconds of its start; one that stays stopped for so long was stopped by a person.
const SETTLE_LIMIT_MS = 3_000;
// A klient that has lost its kontrol looks for it every few seconds.
const READY_LIMIT_MS = 30_000;
const RETRY_MS = 50;

interface Looker {
  kite: Kite;
  kloud: KloudContract;
  owner: string;
  signal: AbortSignal;
}

async function describe(looker: Looker, machine: Machine): Promise<string> {
  const { label } = machine;
  const state = await settledState(looker, machine);
  if (!UP.includes(state)) return `${label} is ${state}`;
  const problem = await untilAnswering(looker, label);
  return problem === null ? `${label} is up` : `${label} did not answer in ${READY_LIMIT_MS / 1000} s (${problem})`;
}

async function settledState({ kloud, signal }: Looker, machine: Machine): Promise<MachineState> {
  const deadline = Date.now() + SETTLE_LIMIT_MS;
  for (let { state } = machine; ; await delay(RETRY_MS)) {
    signal.throwIfAborted();
    if (UP.includes(state) || Date.now() > deadline) return state;
    state = (await kloud.machine.list()).find(({ id }) => id === machine.id)?.state ?? "Terminated";
  }
}

/** Null once the klient on the machine answers, or why it did not. */
async function untilAnswering({ kite, owner, signal }: Looker, label: string): Promise<string | null> {
  const late = AbortSignal.timeout(READY_LIMIT_MS);
  const limited = AbortSignal.any([signal, late]);
  for (;;) {
    try {
      const klient = await kite.connect<KlientContract>({ username: owner, name: "klient", hostname: label }, { signal: limited });
      await callWith(klient, { signal: limited }).klient.info();
      return null;
    } catch (cause) {
      signal.throwIfAborted();
      if (late.aborted) return KiteError.from(cause).message;
      await delay(RETRY_MS);
    }
  }
}
