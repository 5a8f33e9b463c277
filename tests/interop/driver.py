"""Drives the Python SDK's client for tests: one JSON command a line in, one JSON answer a line out.

The commands and the fields of the answers are the same as driver.mjs's; mod.rs describes them.
"""

import json
import os
import sys
import threading

# Whatever logs to stdout; answers have it for themselves.
answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
os.dup2(2, 1)

from dbos import DBOSClient, WorkflowSerializationFormat  # noqa: E402
from dbos._serialization import (  # noqa: E402
    DBOSDefaultSerializer,
    DBOSPortableJSON,
    PortableWorkflowError,
)
import base64  # noqa: E402,F401  (for expressions)
import datetime  # noqa: E402,F401
import decimal  # noqa: E402,F401
import pickle  # noqa: E402,F401

POLL_SECONDS = 0.05
writing = threading.Lock()
url = os.environ.get("INTEROP_DATABASE_URL")
client = url and DBOSClient(
    system_database_url=url,
    application_name=os.environ.get("INTEROP_APPLICATION") or None,
)


def answer(line):
    text = json.dumps(line, default=repr)
    with writing:
        answers.write(text + "\n")


def failure(error):
    if isinstance(error, PortableWorkflowError):
        return {"name": error.name, "message": error.message, "code": error.code, "data": error.data}
    code = getattr(error, "dbos_error_code", None)
    return {"name": type(error).__name__, "message": str(error), "code": code, "data": None}


def optional_failure(error):
    # A list shows an error that it can't decode as its raw text.
    if error is None:
        return None
    return failure(error if isinstance(error, BaseException) else Exception(error))


def row(status):
    given = status.input
    if isinstance(given, dict):
        given = {"args": list(given.get("args") or []), "named": given.get("kwargs") or {}}
    return {
        "id": status.workflow_id,
        "status": status.status,
        "name": status.name,
        "className": status.class_name or None,
        "configName": status.config_name or None,
        "queue": status.queue_name or None,
        "input": given,
        "output": status.output,
        "error": optional_failure(status.error),
        "executorId": status.executor_id or None,
        "appVersion": status.app_version or None,
        "application": status.application_name or None,
        "createdAt": status.created_at,
        "updatedAt": status.updated_at,
        "timeoutMs": status.workflow_timeout_ms,
        "deadlineMs": status.workflow_deadline_epoch_ms,
        "dedupId": status.deduplication_id,
        "priority": status.priority,
        "partitionKey": status.queue_partition_key,
        "dequeuedAt": status.dequeued_at,
        "delayUntilMs": status.delay_until_epoch_ms,
        "completedAt": status.completed_at,
        "forkedFrom": status.forked_from,
        "wasForkedFrom": status.was_forked_from,
        "parentId": status.parent_workflow_id,
        "attributes": status.attributes,
        "attempts": status.recovery_attempts,
    }


def serialization_type(portable):
    return WorkflowSerializationFormat.PORTABLE if portable else WorkflowSerializationFormat.DEFAULT


def enqueue(c):
    options = {
        "workflow_name": c["workflow"],
        "class_name": c.get("class"),
        "instance_name": c.get("config"),
        "queue_name": c["queue"],
        "workflow_id": c.get("id"),
        "app_version": c.get("appVersion"),
        "application_name": c.get("application"),
        "workflow_timeout": c["timeoutMs"] / 1000 if "timeoutMs" in c else None,
        "delay_seconds": c["delayMs"] / 1000 if "delayMs" in c else None,
        "priority": c.get("priority"),
        "deduplication_id": c.get("dedupId"),
        "queue_partition_key": c.get("partitionKey"),
        "attributes": c.get("attributes"),
    }
    given = {key: value for key, value in options.items() if value is not None}
    given["serialization_type"] = serialization_type(c.get("portable"))
    handle = client.enqueue(given, *c.get("args", []), **c.get("named", {}))
    return {"id": handle.get_workflow_id()}


