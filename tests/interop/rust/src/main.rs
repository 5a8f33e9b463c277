//! Drives the Rust SDK for tests: one JSON command a line in, one JSON answer a line out. The commands and the fields of
//! the answers are the same as driver.mjs's; mod.rs describes them. Called as `executor`, it is an application instead.

use std::{io::Write as _, path::Path, process::exit, sync::Arc, time::Duration};

use dbos::sysdb::types::{Timestamp, WorkflowFilter, WorkflowRecord, WorkflowStatus};
use dbos::{
    Children, Client, ClientConfig, Config, DBOS, Enqueue, EnqueueOptions, Error, ForkFrom, ForkOptions, QueueConflict,
    QueueOptions, RateLimit, ResumeOptions, SendOptions, WorkflowDelay, WorkflowHandle,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, stdin};

/// What a call answers: a value, or the client's error.
type Answer = Result<Value, Value>;

/// Calls that this client hasn't got. One that came with a later release would be preferred to this one of the same name,
/// and [`lacks`] wouldn't compile.
trait Lacking {
    fn enqueue_portable(&self) {}
    fn read_stream(&self) {}
    fn rewind(&self) {}
    fn rewind_workflow(&self) {}
    fn set_workflow_priority(&self) {}
}

impl Lacking for Client {}

/// Whether the client has none of the other SDKs' methods of this name.
fn lacks(client: &Client, method: &str) -> bool {
    let () = match method {
        "enqueuePortable" => client.enqueue_portable(),
        "readStream" => client.read_stream(),
        "rewindWorkflow" => (client.rewind(), client.rewind_workflow()).0,
        "setWorkflowPriority" => client.set_workflow_priority(),
        _ => return false,
    };
    true
}

#[tokio::main]
async fn main() {
    let url = std::env::var("INTEROP_DATABASE_URL").unwrap_or_default();
    let application = std::env::var("INTEROP_APPLICATION").ok().filter(|name| !name.is_empty());
    let script = std::env::args().nth(1).unwrap_or_default();
    if Path::new(&script).file_stem().is_some_and(|stem| stem == "executor") {
        return execute(url, application).await;
    }
    let config = ClientConfig {
        app_name: application,
        outcome_poll_interval: Some(Duration::from_millis(50)),
        ..ClientConfig::new(url)
    };
    let client = match Client::connect(config).await {
        Ok(client) => Arc::new(client),
        Err(error) => fail(&error),
    };
    say(&json!({"ready": true}));
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let client = Arc::clone(&client);
        tokio::spawn(async move {
            let Ok(command) = serde_json::from_str::<Value>(&line) else { return };
            say(&match call(&client, &command).await {
                Ok(value) => json!({"call": command["call"], "ok": value}),
                Err(error) => json!({"call": command["call"], "error": error}),
            });
        });
    }
    // Calls that still wait on the database don't hold the process.
    exit(0);
}

/// An application that migrates the database in its SDK's way, runs no flows, and ends when its stdin closes.
async fn execute(url: String, application: Option<String>) {
    let config = Config {
        app_version: std::env::var("INTEROP_VERSION").ok(),
        executor_id: std::env::var("INTEROP_EXECUTOR").ok(),
        ..Config::new(application.unwrap_or_else(|| "rust-app".into()), url)
    };
    let dbos = DBOS::new(config);
    if let Err(error) = dbos.launch().await {
        fail(&error);
    }
    say(&json!({"ready": true}));
    let _ = stdin().read_to_end(&mut Vec::new()).await;
    dbos.shutdown().await;
}

fn fail(error: &Error) -> ! {
    eprintln!("{error:?}");
    exit(1)
}

fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The variant's name is what tells the errors of this SDK apart.
fn failure(error: Error) -> Value {
    let shown = match &error {
        Error::SystemDatabase(error) => format!("{error:?}"),
        error => format!("{error:?}"),
    };
    let name: String = shown.chars().take_while(char::is_ascii_alphanumeric).collect();
    json!({"name": name, "message": error.to_string(), "code": null, "data": null})
}

fn text<'c>(command: &'c Value, field: &str) -> Option<&'c str> {
    command[field].as_str()
}

