//! What a client gets: results, errors, rows, steps and streams.

use serde_json::{Value, json};

use super::stage::{QUEUE, WORKER, execution, names, outputs, shared, task, with};
use crate::interop::{client::Client, setup::Lang};

const STEPS: [&str; 4] = ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"];

#[test]
fn each_client_reads_result_row_steps_and_events_in_its_own_and_in_portable_form() {
    shared(async |stage| {
        for client in &stage.clients {
            for portable in [false, true] {
                let id = format!("{:?}-{portable}", client.lang());
                let product = "gear \u{2699} \"\u{1f680}\" \\ \u{e9}";
                let args = json!([{"flowId": "price-note", "inputs": {"product": product}}]);
                client.enqueue(with(task(&id, args.clone()), json!({ "portable": portable }))).await;

                let events = client.stream(&id, "events").await; // while it runs, and it ends by itself
                let result = client.result(&id).await.unwrap();
                let expected = json!({
                    "executionId": id, "status": "completed", "duration": result["duration"], "childTasks": [],
                    "outputs": {"note": format!("{product}: 4, 6 at 14.88"), "total": 14.875}
                });
                assert_eq!(result, expected);
                assert!(result["duration"].is_u64(), "{result}");
                check_row(client, &id, &args, &result).await;
                check_steps(client, &id, &result).await;
                check_events(&id, &events);
                assert_eq!(client.stream(&id, "events").await, events, "the same when it is read after the end");
            }
        }
    });
}

async fn check_row(client: &Client, id: &str, args: &Value, result: &Value) {
    let row = client.workflow(id).await;
    let expected = json!({
        "id": id, "status": "SUCCESS", "name": "executeFireFlow", "className": "ExecutionWorkflows", "configName": null,
        "queue": QUEUE, "executorId": WORKER, "appVersion": "1.0.0", "application": "fireflow-executor",
        "input": {"args": args, "named": {}}, "output": result, "error": null, "priority": 0, "attempts": 1,
        "dedupId": null, "parentId": null, "forkedFrom": null, "wasForkedFrom": false, "deadlineMs": null,
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&row[field], value, "{field} of {row}");
    }
    let times = ["createdAt", "dequeuedAt", "completedAt"].map(|field| row[field].as_i64().unwrap_or_default());
    assert!(times[0] > 0 && times.is_sorted(), "{row}");
    assert_eq!(row["updatedAt"], row["completedAt"]);
    let filter = json!({"name": "executeFireFlow", "status": "SUCCESS", "queue": QUEUE});
    let listed = client.call("list", filter).await.unwrap();
    assert!(listed.as_array().unwrap().contains(&row), "{row} is listed");
}

async fn check_steps(client: &Client, id: &str, result: &Value) {
    let steps = client.steps(id).await;
    assert_eq!(names(&steps), STEPS);
    for (number, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], number);
        let output = if number == 2 { result } else { &Value::Null };
        assert_eq!((&step["output"], &step["error"]), (output, &Value::Null), "{step}");
        let times = [&step["startedAt"], &step["completedAt"]].map(|time| time.as_i64().unwrap_or_default());
        assert!(times[0] > 0 && times.is_sorted(), "{step}");
    }
}

fn check_events(id: &str, events: &[Value]) {
    let types: Vec<&str> = events.iter().filter_map(|event| event["event"]["type"].as_str()).collect();
    assert_eq!(types[..2], ["execution:created", "flow:started"]);
    assert_eq!(types.last(), Some(&"flow:completed"));
    assert_eq!(types.iter().filter(|kind| **kind == "node:completed").count(), 5);
    assert_eq!(types.iter().filter(|kind| **kind == "edge:transfer-completed").count(), 5);
    for (offset, event) in (-1_i64..).zip(events) {
        assert_eq!((&event["executionId"], &event["event"]["index"]), (&json!(id), &json!(offset)));
    }
    assert_eq!(events[0]["event"]["data"]["json"]["flowId"], "price-note");
}

