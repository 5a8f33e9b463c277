"""The bench's application in Python, as app.mjs."""

import os
import sys
import time

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

from dbos import DBOS, DBOSConfig, SetWorkflowID  # noqa: E402

config: DBOSConfig = {
    "name": "bench",
    "system_database_url": os.environ["BENCH_DATABASE_URL"],
    "application_version": "1",
    "executor_id": "bench",
    "log_level": "ERROR",
    "run_admin_server": False,
}
DBOS(config=config)


@DBOS.workflow(name="steps")
def steps(given):
    a = DBOS.run_step({"name": "one"}, lambda: given["n"] + 1)
    b = DBOS.run_step({"name": "two"}, lambda: a + 1)
    c = DBOS.run_step({"name": "three"}, lambda: b + 1)
    return {"n": c}


@DBOS.workflow(name="slow")
def slow(given):
    DBOS.run_step({"name": "wait"}, lambda: time.sleep(2))
    return given


DBOS.launch()
queue = DBOS.register_queue(
    "bench",
    global_concurrency=100,
    worker_concurrency=int(os.environ["BENCH_SLOTS"]),
    polling_interval_sec=int(os.environ["BENCH_POLL_MS"]) / 1000,
    on_conflict="always_update",
)
if os.environ.get("BENCH_PATTERNS"):
    for name, workflow in [("steps", steps), ("slow", slow)]:
        with SetWorkflowID(f"pattern-{name}"):
            handle = queue.enqueue(workflow, {"n": 1})
        handle.get_result()
answers.write("ready\n")
sys.stdin.read()
os._exit(0)
