//! Where our rows differ from the original worker's on purpose.
//!
//! Each difference is an edit of the recorded rows: what they would be if the original had done as we do. What comes
//! out is then compared with our rows, so a difference holds exactly as written here, and one that is gone fails the
//! test. The reasons stand in `docs/golden-differences.md`, one heading a difference.

use serde_json::{Map, Value as Json, json};

use crate::{golden::compare::mark, rows::Rows};

/// One deliberate difference.
pub struct Difference {
    /// Its heading.
    pub name: &'static str,
    /// Makes it of recorded rows, of an execution and its children; gives the number of places. The first argument is
    /// the scenario.
    pub edit: fn(&Json, &mut [Rows]) -> usize,
}

/// All of them, in the order in which they are made.
pub const DIFFERENCES: &[Difference] = &[
    Difference { name: "A newer schema", edit: |scenario, tree| each(scenario, tree, newer_schema) },
    Difference { name: "A worker has an id of its own", edit: |scenario, tree| each(scenario, tree, own_id) },
    Difference { name: "Steps in portable JSON", edit: |scenario, tree| each(scenario, tree, portable_steps) },
    Difference { name: "A flow starts as it is stored", edit: |scenario, tree| each(scenario, tree, stored_state) },
    Difference { name: "Outputs in the result", edit: outputs },
    Difference { name: "Consumed messages stay", edit: |scenario, tree| each(scenario, tree, messages_stay) },
    Difference { name: "Errors have a kind and no stack", edit: |scenario, tree| each(scenario, tree, errors) },
    Difference { name: "A flow's timeout is a failure", edit: |scenario, tree| each(scenario, tree, flow_timeout) },
    Difference { name: "Nodes end after a timeout", edit: |scenario, tree| each(scenario, tree, nodes_end) },
    Difference { name: "A stop interrupts the flow", edit: |scenario, tree| each(scenario, tree, stop_interrupts) },
    Difference { name: "Commands are obeyed", edit: |scenario, tree| each(scenario, tree, commands) },
    Difference { name: "Results of children in their order", edit: |scenario, tree| each(scenario, tree, results) },
    Difference { name: "Children don't record how they watch", edit: |scenario, tree| each(scenario, tree, watches) },
];

/// An edit of every execution by itself.
fn each(scenario: &Json, tree: &mut [Rows], edit: fn(&Json, &mut Rows) -> usize) -> usize {
    tree.iter_mut().map(|rows| edit(scenario, rows)).sum()
}

fn execution(rows: &Rows) -> &Json {
    &rows["public.<prefix>executions"][0]
}

fn table<'a>(rows: &'a mut Rows, name: &str) -> &'a mut Vec<Json> {
    rows[name].as_array_mut().unwrap()
}

fn add(row: &mut Json, columns: Json) {
    row.as_object_mut().unwrap().extend(columns.as_object().unwrap().clone());
}

fn newer_schema(_: &Json, rows: &mut Rows) -> usize {
    rows.remove("dbos.workflow_inputs").unwrap();
    rows.remove("dbos.workflow_queue").unwrap();
    let (id, parent) = (execution(rows)["id"].clone(), execution(rows)["parent_execution_id"].clone());
    let workflow = &mut table(rows, "dbos.workflow_status")[0];
    let status = workflow["status"].as_str().unwrap().to_owned();
    let was_claimed = workflow["recovery_attempts"] != json!(0);
    let application = if was_claimed { json!("chaingraph-executor") } else { json!(null) };
    // The API's client doesn't know the columns that a cancel clears and sets today.
    let is_cancelled_while_running = status == "CANCELLED" && was_claimed;
    let ended = matches!(status.as_str(), "SUCCESS" | "ERROR");
    // A child's row names the format of its texts.
    let format = if parent.is_null() { json!(null) } else { json!("js_superjson") };
    add(
        workflow,
        json!({
            "owner_xid": if is_cancelled_while_running { json!({"$uuid": true}) } else { json!(null) },
            "completed_at": if ended { workflow["updated_at"].clone() } else { json!(null) },
            "application_name": application,
            "attributes": null, "creator_xid": null, "debounce_deadline_epoch_ms": null, "delay_until_epoch_ms": null,
            "is_debounced": false, "parent_workflow_id": parent, "rate_limited": false, "schedule_name": null,
            "serialization": format, "was_forked_from": false,
        }),
    );
    let (output, error, at) = (workflow["output"].clone(), workflow["error"].clone(), workflow["updated_at"].clone());
    let inputs = json!({
        "workflow_uuid": id, "inputs": workflow["inputs"], "retention_timestamp": workflow["created_at"]
    });
    // Results also where today's clients look, as a child's inputs; a root's stay where the API's client has put them.
    rows.insert("dbos.workflow_input".into(), if parent.is_null() { json!([]) } else { json!([inputs]) });
    let result = json!({"workflow_uuid": id, "output": output, "error": error, "retention_timestamp": at});
    rows.insert("dbos.workflow_output".into(), if ended { json!([result]) } else { json!([]) });
    rows.insert("dbos.workflow_events_history".into(), json!([]));
    for step in table(rows, "dbos.operation_outputs") {
        let at = step["completed_at_epoch_ms"].clone();
        add(step, json!({"serialization": null, "application_name": application, "retention_timestamp": at}));
    }
    for message in table(rows, "dbos.notifications") {
        add(message, json!({"serialization": null, "consumed": false, "consumed_by_function_id": null}));
    }
    for row in table(rows, "dbos.streams") {
        // The announcement is a step of its own, all others come from inside the flow's step.
        let flow = if parent.is_null() { 4 } else { 2 };
        let step = if row["offset"] == json!(0) { 0 } else { flow };
        add(row, json!({"function_id": step, "serialization": null}));
    }
    1
}