fn milliseconds(command: &Value, field: &str) -> Option<Duration> {
    command[field].as_u64().map(Duration::from_millis)
}

async fn call(client: &Client, c: &Value) -> Answer {
    let id = text(c, "id").unwrap_or_default();
    Ok(match c["command"].as_str().unwrap_or_default() {
        "has" => json!(!lacks(client, text(c, "method").unwrap_or_default())),
        "enqueue" => return enqueue(client, c).await,
        "result" => {
            let wait = async {
                let handle: WorkflowHandle<Value> = client.retrieve_workflow(id);
                handle.result().await.map_err(failure)
            };
            match milliseconds(c, "timeoutMs") {
                None => wait.await?,
                Some(limit) => tokio::time::timeout(limit, wait)
                    .await
                    .map_err(|_| json!({"name": "TimeoutError", "message": "no answer in time"}))??,
            }
        }
        "workflow" => {
            let filter = WorkflowFilter { workflow_ids: vec![id], ..WorkflowFilter::default() };
            client.list_workflows(&filter).await.map_err(failure)?.iter().map(row).next().into()
        }
        "list" => {
            let ids = c["ids"].as_array().map(Vec::as_slice).unwrap_or_default();
            let status = c["status"].clone();
            let attributes = c.get("attributes").map(Value::to_string);
            let filter = WorkflowFilter {
                workflow_ids: ids.iter().filter_map(Value::as_str).collect(),
                names: text(c, "name").into_iter().collect(),
                queue_names: text(c, "queue").into_iter().collect(),
                status: serde_json::from_value::<WorkflowStatus>(status).into_iter().collect(),
                attributes: attributes.as_deref(),
                limit: c["limit"].as_i64(),
                ..WorkflowFilter::default()
            };
            client.list_workflows(&filter).await.map_err(failure)?.iter().map(row).collect()
        }
        "steps" => {
            let steps = client.list_workflow_steps(id).await.map_err(failure)?;
            let shown = steps.iter().map(|step| {
                json!({
                    "step": step.step_id,
                    "name": step.step_name,
                    "output": payload(step.output.as_deref()),
                    "error": error_text(step.error.as_deref()),
                    "childId": step.child_workflow_id,
                    "startedAt": epoch(step.started_at),
                    "completedAt": epoch(step.completed_at),
                })
            });
            shown.collect()
        }
        "send" => {
            let options = SendOptions {
                topic: text(c, "topic"),
                idempotency_key: text(c, "idempotencyKey"),
                ..SendOptions::default()
            };
            client.send_with(id, &c["message"], options).await.map_err(failure)?;
            Value::Null
        }
        "event" => {
            let limit = milliseconds(c, "timeoutMs").unwrap_or(Duration::from_secs(10));
            client.get_event(id, text(c, "key").unwrap_or_default(), limit).await.map_err(failure)?.unwrap_or_default()
        }
        "cancel" => {
            client.cancel_all(&[id], children(c)).await.map_err(failure)?;
            Value::Null
        }
        "delete" => {
            client.delete_all(&[id], children(c)).await.map_err(failure)?;
            Value::Null
        }
        "resume" => {
            let options = ResumeOptions { queue: text(c, "queue") };
            client.resume_with::<Value, dbos::EngineOnly>(id, options).await.map_err(failure)?;
            Value::Null
        }
        "fork" => {
            let options = ForkOptions {
                app_version: text(c, "appVersion"),
                queue: text(c, "queue"),
                timeout: milliseconds(c, "timeoutMs"),
                ..ForkOptions::default()
            };
            let step = c["step"].as_i64().and_then(|step| i32::try_from(step).ok()).unwrap_or_default();
            let handle: WorkflowHandle<Value> =
                client.fork_with(id, ForkFrom::Step(step), options).await.map_err(failure)?;
            json!({"id": handle.workflow_id()})
        }
        "setDelay" => {
            let delay = WorkflowDelay::For(milliseconds(c, "delayMs").unwrap_or_default());
            client.set_workflow_delay(id, delay).await.map_err(failure)?;
            Value::Null
        }
        "setAttributes" => {
            client.update_workflow_attributes(id, c["attributes"].as_object()).await.map_err(failure)?;
            Value::Null
        }
        "setLatest" => {
            client.set_latest_application_version(text(c, "appVersion").unwrap_or_default()).await.map_err(failure)?;
            Value::Null
        }
        "registerQueue" => {
            let number = |field: &str| c[field].as_i64().and_then(|number| i32::try_from(number).ok());
            let rate_limit = c["rateLimit"]["limit"].as_i64().map(|limit| RateLimit {
                limit: i32::try_from(limit).unwrap_or(i32::MAX),
                period: milliseconds(&c["rateLimit"], "periodMs").unwrap_or_default(),
            });
            let options = QueueOptions {
                concurrency: number("concurrency"),
                worker_concurrency: number("workerConcurrency"),
                partition_concurrency: number("partitionConcurrency"),
                rate_limit,
                ..QueueOptions::default()
            };
            let name = text(c, "name").unwrap_or_default();
            client.register_queue(name, options, QueueConflict::AlwaysUpdate).await.map_err(failure)?;
            Value::Null
        }
        other => return Err(json!({"name": "NoSuchCall", "message": format!("this client has no {other}")})),
    })
}