#[test]
fn a_failed_execution_raises_its_message_in_the_client() {
    shared(async |stage| {
        let cases = [
            ("unknown-flow", json!([{"flowId": "nope"}]), "UnknownFlow", "there is no flow \"nope\""),
            ("text", json!(["hello-world"]), "InvalidTask", "the task argument is not usable: it is a text"),
            ("empty", json!([]), "InvalidTask", "there are no arguments"),
            (
                "unknown-input",
                json!([{"flowId": "hello-world", "inputs": {"nmae": "Ada"}}]),
                "InvalidInput",
                "the flow has no input \"nmae\"; its inputs: name",
            ),
        ];
        for client in &stage.clients {
            for portable in [false, true] {
                for (case, args, name, message) in &cases {
                    let id = format!("{case}-{:?}-{portable}", client.lang());
                    client.enqueue(with(task(&id, args.clone()), json!({ "portable": portable }))).await;
                    let error = client.result(&id).await.unwrap_err();
                    assert!(error.message.contains(message), "{id}: {error:?}");
                    // A pickle holds Python's plain Exception: a class of ours would not be known there.
                    let pickled = client.lang() == Lang::Python && !portable;
                    assert_eq!(error.name, if pickled { "Exception" } else { name }, "{id}");
                    let row = client.workflow(&id).await;
                    assert_eq!((&row["status"], &row["output"]), (&json!("ERROR"), &Value::Null), "{row}");
                    assert!(row["completedAt"].is_i64(), "{row}");
                    let shown = row["error"]["message"].as_str().unwrap_or_default();
                    assert!(shown.replace("\\\"", "\"").contains(message), "{id} in a list: {row}");

                    let steps = client.steps(&id).await;
                    assert_eq!(steps.last().map(|step| &step["name"]), Some(&json!("updateToFailed")));
                    let events = client.stream(&id, "events").await;
                    if *case == "unknown-input" {
                        assert_eq!(names(&steps)[..3], STEPS[..3]);
                        assert!(steps[2]["error"]["message"].as_str().unwrap().contains("nmae"), "{steps:?}");
                        let failure = stage.execution_has(&id, "failed").await;
                        assert_eq!(failure.as_deref(), Some(error.message.as_str()));
                        assert_eq!(events.len(), 1, "{events:?}");
                    } else {
                        assert_eq!((steps.len(), events.len()), (1, 0), "nothing was begun: {steps:?} {events:?}");
                    }
                }
            }
        }
        // A node that fails doesn't fail the flow.
        for client in &stage.clients {
            let id =
                client.enqueue(execution(&format!("{:?}-handled", client.lang()), "handled-error", json!({}))).await;
            let outputs = outputs(client.result(&id).await);
            assert!(outputs["apology"].as_str().unwrap().starts_with("Can't share 10: "), "{outputs}");
            assert!(outputs.get("message").is_none(), "{outputs}");
        }
    });
}

#[test]
fn sql_and_keyword_arguments_enqueue_as_well() {
    shared(async |stage| {
        let enqueue = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY[$2::text::json], class_name => 'ExecutionWorkflows')";
        let task = r#"{ "flowId" : "hello-world", "inputs" : {"name" : "SQL"} }"#;
        let id: String = stage.sql.query_one(enqueue, &[&QUEUE, &task]).await.unwrap().get(0);
        let named = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, named_args => $2::text::json)";
        let by_name: String = stage.sql.query_one(named, &[&QUEUE, &task]).await.unwrap().get(0);
        for client in &stage.clients {
            for id in [&id, &by_name] {
                let result = client.result(id).await.unwrap();
                assert_eq!(result["executionId"], json!(id), "the execution has the workflow's id");
                assert_eq!(result["outputs"], json!({"greeting": "Hello, SQL!"}));
            }
            let types: Vec<Value> =
                client.stream(&id, "events").await.iter().map(|event| event["event"]["type"].clone()).collect();
            assert_eq!(types.last(), Some(&json!("flow:completed")));
            assert_eq!(
                client.workflow(&id).await["input"]["args"],
                json!([serde_json::from_str::<Value>(task).unwrap()])
            );
        }

        let python = stage.client(Lang::Python);
        for portable in [false, true] {
            let fields = json!({
                "workflow": "executeFireFlow", "class": "ExecutionWorkflows", "queue": QUEUE, "portable": portable,
                "named": {"flowId": "hello-world", "inputs": {"name": "keywords"}}
            });
            let id = python.enqueue(fields).await;
            assert_eq!(outputs(python.result(&id).await), json!({"greeting": "Hello, keywords!"}));
        }
    });
}

#[test]
fn an_id_is_run_once_and_a_deduplication_id_is_free_after_the_end() {
    shared(async |stage| {
        for client in &stage.clients {
            let id = format!("reused-{:?}", client.lang());
            for name in ["Ada", "Bob", "Cy"] {
                client.enqueue(execution(&id, "hello-world", json!({ "name": name }))).await;
                assert_eq!(outputs(client.result(&id).await), json!({"greeting": "Hello, Ada!"}));
            }
            assert_eq!(names(&client.steps(&id).await), STEPS);
            let row = client.workflow(&id).await;
            assert_eq!((&row["attempts"], &row["input"]["args"][0]["inputs"]["name"]), (&json!(1), &json!("Ada")));
            let events = client.stream(&id, "events").await;
            let created = events.iter().filter(|event| event["event"]["type"] == "execution:created").count();
            assert_eq!(created, 1);

            let key = json!({"dedupId": format!("key-{:?}", client.lang())});
            let [first, second, third] = [1, 2, 3].map(|n| format!("{n}-{:?}", client.lang()));
            client.enqueue(with(execution(&first, "parallel", json!({"duration": 1000})), key.clone())).await;
            stage.engine_runs(&first).await;
            let refused = client.call("enqueue", with(execution(&second, "hello-world", json!({})), key.clone())).await;
            let refusal = refused.unwrap_err();
            assert!(refusal.name.starts_with("DBOSQueue") && refusal.name.contains("uplicated"), "{refusal:?}");
            assert!(client.result(&first).await.is_ok());
            client.enqueue(with(execution(&third, "hello-world", json!({})), key)).await;
            assert!(client.result(&third).await.is_ok());
            assert_eq!(client.workflow(&second).await, Value::Null);
        }
    });
}