def result(c):
    handle = client.retrieve_workflow(c["id"])
    if "timeoutMs" not in c:
        return handle.get_result(polling_interval_sec=POLL_SECONDS)
    # The SDK waits without a limit, so the limit is on the wait for the thread that waits.
    outcome = []

    def wait():
        try:
            outcome.append((True, handle.get_result(polling_interval_sec=POLL_SECONDS)))
        except BaseException as error:
            outcome.append((False, error))

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    waiter.join(c["timeoutMs"] / 1000)
    if not outcome:
        raise TimeoutError("no answer in time")
    done, value = outcome[0]
    if not done:
        raise value
    return value


def workflow(c):
    rows = client.list_workflows(workflow_ids=[c["id"]])
    return row(rows[0]) if rows else None


def list_(c):
    rows = client.list_workflows(
        workflow_ids=c.get("ids"),
        name=c.get("name"),
        status=c.get("status"),
        queue_name=c.get("queue"),
        limit=c.get("limit"),
    )
    return [row(status) for status in rows]


def steps(c):
    return [
        {
            "step": step["function_id"],
            "name": step["function_name"],
            "output": step["output"],
            "error": optional_failure(step["error"]),
            "childId": step["child_workflow_id"],
            "startedAt": step["started_at_epoch_ms"],
            "completedAt": step["completed_at_epoch_ms"],
        }
        for step in client.list_workflow_steps(c["id"])
    ]


def stream(c):
    return list(
        client.read_stream(c["id"], c["key"], offset=c.get("offset", 0), polling_interval_sec=POLL_SECONDS)
    )


def send(c):
    client.send(
        c["id"],
        c["message"],
        c.get("topic"),
        c.get("idempotencyKey"),
        serialization_type=serialization_type(c.get("portable")),
    )


def event(c):
    return client.get_event(c["id"], c["key"], c.get("timeoutMs", 10_000) / 1000)


def fork(c):
    timeout = c["timeoutMs"] / 1000 if "timeoutMs" in c else None
    handle = client.fork_workflow(
        c["id"],
        c["step"],
        application_version=c.get("appVersion"),
        queue_name=c.get("queue"),
        timeout_seconds=timeout,
    )
    return {"id": handle.get_workflow_id()}


def resume(c):
    client.resume_workflow(c["id"], queue_name=c.get("queue"))


def rewind(c):
    client.rewind_workflow(c["id"], start_step=c.get("step"), queue_name=c.get("queue"))


def register_queue(c):
    rate = c.get("rateLimit")
    client.register_queue(
        c["name"],
        global_concurrency=c.get("concurrency"),
        worker_concurrency=c.get("workerConcurrency"),
        partition_concurrency=c.get("partitionConcurrency"),
        limiter={"limit": rate["limit"], "period": rate["periodMs"] / 1000} if rate else None,
    )


def serialize(c):
    # `expression` is evaluated, for values that JSON can't hold.
    value = eval(c["expression"]) if "expression" in c else c["value"]
    if "protocol" in c:
        return base64.b64encode(pickle.dumps(value, c["protocol"])).decode()
    return (DBOSPortableJSON if c.get("portable") else DBOSDefaultSerializer).serialize(value)


def deserialize(c):
    return (DBOSPortableJSON if c.get("portable") else DBOSDefaultSerializer).deserialize(c["text"])


def deserialize_error(c):
    """What get_result would raise."""
    value = deserialize(c)
    return failure(PortableWorkflowError(**value)) if c.get("portable") else failure(value)


COMMANDS = {
    "enqueue": enqueue,
    "result": result,
    "workflow": workflow,
    "list": list_,
    "steps": steps,
    "stream": stream,
    "send": send,
    "event": event,
    "cancel": lambda c: client.cancel_workflow(c["id"]),
    "resume": resume,
    "fork": fork,
    "rewind": rewind,
    "delete": lambda c: client.delete_workflow(c["id"]),
    "registerQueue": register_queue,
    "serialize": serialize,
    "deserialize": deserialize,
    "deserializeError": deserialize_error,
}


def handle(line):
    command = json.loads(line)
    try:
        answer({"call": command["call"], "ok": COMMANDS[command["command"]](command)})
    except BaseException as error:
        answer({"call": command["call"], "error": failure(error)})


answer({"ready": True})
for line in sys.stdin:
    threading.Thread(target=handle, args=(line,), daemon=True).start()
# Threads that still wait on the database don't hold the process.
os._exit(0)
