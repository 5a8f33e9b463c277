//! The Rust SDK's client. Like those of the earlier generation it knows `workflow_status` only; it has one argument, one
//! serialisation, no rewind and no streams, and gives payloads of lists as the columns' text. So it has a table of its own.

use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    matrix::{Cell, Matrix},
    stage::{QUEUE, Stage, execution, long, outputs, task, with},
};
use crate::{
    interop::{
        client::Client,
        executor::{Executor, ExecutorOptions},
        setup::Lang,
    },
    support::TestDatabase,
};

type Scenario = fn(Arc<Stage>) -> Pin<Box<dyn Future<Output = Result<(), &'static str>>>>;

const SCENARIOS: [(&str, Scenario); 15] = [
    ("result", |stage| Box::pin(result(stage))),
    ("error", |stage| Box::pin(error(stage))),
    ("steps", |stage| Box::pin(steps(stage))),
    ("start signal", |stage| Box::pin(start_signal(stage))),
    ("an id is run once", |stage| Box::pin(reuse(stage))),
    ("deduplication id", |stage| Box::pin(deduplication(stage))),
    ("delay", |stage| Box::pin(delay(stage))),
    ("priority, attributes", |stage| Box::pin(attributes(stage))),
    ("cancel, resume", |stage| Box::pin(cancel_and_resume(stage))),
    ("deadline", |stage| Box::pin(deadline(stage))),
    ("fork", |stage| Box::pin(fork(stage))),
    ("delete while running", |stage| Box::pin(delete(stage))),
    ("events", |stage| Box::pin(no_event(stage))),
    ("read by TypeScript", |stage| Box::pin(read_by_typescript(stage))),
    ("reads TypeScript's", |stage| Box::pin(reads_typescript(stage))),
];

#[tokio::test]
async fn the_rust_client_is_served() {
    let Some(stage) = Stage::set().await else { return };
    play(stage, &[], "").await;
}

/// The same on a schema of its generation, which an executor of the Python SDK has made and goes on using.
#[tokio::test]
async fn the_rust_client_is_served_on_a_schema_of_its_generation() {
    let database = TestDatabase::new().await;
    let others = ExecutorOptions { application: "others", version: "others-1", executor: "others", queue: "others" };
    let Some(executor) = Executor::start(Lang::Python2, &database.url(), &others).await else { return };
    let Some(stage) = Stage::as_it_is(database).await else { return };
    assert!(!stage.has_payload_tables);
    play(stage, &["read by TypeScript", "reads TypeScript's"], "level 108").await;
    executor.stop().await;
}

async fn play(mut stage: Stage, left_out: &[&str], subject: &str) {
    if !stage.join(&[Lang::Rust]).await {
        return;
    }
    let _worker = stage.worker(&[]).await;
    let stage = Arc::new(stage);
    let mut column = Vec::new();
    let played: Vec<_> = SCENARIOS.into_iter().filter(|(name, _)| !left_out.contains(name)).collect();
    for (_, scenario) in &played {
        column.push(Cell::of(scenario(Arc::clone(&stage))).await);
    }
    let scenarios = played.iter().map(|(name, _)| *name).collect();
    let matrix = Matrix { clients: &[Lang::Rust], scenarios, columns: vec![column] };
    matrix.print_for(subject);
    assert!(matrix.failures().is_empty(), "{:?}", matrix.failures());
}

fn rust(stage: &Stage) -> &Client {
    stage.client(Lang::Rust)
}

async fn result(stage: Arc<Stage>) -> Result<(), &'static str> {
    let product = "gear \u{2699} \"\u{1f680}\" \\ \u{e9}";
    rust(&stage).enqueue(execution("rust-result", "price-note", json!({"product": product}))).await;
    let result = rust(&stage).result("rust-result").await.unwrap();
    assert_eq!(result["outputs"], json!({"note": format!("{product}: 4, 6 at 14.88"), "total": 14.875}));
    let row = rust(&stage).workflow("rust-result").await;
    assert_eq!(
        (&row["status"], &row["serialization"], &row["attempts"]),
        (&json!("SUCCESS"), &json!("rust_serde"), &json!(1))
    );
    let output: Value = serde_json::from_str(row["output"].as_str().unwrap()).unwrap();
    assert_eq!(output, result);
    Ok(())
}

