// Drives the TypeScript SDK's client for tests: one JSON command a line in, one JSON answer a line out.
// The commands and the fields of the answers are the same as driver.py's; mod.rs describes them.
import { createRequire } from "node:module";
import readline from "node:readline";

// The SDK logs to stdout; answers have it for themselves.
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);
const answer = (line) => write(JSON.stringify(line) + "\n");

// Which of the installed ones: they differ in their generation, and so in what they write and read.
const sdkPackage = process.argv[2] ?? "@dbos-inc/dbos-sdk";
const { DBOSClient } = await import(sdkPackage);
const require = createRequire(import.meta.url);
const sdk = require.resolve(sdkPackage).replace(/index\.js$/, "");
// The earliest has its serializer elsewhere, and nobody asks for it there.
const load = (file) => { try { return require(sdk + file); } catch { return {}; } };
const { DBOSJSON, DBOSPortableJSON, deserializeResError } = load("serialization.js");

const POLL_MS = 50;
const application = process.env.INTEROP_APPLICATION || undefined;
const url = process.env.INTEROP_DATABASE_URL;
const client = url && (await DBOSClient.create({ systemDatabaseUrl: url, applicationName: application }));

const failure = (error) => ({
  // The SDK's own errors are classes that keep the name `Error`.
  name: (error?.name === "Error" ? error.constructor?.name : error?.name) ?? "Error",
  message: error?.message ?? String(error),
  code: error?.code ?? error?.dbosErrorCode ?? null,
  data: error?.data ?? null,
});
const optionalFailure = (error) => (error === null || error === undefined ? null : failure(error));
const blank = (value) => (value === undefined || value === "" ? null : value);

const row = (status) =>
  status && {
    id: status.workflowID,
    status: status.status,
    name: status.workflowName,
    className: blank(status.workflowClassName),
    configName: blank(status.workflowConfigName),
    queue: blank(status.queueName),
    input: Array.isArray(status.input) ? { args: status.input, named: {} } : (status.input ?? null),
    output: status.output ?? null,
    error: optionalFailure(status.error),
    executorId: blank(status.executorId),
    appVersion: blank(status.applicationVersion),
    application: blank(status.applicationName),
    createdAt: status.createdAt,
    updatedAt: blank(status.updatedAt),
    timeoutMs: blank(status.timeoutMS),
    deadlineMs: blank(status.deadlineEpochMS),
    dedupId: blank(status.deduplicationID),
    priority: status.priority,
    partitionKey: blank(status.queuePartitionKey),
    dequeuedAt: blank(status.dequeuedAt),
    delayUntilMs: blank(status.delayUntilEpochMS),
    completedAt: blank(status.completedAt),
    forkedFrom: blank(status.forkedFrom),
    wasForkedFrom: status.wasForkedFrom ?? false,
    parentId: blank(status.parentWorkflowID),
    attributes: status.attributes ?? null,
    attempts: blank(status.recoveryAttempts),
  };

function within(milliseconds, promise) {
  if (milliseconds === undefined) return promise;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(Object.assign(new Error("no answer in time"), { name: "TimeoutError" })), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const serializationType = (portable) => (portable ? "portable" : undefined);

const commands = {
  // Whether the client has a method of this name.
  has: (c) => typeof client[c.method] === "function",
  async enqueue(c) {
    const options = {
      workflowName: c.workflow,
      workflowClassName: c.class,
      workflowConfigName: c.config,
      queueName: c.queue,
      workflowID: c.id,
      appVersion: c.appVersion,
      applicationName: c.application,
      workflowTimeoutMS: c.timeoutMs,
      delaySeconds: c.delayMs === undefined ? undefined : c.delayMs / 1000,
      priority: c.priority,
      deduplicationID: c.dedupId,
      queuePartitionKey: c.partitionKey,
      attributes: c.attributes,
    };
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    const args = c.args ?? [];
    const handle = c.portable ? await client.enqueuePortable(given, args, c.named) : await client.enqueue(given, ...args);
    return { id: handle.workflowID };
  },
  result: (c) => within(c.timeoutMs, client.retrieveWorkflow(c.id).getResult({ pollingIntervalMs: POLL_MS })),
  workflow: async (c) => row(await client.getWorkflow(c.id)) ?? null,
  async list(c) {
    const filter = { workflowIDs: c.ids, workflowName: c.name, status: c.status, queueName: c.queue, limit: c.limit };
    return (await client.listWorkflows(filter)).map(row);
  },
  async steps(c) {
    const steps = (await client.listWorkflowSteps(c.id)) ?? [];
    return steps.map((step) => ({
      step: step.functionID,
      name: step.name,
      output: step.output ?? null,
      error: optionalFailure(step.error),
      childId: step.childWorkflowID ?? null,
      // The earliest gives what the database driver makes of a bigint: text.
      startedAt: step.startedAtEpochMs == null ? null : Number(step.startedAtEpochMs),
      completedAt: step.completedAtEpochMs == null ? null : Number(step.completedAtEpochMs),
    }));
  },
  async stream(c) {
    const items = [];
    for await (const item of client.readStream(c.id, c.key, { offset: c.offset ?? 0, pollingIntervalMs: POLL_MS })) items.push(item);
    return items;
  },
  send: (c) => client.send(c.id, c.message, c.topic, c.idempotencyKey, { serializationType: serializationType(c.portable) }),
  event: (c) =>
    client.getEvent(c.id, c.key, { timeoutSeconds: (c.timeoutMs ?? 10_000) / 1000, pollingIntervalMs: POLL_MS }),
  cancel: (c) => client.cancelWorkflow(c.id),
  resume: async (c) => void (await client.resumeWorkflow(c.id, { queueName: c.queue })),
  async fork(c) {
    const options = { applicationVersion: c.appVersion, queueName: c.queue, timeoutMS: c.timeoutMs };
    return { id: await client.forkWorkflow(c.id, c.step, options) };
  },
  rewind: async (c) => void (await client.rewindWorkflow(c.id, { startStep: c.step, queueName: c.queue })),
  delete: (c) => client.deleteWorkflow(c.id),
  registerQueue: async (c) =>
    void (await client.registerQueue(c.name, {
      globalConcurrency: c.concurrency,
      workerConcurrency: c.workerConcurrency,
      partitionConcurrency: c.partitionConcurrency,
      rateLimit: c.rateLimit && { limitPerPeriod: c.rateLimit.limit, periodSec: c.rateLimit.periodMs / 1000 },
    })),

  // The SDK's own serializers, without a database. `expression` is evaluated, for values that JSON can't hold.
  serialize(c) {
    const value = c.expression === undefined ? c.value : eval(`(${c.expression})`);
    return (c.portable ? DBOSPortableJSON : DBOSJSON).stringify(value);
  },
  deserialize: (c) => (c.portable ? DBOSPortableJSON : DBOSJSON).parse(c.text),
  // What getResult would throw.
  async deserializeError(c) {
    try {
      return failure(await deserializeResError(c.text, c.portable ? "portable_json" : "js_superjson", DBOSJSON));
    } catch (error) {
      if (error.constructor.name !== "PortableWorkflowError") throw error;
      return failure(error);
    }
  },
};

async function handle(line) {
  const command = JSON.parse(line);
  try {
    const ok = await commands[command.command](command);
    answer({ call: command.call, ok: ok ?? null });
  } catch (error) {
    answer({ call: command.call, error: failure(error) });
  }
}

answer({ ready: true });
readline
  .createInterface({ input: process.stdin })
  .on("line", handle)
  .on("close", () => process.exit(0));