/// Its workflows have one argument.
async fn enqueue(client: &Client, c: &Value) -> Answer {
    let options = EnqueueOptions {
        workflow_id: text(c, "id"),
        class_name: text(c, "class"),
        config_name: text(c, "config"),
        app_name: text(c, "application"),
        app_version: text(c, "appVersion"),
        timeout: milliseconds(c, "timeoutMs"),
        attributes: c["attributes"].as_object(),
        ..EnqueueOptions::on(Enqueue {
            deduplication_id: text(c, "dedupId"),
            priority: c["priority"].as_u64().and_then(|priority| u32::try_from(priority).ok()),
            partition_key: text(c, "partitionKey"),
            delay: milliseconds(c, "delayMs"),
            ..Enqueue::new(text(c, "queue").unwrap_or_default())
        })
    };
    let handle: WorkflowHandle<Value> = client
        .enqueue_with(text(c, "workflow").unwrap_or_default(), &c["args"][0], options)
        .await
        .map_err(failure)?;
    Ok(json!({"id": handle.workflow_id()}))
}

fn children(c: &Value) -> Children {
    if c["children"] == true { Children::Include } else { Children::Skip }
}

fn epoch(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_epoch_ms)
}

/// Lists show payloads as they are stored.
fn payload(stored: Option<&str>) -> Value {
    stored.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| json!(text)))
}

fn error_text(stored: Option<&str>) -> Value {
    stored.map_or(Value::Null, |text| json!({"name": "Error", "message": text, "code": null, "data": null}))
}

fn row(record: &WorkflowRecord) -> Value {
    let mut input = payload(record.input.as_deref());
    // An array of arguments, in the forms of the others; one argument, in its own.
    if record.serialization.as_deref() == Some("rust_serde") && !input.is_null() {
        input = json!({"args": [input], "named": {}});
    }
    json!({
        "id": record.workflow_id,
        "status": record.status.as_str(),
        "name": record.name,
        "className": record.class_name,
        "configName": record.config_name,
        "queue": record.queue_name,
        "input": input,
        "output": payload(record.output.as_deref()),
        "error": error_text(record.error.as_deref()),
        "executorId": record.executor_id,
        "appVersion": record.application_version,
        "application": record.application_name,
        "createdAt": record.created_at.as_epoch_ms(),
        "updatedAt": record.updated_at.as_epoch_ms(),
        "timeoutMs": record.timeout.map(|timeout| timeout.as_millis() as u64),
        "deadlineMs": epoch(record.deadline),
        "dedupId": record.deduplication_id,
        "priority": record.priority,
        "partitionKey": record.queue_partition_key,
        "dequeuedAt": epoch(record.started_at),
        "delayUntilMs": epoch(record.delay_until),
        "completedAt": epoch(record.completed_at),
        "forkedFrom": record.forked_from,
        "wasForkedFrom": record.was_forked_from,
        "parentId": record.parent_workflow_id,
        "attributes": payload(record.attributes.as_deref()),
        "attempts": record.recovery_attempts,
        "user": record.authenticated_user,
        "roles": record.authenticated_roles,
    })
}
