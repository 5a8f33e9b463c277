//! Drives the Rust SDK's client for tests: one JSON command a line in, one JSON answer a line out, as driver.mjs does. It
//! has no portable form, no rewind and no streams; payloads in rows are the columns' text.

use std::sync::Arc;
use std::time::Duration;

use dbos::{Client, ClientConfig, EngineOnly, Enqueue, EnqueueOptions, Error, ForkFrom, ResumeOptions, SendOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::var("INTEROP_DATABASE_URL").expect("a URL");
    let application = std::env::var("INTEROP_APPLICATION").ok().filter(|name| !name.is_empty());
    let config = ClientConfig { app_name: application, ..ClientConfig::new(url) };
    let client = Arc::new(Client::connect(config).await.expect("the client connects"));
    let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel::<Value>();
    let _ = answers.send(json!({"ready": true}));
    let writing = tokio::spawn(async move {
        let mut stdout = tokio::io::stdout();
        while let Some(answer) = answered.recv().await {
            let line = format!("{answer}\n");
            if stdout.write_all(line.as_bytes()).await.is_err() || stdout.flush().await.is_err() {
                return;
            }
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let command: Value = serde_json::from_str(&line).expect("a command");
        let (client, answers) = (client.clone(), answers.clone());
        tokio::spawn(async move {
            let answer = match run(&client, &command).await {
                Ok(ok) => json!({"call": command["call"], "ok": ok}),
                Err(error) => json!({"call": command["call"], "error": failure(&error)}),
            };
            let _ = answers.send(answer);
        });
    }
    drop(answers);
    let _ = writing.await;
}

/// The variant's name, and what it says.
fn failure(error: &Error<EngineOnly>) -> Value {
    let shown = format!("{error:?}");
    let name: String = shown.chars().take_while(|c| c.is_alphanumeric()).collect();
    json!({"name": name, "message": error.to_string(), "code": null, "data": null})
}

async fn run(client: &Client, command: &Value) -> Result<Value, Error<EngineOnly>> {
    let text = |key: &str| command[key].as_str();
    let id = text("id").unwrap_or_default();
    Ok(match text("command").unwrap_or_default() {
        "enqueue" => {
            let queue = Enqueue {
                deduplication_id: text("dedupId"),
                priority: command["priority"].as_u64().and_then(|priority| priority.try_into().ok()),
                delay: command["delayMs"].as_u64().map(Duration::from_millis),
                partition_key: text("partitionKey"),
                ..Enqueue::new(text("queue").unwrap_or_default())
            };
            let options = EnqueueOptions {
                workflow_id: text("id"),
                class_name: text("class"),
                app_name: text("application"),
                app_version: text("appVersion"),
                timeout: command["timeoutMs"].as_u64().map(Duration::from_millis),
                attributes: command["attributes"].as_object(),
                ..EnqueueOptions::on(queue)
            };
            // One argument, as everywhere in this SDK.
            let argument = &command["args"][0];
            let handle = client
                .enqueue_with::<_, Value, EngineOnly>(text("workflow").unwrap_or_default(), argument, options)
                .await?;
            json!({"id": handle.workflow_id()})
        }
        "result" => client.retrieve_workflow::<Value, EngineOnly>(id).result().await?,
        "workflow" => {
            let filter = dbos::sysdb::types::WorkflowFilter { workflow_ids: vec![id], ..Default::default() };
            let rows = client.list_workflows(&filter).await?;
            rows.first().map_or(Value::Null, |row| {
                json!({
                    "id": row.workflow_id, "status": row.status.as_str(), "name": row.name, "className": row.class_name,
                    "input": row.input, "output": row.output, "error": row.error, "executorId": row.executor_id,
                    "queue": row.queue_name, "attempts": row.recovery_attempts, "forkedFrom": row.forked_from,
                    "parentId": row.parent_workflow_id, "serialization": row.serialization,
                })
            })
        }
        "steps" => {
            let steps = client.list_workflow_steps(id).await?;
            let step = |step: &dbos::sysdb::types::StepRecord| {
                json!({"step": step.step_id, "name": step.step_name, "output": step.output, "error": step.error,
                       "childId": step.child_workflow_id})
            };
            steps.iter().map(step).collect()
        }
        "send" => {
            let options = SendOptions { topic: text("topic"), ..SendOptions::default() };
            client.send_with(id, &command["message"], options).await?;
            Value::Null
        }
        "event" => {
            let patience = Duration::from_millis(command["timeoutMs"].as_u64().unwrap_or(10_000));
            let event: Option<Value> = client.get_event(id, text("key").unwrap_or_default(), patience).await?;
            event.unwrap_or_default()
        }
        "cancel" => {
            client.cancel(id).await?;
            Value::Null
        }
        "resume" => {
            let options = ResumeOptions { queue: text("queue"), ..ResumeOptions::default() };
            client.resume_with::<Value, EngineOnly>(id, options).await?;
            Value::Null
        }
        "fork" => {
            let step = command["step"].as_i64().and_then(|step| step.try_into().ok()).unwrap_or_default();
            let fork = client.fork::<Value, EngineOnly>(id, ForkFrom::Step(step)).await?;
            json!({"id": fork.workflow_id()})
        }
        "delete" => {
            client.delete(id).await?;
            Value::Null
        }
        other => panic!("no command {other}"),
    })
}