fn own_id(_: &Json, rows: &mut Rows) -> usize {
    let workflow = &mut table(rows, "dbos.workflow_status")[0];
    if workflow["executor_id"] != json!("local") {
        return 0; // never claimed
    }
    workflow["executor_id"] = json!(crate::play::WORKER);
    1
}

/// The value in the original's envelope.
fn unwrap(text: &Json) -> Option<&Json> {
    let (_, value) = mark(text).filter(|(name, _)| *name == "$json")?;
    (value["__dbos_serializer"] == json!("superjson")).then(|| &value["json"])
}

fn portable_steps(_: &Json, rows: &mut Rows) -> usize {
    for row in table(rows, "dbos.streams") {
        row["serialization"] = json!("portable_json");
    }
    let mut places = 0;
    for step in table(rows, "dbos.operation_outputs") {
        // A message is kept in the format of its sender, and the start of a child has no value.
        if step["function_name"] == json!("DBOS.recv") || step["function_name"] == json!("executeChainGraph") {
            continue;
        }
        step["serialization"] = json!("portable_json");
        for column in ["output", "error"] {
            if let Some(value) = unwrap(&step[column]).cloned() {
                step[column] = json!({ "$json": value });
            }
        }
        places += 1;
    }
    places
}

/// The events of a stream.
fn events(rows: &mut Rows) -> impl Iterator<Item = &mut Json> {
    table(rows, "dbos.streams").iter_mut().map(|row| &mut row["value"]["$json"]["event"])
}

/// What a run of the original found in its cache: the flow as an earlier run had left it.
fn stored_state(scenario: &Json, rows: &mut Rows) -> usize {
    if scenario["name"] != json!("signal-first") {
        return 0;
    }
    let stored =
        |id: &Json| scenario["flow"]["nodes"].as_array().unwrap().iter().find(|node| node["id"] == *id).unwrap();
    let mut places = 0;
    let mut replace = |value: &mut Json, by: &Json| {
        places += usize::from(value != by);
        *value = by.clone();
    };
    for event in events(rows) {
        let kind = event["type"].clone();
        let data = &mut event["data"]["json"];
        if kind == json!("node:status-changed") && data["newStatus"] == json!("executing") {
            // The nodes that start the run are initialized by it, the others are stored so.
            replace(&mut data["oldStatus"], &json!("initialized"));
        }
        if kind == json!("node:started") {
            let stored = stored(&data["node"]["id"]);
            for (port, stored) in
                data["node"]["ports"].as_array_mut().unwrap().iter_mut().zip(stored["ports"].as_array().unwrap())
            {
                replace(&mut port["value"], &stored["value"]);
            }
        }
    }
    places
}

/// What a node gives: its outputs, and where it has none, its passthrough ports.
fn gives(node: &Json) -> impl Iterator<Item = &Json> {
    let ports = node["ports"].as_array().unwrap();
    let is = |port: &Json, direction: &str| port["config"]["direction"] == json!(direction);
    let direction = if ports.iter().any(|port| is(port, "output")) { "output" } else { "passthrough" };
    ports.iter().filter(move |port| is(port, direction))
}

