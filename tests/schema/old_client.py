"""The client of the last SDK with inputs and results in workflow_status: enqueues an execution, or prints its result."""

import json
import sys

from dbos import DBOSClient, WorkflowSerializationFormat

verb, url, execution = sys.argv[1:4]
client = DBOSClient(system_database_url=url)
if verb == "enqueue":
    queue, task = sys.argv[4:]
    options = {
        "queue_name": queue,
        "workflow_name": "executeFireFlow",
        "workflow_id": execution,
        "serialization_type": WorkflowSerializationFormat.PORTABLE,
    }
    client.enqueue(options, json.loads(task))
else:
    print(json.dumps(client.retrieve_workflow(execution).get_result()))
