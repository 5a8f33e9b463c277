"""The same application as executor.mjs, in Python: it runs what its task asks for, and ends when its stdin closes."""

import json
import os
import sys

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

from dbos import DBOS, DBOSConfig  # noqa: E402


class FlowError(Exception):
    pass


config: DBOSConfig = {
    "name": os.environ.get("INTEROP_APPLICATION", "fireflow-executor"),
    "system_database_url": os.environ["INTEROP_DATABASE_URL"],
    "application_version": os.environ.get("INTEROP_VERSION", "1.0.0"),
    "executor_id": os.environ.get("INTEROP_EXECUTOR", "python-executor"),
}
DBOS(config=config)


@DBOS.dbos_class("ExecutionWorkflows")
class ExecutionWorkflows:
    @staticmethod
    @DBOS.workflow(name="executeFireFlow")
    def execute_fire_flow(task):
        created = {"executionId": task["executionId"], "event": {"type": "execution:created", "index": -1}}
        DBOS.write_stream("events", created)
        signal = None
        if "waitForStart" in task:
            signal = DBOS.recv("START_SIGNAL", task["waitForStart"])
            if not signal:
                raise FlowError("no start signal")
        DBOS.run_step({"name": "updateToRunning"}, lambda: None)

        def run():
            for item in task.get("items", []):
                DBOS.write_stream("events", item)
            return {"executionId": task["executionId"], "signal": signal, "result": task.get("result")}

        outcome = DBOS.run_step({"name": "executeFlowAtomic"}, run)
        if "event" in task:
            DBOS.set_event("progress", task["event"])
        if "fail" in task:
            raise ValueError(task["fail"]["message"])
        DBOS.run_step({"name": "updateToCompleted"}, lambda: None)
        return None if task.get("void") else outcome


DBOS.launch()
DBOS.register_queue(os.environ.get("INTEROP_QUEUE", "fireflow-executions"), polling_interval_sec=0.05)
answers.write(json.dumps({"ready": True}) + "\n")
sys.stdin.read()
DBOS.destroy()