/// What completed nodes give that no edge takes, as their last events show it.
fn values(scenario: &Json, rows: &mut Rows) -> Map<String, Json> {
    let edges = scenario["flow"]["edges"].as_array().unwrap();
    // An edge may leave a part of a port's value.
    let root = |port: &Json| json!(port.as_str().unwrap().split(['.', '[']).next());
    let leaves = |node: &Json, port: &Json| {
        edges.iter().any(|edge| edge["sourceNodeId"] == *node && root(&edge["sourcePortId"]) == *port)
    };
    let mut values = Map::new();
    for event in events(rows).filter(|event| event["type"] == json!("node:completed")) {
        let node = &event["data"]["json"]["node"];
        for port in gives(node).filter(|port| !leaves(&node["id"], &port["config"]["id"]) && !port["value"].is_null()) {
            let name = format!("{}.{}", node["id"].as_str().unwrap(), port["config"]["id"].as_str().unwrap());
            values.insert(name, port["value"].clone());
        }
    }
    values
}

/// Results stand with the execution, and with its parent.
fn outputs(scenario: &Json, tree: &mut [Rows]) -> usize {
    let values: Map<String, Json> = tree
        .iter_mut()
        .map(|rows| (execution(rows)["id"].as_str().unwrap().to_owned(), values(scenario, rows).into()))
        .collect();
    let mut places = 0;
    for rows in tree {
        for name in ["dbos.workflow_status", "dbos.workflow_output", "dbos.operation_outputs"] {
            for row in table(rows, name) {
                for pointer in ["/output/$json/json", "/output/$json"] {
                    let result = row.pointer_mut(pointer).filter(|value| value.get("childTasks").is_some());
                    if let Some(result) = result {
                        result["outputs"] = values[result["executionId"].as_str().unwrap()].clone();
                        places += 1;
                    }
                }
            }
        }
    }
    places
}

fn messages_stay(_: &Json, rows: &mut Rows) -> usize {
    let received = table(rows, "dbos.operation_outputs")
        .iter()
        .find(|step| step["function_name"] == json!("DBOS.recv") && !step["output"].is_null())
        .cloned();
    let Some(step) = received else { return 0 };
    let message = json!({
        "destination_uuid": "$EX0", "topic": "START_SIGNAL", "message": step["output"], "message_uuid": {"$uuid": true},
        "created_at_epoch_ms": step["started_at_epoch_ms"], "serialization": null, "consumed": true,
        "consumed_by_function_id": step["function_id"],
    });
    table(rows, "dbos.notifications").insert(0, message);
    1
}

fn errors(scenario: &Json, rows: &mut Rows) -> usize {
    let kind = match scenario["name"].as_str().unwrap() {
        "never-started" => "StartTimeout",
        "missing-flow" => "UnknownFlow",
        "parent-stopped" => "ExecutionStopped",
        _ => "FlowError",
    };
    let mut places = 0;
    for name in ["dbos.workflow_status", "dbos.workflow_output", "dbos.operation_outputs"] {
        for row in table(rows, name) {
            for pointer in ["/error/$json/json", "/error/$json"] {
                let error = row.pointer_mut(pointer).filter(|value| value.get("stack").is_some());
                if let Some(error) = error {
                    *error = json!({"name": kind, "message": {"$errorText": true}});
                    places += 1;
                }
            }
        }
    }
    places
}

fn flow_timeout(scenario: &Json, rows: &mut Rows) -> usize {
    if scenario["name"] != json!("flow-timeout") {
        return 0;
    }
    let last = table(rows, "dbos.operation_outputs").last_mut().unwrap();
    assert_eq!(last["function_name"], json!("updateToStopped"));
    last["function_name"] = json!("updateToFailed");
    let execution = &mut table(rows, "public.<prefix>executions")[0];
    assert_eq!(execution["status"], json!("stopped"));
    execution["status"] = json!("failed");
    execution["error_message"] = json!({"$errorText": true});
    2
}