async fn error(stage: Arc<Stage>) -> Result<(), &'static str> {
    rust(&stage).enqueue(task("rust-error", json!([{"flowId": "no-such-flow"}]))).await;
    let error = rust(&stage).result("rust-error").await.unwrap_err();
    assert!(error.message.contains("no-such-flow"), "{error:?}");
    assert_eq!(rust(&stage).workflow("rust-error").await["status"], "ERROR");
    Ok(())
}

async fn steps(stage: Arc<Stage>) -> Result<(), &'static str> {
    let names: Vec<Value> = rust(&stage).steps("rust-result").await.iter().map(|step| step["name"].clone()).collect();
    assert_eq!(names, ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"]);
    Ok(())
}

async fn start_signal(stage: Arc<Stage>) -> Result<(), &'static str> {
    let settings = [("execution.start", "signal"), ("queue.name", "rust-waiting")];
    let worker = stage.worker_named("rust-waiting", &settings).await;
    let waiting =
        with(execution("rust-waits", "hello-world", json!({"name": "you"})), json!({"queue": "rust-waiting"}));
    rust(&stage).enqueue(waiting).await;
    let waits = "SELECT function_name FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND function_id = 2";
    assert_eq!(stage.until::<String>(waits, "rust-waits", |_| true).await, "DBOS.sleep");
    rust(&stage).call("send", json!({"id": "rust-waits", "topic": "START_SIGNAL", "message": "GO"})).await.unwrap();
    assert_eq!(outputs(rust(&stage).result("rust-waits").await), json!({"greeting": "Hello, you!"}));
    assert!(worker.stop().await.success());
    Ok(())
}

async fn reuse(stage: Arc<Stage>) -> Result<(), &'static str> {
    let first = rust(&stage).result("rust-result").await.unwrap();
    rust(&stage).enqueue(execution("rust-result", "price-note", json!({"product": "another"}))).await;
    assert_eq!(rust(&stage).result("rust-result").await.unwrap(), first);
    assert_eq!(rust(&stage).workflow("rust-result").await["attempts"], json!(1));
    Ok(())
}

async fn deduplication(stage: Arc<Stage>) -> Result<(), &'static str> {
    let enqueue = |id: &str| with(execution(id, "parallel", json!({"duration": 500})), json!({"dedupId": "rust-key"}));
    rust(&stage).enqueue(enqueue("rust-first")).await;
    let refused = rust(&stage).call("enqueue", enqueue("rust-second")).await.unwrap_err();
    assert!(refused.message.contains("rust-key"), "{refused:?}");
    rust(&stage).result("rust-first").await.unwrap();
    rust(&stage).enqueue(enqueue("rust-third")).await;
    rust(&stage).result("rust-third").await.unwrap();
    Ok(())
}

async fn delay(stage: Arc<Stage>) -> Result<(), &'static str> {
    rust(&stage).enqueue(with(execution("rust-later", "hello-world", json!({})), json!({"delayMs": 700}))).await;
    assert_eq!(stage.status("rust-later").await, "DELAYED");
    assert_eq!(outputs(rust(&stage).result("rust-later").await), json!({"greeting": "Hello, world!"}));
    Ok(())
}

async fn attributes(stage: Arc<Stage>) -> Result<(), &'static str> {
    let more = json!({"priority": 7, "attributes": {"tenant": "t"}, "appVersion": "1.0.0", "application": "fireflow-executor"});
    rust(&stage).enqueue(with(execution("rust-attributes", "hello-world", json!({})), more)).await;
    rust(&stage).result("rust-attributes").await.unwrap();
    let row = "SELECT to_jsonb(w) FROM dbos.workflow_status w WHERE workflow_uuid = 'rust-attributes'";
    let row: Value = stage.sql.query_one(row, &[]).await.unwrap().get(0);
    assert_eq!((&row["priority"], &row["attributes"]["tenant"]), (&json!(7), &json!("t")), "{row}");
    let owner = (&row["application_version"], &row["application_name"]);
    assert_eq!(owner, (&json!("1.0.0"), &json!("fireflow-executor")));
    Ok(())
}

