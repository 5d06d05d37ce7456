import { z } from "zod";
import type { Machine, Operation, OperationStarted, Plan, Stack } from "./contract.ts";

// What kloud answers with, for its documentation and as a check of itself; each keeps to its type in contract.ts.

const attributes = z.record(z.string(), z.unknown());

export const PlanSchema = z.object({
  id: z.string(),
  stack: z.string(),
  empty: z.boolean(),
  changes: z.array(
    z.object({
      address: z.string(),
      action: z.enum(["create", "update", "replace", "delete", "none"]),
      before: attributes.nullable(),
      after: attributes.nullable(),
      replaceReasons: z.array(z.string()),
    }),
  ),
  engine: z.string(),
  machines: z.array(z.object({ label: z.string(), provider: z.string(), attributes })),
}) satisfies z.ZodType<Plan>;

export const OperationStartedSchema = z.object({ operationId: z.string(), eventId: z.string() }) satisfies z.ZodType<OperationStarted>;

export const OperationSchema = z.object({
  id: z.string(),
  kind: z.enum(["apply", "destroy", "start", "stop"]),
  owner: z.string(),
  stack: z.string(),
  machineId: z.string().nullable(),
  state: z.enum(["pending", "running", "succeeded", "failed"]),
  percentage: z.number(),
  error: z.string().nullable(),
  createdAt: z.string(),
  finishedAt: z.string().nullable(),
}) satisfies z.ZodType<Operation>;

export const MachineSchema = z.object({
  id: z.string(),
  label: z.string(),
  stack: z.string(),
  owner: z.string(),
  provider: z.string(),
  state: z.enum(["NotInitialized", "Building", "Starting", "Running", "Stopping", "Stopped", "Terminating", "Terminated", "Unknown"]),
  kiteId: z.string().nullable(),
  attributes,
  createdAt: z.string(),
}) satisfies z.ZodType<Machine>;

export const StackSchema = z.object({
  id: z.string(),
  name: z.string(),
  owner: z.string(),
  state: z.enum(["planned", "applying", "running", "destroying", "failed", "gone"]),
  operationId: z.string().nullable(),
  error: z.string().nullable(),
  machines: z.array(MachineSchema),
  createdAt: z.string(),
  updatedAt: z.string(),
}) satisfies z.ZodType<Stack>;