/// The node that ran when the time was over.
fn nodes_end(scenario: &Json, rows: &mut Rows) -> usize {
    if scenario["name"] != json!("flow-timeout") {
        return 0;
    }
    let started = events(rows).filter(|event| event["type"] == json!("node:started")).last().unwrap();
    let mut node = started["data"]["json"]["node"].clone();
    node["status"] = json!("error");
    for (port, value) in
        [("error", json!(true)), ("errorMessage", json!({"$errorText": true})), ("success", json!(false))]
    {
        node["systemPorts"][port]["value"] = value;
    }
    let changed = json!({"json": {"nodeId": node["id"], "oldStatus": "executing", "newStatus": "error"}});
    let failed = json!({
        "json": {
            "node": node, "error": {"name": "Error", "message": {"$errorText": true}}, "executionTime": {"$took": 0}
        },
        "meta": {"values": {"node": [["custom", "BaseNode"]], "error": ["Error"]}, "v": 1}
    });
    let streams = table(rows, "dbos.streams");
    for (kind, data) in [("node:status-changed", changed), ("node:failed", failed)] {
        let mut row = streams.last().unwrap().clone();
        row["offset"] = json!(streams.len());
        let event = &mut row["value"]["$json"]["event"];
        event["index"] = json!(event["index"].as_i64().unwrap() + 1);
        event["type"] = json!(kind);
        event["data"] = data;
        streams.push(row);
    }
    2
}

fn stop_interrupts(scenario: &Json, rows: &mut Rows) -> usize {
    match scenario["name"].as_str() {
        Some("cancelled") => {
            let last = table(rows, "dbos.operation_outputs").pop().unwrap();
            assert_eq!(last["function_name"], json!("executeFlowAtomic"));
            let streams = table(rows, "dbos.streams");
            let started = streams
                .iter()
                .position(|row| row["value"]["$json"]["event"]["type"] == json!("node:started"))
                .expect("the node at which it was stopped");
            streams.truncate(started + 1);
            2
        }
        // That the child failed, of which its parent hears after its own stop.
        Some("parent-stopped") => {
            let steps = table(rows, "dbos.operation_outputs");
            let before = steps.len();
            steps.retain(|step| step["function_name"] != json!("DBOS.getResult") || step["error"].is_null());
            before - steps.len()
        }
        _ => 0,
    }
}

/// The node after the sleep is held, and goes on when the pause is ended.
fn commands(scenario: &Json, rows: &mut Rows) -> usize {
    if scenario["name"] != json!("pause-ignored") {
        return 0;
    }
    let messages = table(rows, "dbos.notifications");
    let pause = messages.iter_mut().find(|message| message["topic"] == json!("COMMAND")).unwrap();
    (pause["consumed"], pause["consumed_by_function_id"]) = (json!(true), json!(4));
    let mut resume = pause.clone();
    resume["message"] = json!({"$json": {"json": {"command": "RESUME"}, "__dbos_serializer": "superjson"}});
    messages.push(resume);

    let streams = table(rows, "dbos.streams");
    let is_start = |row: &Json| {
        let event = &row["value"]["$json"]["event"];
        event["type"] == json!("node:started") && event["data"]["json"]["node"]["id"] == json!("NOafter")
    };
    let started = streams.iter().position(is_start).unwrap();
    let mut hit = streams[started].clone();
    hit["value"]["$json"]["event"]["type"] = json!("debug:breakpoint-hit");
    streams.insert(started + 1, hit);
    for row in &mut streams[started + 1..] {
        row["offset"] = json!(row["offset"].as_i64().unwrap() + 1);
        let index = &mut row["value"]["$json"]["event"]["index"];
        *index = json!(index.as_i64().unwrap() + 1);
    }
    3
}

/// The result of the second child, which came before that of the first.
fn results(scenario: &Json, rows: &mut Rows) -> usize {
    if scenario["name"] != json!("parent-stopped") {
        return 0;
    }
    let steps = table(rows, "dbos.operation_outputs");
    let before = steps.len();
    steps.retain(|step| step["function_name"] != json!("DBOS.getResult"));
    before - steps.len()
}

/// Looks at the parent, among the steps.
fn watches(_: &Json, rows: &mut Rows) -> usize {
    let steps = table(rows, "dbos.operation_outputs");
    let mut looks = 0;
    steps.retain_mut(|step| {
        let is_look = step["function_name"] == json!("getStatus");
        looks += i64::from(is_look);
        step["function_id"] = json!(step["function_id"].as_i64().unwrap() - looks);
        !is_look
    });
    looks as usize
}
