// The bench's application in TypeScript: a workflow of three recorded steps and one that is slow, on one queue. It migrates the
// database itself, runs both once, so that their rows can serve as patterns, and ends when its stdin closes.

const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);
const { DBOS } = await import("@dbos-inc/dbos-sdk");

async function steps(input) {
  const a = await DBOS.runStep(async () => input.n + 1, { name: "one" });
  const b = await DBOS.runStep(async () => a + 1, { name: "two" });
  const c = await DBOS.runStep(async () => b + 1, { name: "three" });
  return { n: c };
}
async function slow(input) {
  await DBOS.runStep(() => new Promise((done) => setTimeout(done, 2000)), { name: "wait" });
  return input;
}
const workflows = {
  steps: DBOS.registerWorkflow(steps, { name: "steps" }),
  slow: DBOS.registerWorkflow(slow, { name: "slow" }),
};

const env = process.env;
DBOS.setConfig({
  name: "bench",
  systemDatabaseUrl: env.BENCH_DATABASE_URL,
  applicationVersion: "1",
  executorID: "bench",
  runAdminServer: false,
  logLevel: "error",
});
await DBOS.launch();
await DBOS.registerQueue("bench", {
  globalConcurrency: 100,
  workerConcurrency: Number(env.BENCH_SLOTS),
  minPollingIntervalMs: Number(env.BENCH_POLL_MS),
  onConflict: "always_update",
});
if (env.BENCH_PATTERNS) {
  for (const name of ["steps", "slow"]) {
    await (await DBOS.startWorkflow(workflows[name], { workflowID: `pattern-${name}`, queueName: "bench" })({ n: 1 })).getResult();
  }
}

write("ready\n");
process.stdin.resume().on("end", () => process.exit(0));
