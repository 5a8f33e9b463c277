// A real DBOS application in TypeScript, with the class and method that flows are enqueued for. It migrates the
// system database itself, runs its queue, and ends when its stdin closes.
//
// What a run does is asked for by its task, so that tests can compare what the SDK records with what the worker
// records: {executionId, waitForStart?: seconds, items?: [any], event?: any, fail?: {name, message, code},
// void?: true, result?: any}.

const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);
const { DBOS, WorkflowQueue } = await import(process.argv[2] ?? "@dbos-inc/dbos-sdk");

class ExecutionWorkflows {
  static async executeFireFlow(task) {
    await DBOS.writeStream("events", { executionId: task.executionId, event: { type: "execution:created", index: -1 } });
    let signal = null;
    if (task.waitForStart !== undefined) {
      signal = await DBOS.recv("START_SIGNAL", task.waitForStart);
      if (!signal) throw new Error("no start signal");
    }
    await DBOS.runStep(async () => undefined, { name: "updateToRunning" });
    const outcome = await DBOS.runStep(
      async () => {
        for (const item of task.items ?? []) await DBOS.writeStream("events", item);
        return { executionId: task.executionId, signal, result: task.result ?? null };
      },
      { name: "executeFlowAtomic" },
    );
    if (task.event !== undefined) await DBOS.setEvent("progress", task.event);
    if (task.fail) throw Object.assign(new Error(task.fail.message), task.fail);
    await DBOS.runStep(async () => undefined, { name: "updateToCompleted" });
    return task.void ? undefined : outcome;
  }
}
DBOS.registerWorkflow(ExecutionWorkflows.executeFireFlow, { className: "ExecutionWorkflows", name: "executeFireFlow" });

const queue = process.env.INTEROP_QUEUE ?? "fireflow-executions";
DBOS.setConfig({
  name: process.env.INTEROP_APPLICATION ?? "fireflow-executor",
  systemDatabaseUrl: process.env.INTEROP_DATABASE_URL,
  applicationVersion: process.env.INTEROP_VERSION ?? "1.0.0",
  executorID: process.env.INTEROP_EXECUTOR ?? "typescript-executor",
  runAdminServer: false,
});
// Before queues were registered in the database, they were made before the launch.
if (!DBOS.registerQueue) new WorkflowQueue(queue, { concurrency: 100, workerConcurrency: 5 });
await DBOS.launch();
if (DBOS.registerQueue) await DBOS.registerQueue(queue, { minPollingIntervalMs: 50 });

write(JSON.stringify({ ready: true }) + "\n");
process.stdin.resume().on("end", async () => {
  await DBOS.shutdown();
  process.exit(0);
});
