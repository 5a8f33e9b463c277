// An application that hands flows to the worker: its own workflow starts one on the worker's queue and waits for it. It
// listens to a queue of its own only, so it never takes what it put on the worker's.

const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);
const { DBOS } = await import("@dbos-inc/dbos-sdk");

class ExecutionWorkflows {
  // Runs elsewhere; here it is a name to start it by.
  static async executeFireFlow() {
    throw new Error("the flow was run by the application itself");
  }
}
const flow = DBOS.registerWorkflow(ExecutionWorkflows.executeFireFlow, {
  className: "ExecutionWorkflows",
  name: "executeFireFlow",
});
const start = (task) =>
  DBOS.startWorkflow(flow, { workflowID: task.executionId, queueName: "fireflow-executions" })(task);

async function order(task) {
  const handle = await start(task);
  return { order: task.executionId, flow: await handle.getResult() };
}
const orderWorkflow = DBOS.registerWorkflow(order, { name: "order" });

DBOS.setConfig({
  name: "orders",
  systemDatabaseUrl: process.env.INTEROP_DATABASE_URL,
  applicationVersion: "1.0.0",
  executorID: "orders-app",
  listenQueues: ["orders"],
});
await DBOS.launch();
await DBOS.registerQueue("orders", { minPollingIntervalMs: 50 });
await DBOS.registerQueue("fireflow-executions", { globalConcurrency: 10 });

// One directly, from outside a workflow; one as a child; one whose parent is given time and then cancelled.
const direct = await (await start({ executionId: "direct", flowId: "hello-world", inputs: { name: "app" } })).getResult();
const child = { executionId: "of-order", flowId: "hello-world", inputs: { name: "order" } };
const asChild = await (await DBOS.startWorkflow(orderWorkflow, { workflowID: "order" })(child)).getResult();
const slow = { executionId: "of-slow", flowId: "parallel", inputs: { duration: 3_600_000 } };
await DBOS.startWorkflow(orderWorkflow, { workflowID: "slow", timeoutMS: 1500 })(slow);
write(JSON.stringify({ ready: true, direct, asChild }) + "\n");
process.stdin.resume().on("end", async () => {
  await DBOS.shutdown();
  process.exit(0);
});