async fn cancel_and_resume(stage: Arc<Stage>) -> Result<(), &'static str> {
    let id = rust(&stage).enqueue(execution("rust-cancelled", "parallel", json!({"duration": 1500}))).await;
    stage.engine_runs(&id).await;
    rust(&stage).call("cancel", json!({ "id": id })).await.unwrap();
    let error = rust(&stage).result(&id).await.unwrap_err();
    assert_eq!(error.name, "WorkflowCancelled", "{error:?}");
    stage.execution_has(&id, "stopped").await;
    rust(&stage).call("resume", json!({"id": id, "queue": QUEUE})).await.unwrap();
    assert_eq!(outputs(rust(&stage).result(&id).await), json!({"message": "all three are done"}));
    Ok(())
}

async fn deadline(stage: Arc<Stage>) -> Result<(), &'static str> {
    rust(&stage).enqueue(with(long("rust-deadline"), json!({"timeoutMs": 400}))).await;
    let error = rust(&stage).result("rust-deadline").await.unwrap_err();
    assert_eq!(error.name, "WorkflowCancelled", "{error:?}");
    stage.execution_has("rust-deadline", "stopped").await;
    Ok(())
}

async fn fork(stage: Arc<Stage>) -> Result<(), &'static str> {
    let first = rust(&stage).result("rust-result").await.unwrap();
    let fork = rust(&stage).call("fork", json!({"id": "rust-result", "step": 2})).await.unwrap();
    let fork = fork["id"].as_str().unwrap();
    assert_eq!(rust(&stage).result(fork).await.unwrap()["outputs"], first["outputs"]);
    assert_eq!(rust(&stage).workflow(fork).await["forkedFrom"], json!("rust-result"));
    Ok(())
}

async fn delete(stage: Arc<Stage>) -> Result<(), &'static str> {
    let id = rust(&stage).enqueue(long("rust-deleted")).await;
    stage.engine_runs(&id).await;
    rust(&stage).call("delete", json!({ "id": id })).await.unwrap();
    assert_eq!(rust(&stage).workflow(&id).await, Value::Null);
    // The worker stops it, and puts nothing back.
    stage.execution_has(&id, "stopped").await;
    let left = "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = $1";
    assert_eq!(stage.sql.query_one(left, &[&id]).await.unwrap().get::<_, i64>(0), 0);
    let table = if stage.has_payload_tables { "workflow_output" } else { "operation_outputs" };
    let left = &format!("SELECT count(*) FROM dbos.{table} WHERE workflow_uuid = $1");
    assert_eq!(stage.sql.query_one(left, &[&id]).await.unwrap().get::<_, i64>(0), 0);
    Ok(())
}

async fn no_event(stage: Arc<Stage>) -> Result<(), &'static str> {
    let ask = json!({"id": "rust-result", "key": "none", "timeoutMs": 200});
    assert_eq!(rust(&stage).call("event", ask).await.unwrap(), Value::Null);
    Ok(())
}

async fn read_by_typescript(stage: Arc<Stage>) -> Result<(), &'static str> {
    // Another language's own serialisation: the status is for all, the payload isn't.
    let row = stage.client(Lang::TypeScript).workflow("rust-result").await;
    assert_eq!((&row["status"], &row["name"]), (&json!("SUCCESS"), &json!("executeFireFlow")));
    assert!(stage.client(Lang::TypeScript).result("rust-result").await.is_err());
    Err("status, not payload")
}

async fn reads_typescript(stage: Arc<Stage>) -> Result<(), &'static str> {
    let portable = with(execution("ts-for-rust", "hello-world", json!({})), json!({"portable": true}));
    stage.client(Lang::TypeScript).enqueue(portable).await;
    stage.client(Lang::TypeScript).result("ts-for-rust").await.unwrap();
    assert_eq!(rust(&stage).workflow("ts-for-rust").await["status"], "SUCCESS");
    // Newer clients' rows have their outcome where this one doesn't look.
    assert_eq!(rust(&stage).result("ts-for-rust").await.unwrap(), Value::Null);
    Err("it reads null")
}
