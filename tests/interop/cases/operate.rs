//! What the operator's commands write is what the real clients write: every column of every table, for every state.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Stage, command, task, with};
use crate::{
    interop::{
        client::Client,
        executor::{Executor, ExecutorOptions},
        setup::Lang,
    },
    support::TestDatabase,
};

/// A workflow with a past, as `$1`, in the state `$2`: each column that an operation could change holds something.
const SEED: [&str; 6] = [
    "INSERT INTO dbos.workflow_status
            (workflow_uuid, status, name, class_name, queue_name, application_name, application_version, application_id,
             recovery_attempts, workflow_timeout_ms, workflow_deadline_epoch_ms, started_at_epoch_ms, deduplication_id,
             owner_xid, creator_xid, executor_id, priority, authenticated_user, assumed_role, authenticated_roles,
             queue_partition_key, attributes, serialization, rate_limited, created_at, updated_at, completed_at, output, error)
     VALUES ($1, $2, 'work', 'Works', 'somewhere', 'fireflow-executor', 'v7', 'app', 3, 60000, 4000000000000, 2000, $1,
             'token', 'creator', 'gone', 5, 'ada', 'owner', '[\"owner\"]', 'part', '{\"tenant\": \"acme\"}', 'portable_json', TRUE,
             1000, 1000, 3000, '\"legacy\"', '{\"legacy\": true}')",
    "INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
     SELECT $1, '{\"positionalArgs\":[7]}', 1000 WHERE $2 <> ''",
    "INSERT INTO dbos.workflow_output (workflow_uuid, output, error, retention_timestamp)
     SELECT $1, '\"result\"', NULL, 1000 WHERE $2 = 'SUCCESS'",
    "INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, function_name, output, error, child_workflow_id,
            started_at_epoch_ms, completed_at_epoch_ms, serialization, application_name, retention_timestamp)
     SELECT $1, n, 'step' || n, CASE WHEN n % 2 = 0 THEN '1' END, CASE WHEN n % 2 = 1 THEN '{}' END,
            CASE WHEN n = 1 THEN 'child' END, 10 * n, 10 * n + 5, 'portable_json', 'fireflow-executor', 1000
       FROM generate_series(0, 4) n WHERE $2 <> ''",
    "INSERT INTO dbos.streams (workflow_uuid, key, value, \"offset\", function_id, serialization)
     SELECT $1, 'events', CASE WHEN n = 5 THEN '\"__DBOS_STREAM_CLOSED__\"' ELSE n::text END, n, n, 'portable_json'
       FROM generate_series(0, 5) n WHERE $2 <> ''",
    "WITH history AS (
       INSERT INTO dbos.workflow_events_history (workflow_uuid, function_id, key, value, serialization)
       SELECT $1, n, key, n::text, 'portable_json' FROM generate_series(0, 4) n, unnest(ARRAY['a', 'b']) key
        WHERE $2 <> '' AND (key = 'a' OR n < 1)
     ), latest AS (
       INSERT INTO dbos.workflow_events (workflow_uuid, key, value, serialization)
       SELECT $1, key, CASE key WHEN 'a' THEN '4' ELSE '0' END, 'portable_json' FROM unnest(ARRAY['a', 'b']) key
     )
     INSERT INTO dbos.notifications (destination_uuid, topic, message, consumed, consumed_by_function_id, created_at_epoch_ms)
     SELECT $1, 'topic', n::text, n < 3, CASE WHEN n < 3 THEN n + 1 END, n FROM generate_series(0, 3) n",
];

/// All rows of a workflow in the tables of DBOS.
const ROWS: &str = "
SELECT jsonb_build_object(
  'status', (SELECT jsonb_agg(to_jsonb(t)) FROM dbos.workflow_status t WHERE workflow_uuid = $1),
  'input', (SELECT jsonb_agg(to_jsonb(t)) FROM dbos.workflow_input t WHERE workflow_uuid = $1),
  'output', (SELECT jsonb_agg(to_jsonb(t)) FROM dbos.workflow_output t WHERE workflow_uuid = $1),
  'steps', (SELECT jsonb_agg(to_jsonb(t) ORDER BY function_id) FROM dbos.operation_outputs t WHERE workflow_uuid = $1),
  'streams', (SELECT jsonb_agg(to_jsonb(t) ORDER BY key, \"offset\") FROM dbos.streams t WHERE workflow_uuid = $1),
  'events', (SELECT jsonb_agg(to_jsonb(t) ORDER BY key) FROM dbos.workflow_events t WHERE workflow_uuid = $1),
  'history', (SELECT jsonb_agg(to_jsonb(t) ORDER BY key, function_id) FROM dbos.workflow_events_history t WHERE workflow_uuid = $1),
  'messages', (SELECT jsonb_agg(to_jsonb(t) - 'message_uuid' ORDER BY created_at_epoch_ms) FROM dbos.notifications t
                WHERE destination_uuid = $1))";

/// Each state that a workflow may be in.
const STATES: [&str; 7] =
    ["ENQUEUED", "DELAYED", "PENDING", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "SUCCESS", "ERROR"];

async fn seed(stage: &Stage, id: &str, state: &str) {
    for statement in SEED {
        stage.sql.execute(statement, &[&id, &state]).await.unwrap();
    }
}

/// A workflow's rows, in which ids are their names here, and times are "now" unless they are those of the seed.
async fn rows(stage: &Stage, id: &str, names: &[(&str, &str)]) -> Value {
    let mut rows: Value = stage.sql.query_one(ROWS, &[&id]).await.unwrap().get(0);
    fn walk(value: &mut Value, names: &[(&str, &str)]) {
        match value {
            Value::Array(all) => all.iter_mut().for_each(|one| walk(one, names)),
            Value::Object(all) => all.values_mut().for_each(|one| walk(one, names)),
            Value::String(text) => {
                if let Some((_, name)) = names.iter().find(|(id, _)| id == text) {
                    *text = (*name).to_owned();
                }
            }
            Value::Number(number)
                if number.as_i64().is_some_and(|at| (1_600_000_000_000..3_900_000_000_000).contains(&at)) =>
            {
                *value = json!("now");
            }
            _ => {}
        }
    }
    walk(&mut rows, names);
    rows
}

async fn ours(stage: &Stage, arguments: &[&str]) -> Result<(), String> {
    command(&stage.database.url(), &[&["executions"], arguments].concat()).await
}

fn assert_same(theirs: &Value, ours: &Value, what: &str) {
    for (table, rows) in theirs.as_object().unwrap() {
        assert_eq!(rows, &ours[table], "{what}: {table}; theirs is on the left");
    }
}

/// A workflow for the client, and one for us, alike.
async fn pair(stage: &Stage, client: &Client, what: &str, state: &str) -> [String; 2] {
    let ids = ["theirs", "ours"].map(|whose| format!("{what}-{state}-{whose}-{:?}", client.lang()));
    for id in &ids {
        seed(stage, id, state).await;
    }
    ids
}

#[tokio::test]
async fn cancel_and_resume_write_what_the_clients_write() {
    let Some(stage) = Stage::set().await else { return };
    for client in &stage.clients {
        for state in STATES {
            for (operation, queue) in [("cancel", None), ("resume", None), ("resume", Some("elsewhere"))] {
                let what = format!("{operation}{}", queue.unwrap_or_default());
                let [theirs, own] = pair(&stage, client, &what, state).await;
                let before = rows(&stage, &own, &[(&own, "ID")]).await;
                client.call(operation, json!({"id": theirs, "queue": queue})).await.unwrap();
                let mut arguments = vec![operation, own.as_str()];
                arguments.extend(queue.iter().flat_map(|queue| ["--to-queue", *queue]));
                let done = ours(&stage, &arguments).await;
                let ended = matches!(state, "SUCCESS" | "ERROR");
                assert_eq!(done.is_err(), ended, "{operation} {state}: {done:?}");
                let after = rows(&stage, &own, &[(&own, "ID")]).await;
                assert_same(
                    &rows(&stage, &theirs, &[(&theirs, "ID")]).await,
                    &after,
                    &format!("{operation} of {state}"),
                );
                assert_eq!(before == after, ended, "{operation} of {state} does something, unless it has ended");
            }
        }
        // One that doesn't exist is refused by both, but a cancel's silence there is not ours.
        assert!(client.call("resume", json!({"id": "nothing"})).await.is_err());
        for operation in ["resume", "cancel"] {
            assert!(ours(&stage, &[operation, "nothing"]).await.unwrap_err().contains("no such execution"));
        }
    }
}

#[tokio::test]
async fn retry_from_a_step_writes_what_a_rewind_of_the_clients_writes() {
    let Some(stage) = Stage::set().await else { return };
    for client in &stage.clients {
        for state in ["CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "ERROR"] {
            for step in [1, 2, 4] {
                let [theirs, own] = pair(&stage, client, &format!("rewind{step}"), state).await;
                client.call("rewind", json!({"id": theirs, "step": step, "queue": "elsewhere"})).await.unwrap();
                ours(&stage, &["retry", &own, "--from-step", &step.to_string(), "--to-queue", "elsewhere"])
                    .await
                    .unwrap();
                let after = rows(&stage, &own, &[(&own, "ID")]).await;
                assert_same(
                    &rows(&stage, &theirs, &[(&theirs, "ID")]).await,
                    &after,
                    &format!("rewind of {state} to {step}"),
                );
                assert_eq!(after["steps"].as_array().unwrap().len(), step);
            }
        }
        for state in ["ENQUEUED", "DELAYED", "PENDING"] {
            let [theirs, own] = pair(&stage, client, "rewind", state).await;
            assert!(client.call("rewind", json!({"id": theirs, "step": 1})).await.is_err());
            let refused = ours(&stage, &["retry", &own, "--from-step", "1"]).await.unwrap_err();
            assert!(refused.contains("cancel it first"), "{refused}");
        }
    }
}

#[tokio::test]
async fn fork_writes_what_the_clients_write() {
    let Some(stage) = Stage::set().await else { return };
    for client in &stage.clients {
        for state in STATES {
            // From step 1 Python takes nothing along, since its own steps are counted from there; those of flows are from 0.
            for (step, queue) in [(2, None), (3, Some("elsewhere"))] {
                let [theirs, own] = pair(&stage, client, &format!("fork{step}"), state).await;
                let fields =
                    json!({"id": theirs, "step": step, "queue": queue, "appVersion": "v8", "timeoutMs": 90_000});
                let their_fork = client.call("fork", fields).await.unwrap()["id"].as_str().unwrap().to_owned();
                let our_fork = format!("{own}-fork");
                let (from, id) = (step.to_string(), our_fork.as_str());
                let mut arguments =
                    vec!["fork", &own, "--from-step", &from, "--id", id, "--app-version", "v8", "--timeout", "90s"];
                arguments.extend(queue.iter().flat_map(|queue| ["--to-queue", *queue]));
                ours(&stage, &arguments).await.unwrap();
                let what = format!("fork of {state} from {step}");
                let theirs_now = rows(&stage, &their_fork, &[(&their_fork, "FORK"), (&theirs, "SOURCE")]).await;
                let ours_now = rows(&stage, &our_fork, &[(&our_fork, "FORK"), (&own, "SOURCE")]).await;
                assert_same(&theirs_now, &ours_now, &what);
                assert_eq!(ours_now["steps"].as_array().unwrap().len(), step);
                assert_eq!(ours_now["status"][0]["forked_from"], "SOURCE");
                let sources =
                    [rows(&stage, &theirs, &[(&theirs, "ID")]).await, rows(&stage, &own, &[(&own, "ID")]).await];
                assert_same(&sources[0], &sources[1], &format!("{what}, the source"));
            }
        }
    }
    // Without a version the source's is taken, as the TypeScript client does.
    seed(&stage, "versioned", "SUCCESS").await;
    ours(&stage, &["fork", "versioned", "--from-step", "0", "--id", "again"]).await.unwrap();
    assert_eq!(rows(&stage, "again", &[]).await["status"][0]["application_version"], "v7");
    let refused = ours(&stage, &["fork", "versioned", "--from-step", "0", "--id", "again"]).await.unwrap_err();
    assert!(refused.contains("already an execution \"again\""), "{refused}");
    let refused = ours(&stage, &["fork", "versioned", "--from-step", "6"]).await.unwrap_err();
    assert!(refused.contains("recorded steps 0 to 4"), "{refused}");
    let refused = ours(&stage, &["fork", "nothing", "--from-step", "0"]).await.unwrap_err();
    assert!(refused.contains("there is no execution \"nothing\""), "{refused}");
}

/// Workers of the SDKs know nothing of our pauses; the queue's registration tells them.
async fn a_pause_holds_for_workers_of(lang: Lang) {
    let database = TestDatabase::new().await;
    let options = ExecutorOptions { queue: "sdk-queue", ..ExecutorOptions::default() };
    let Some(executor) = Executor::start(lang, &database.url(), &options).await else { return };
    let Some(stage) = Stage::on(database).await else { return };
    let client = stage.client(lang);
    let one = |id: &str| with(task(id, json!([{"executionId": id}])), json!({"queue": "sdk-queue"}));
    client.enqueue(one("before")).await;
    client.result("before").await.unwrap();
    let url = stage.database.url();
    command(&url, &["queue", "pause", "sdk-queue"]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await; // they look once a second
    client.enqueue(one("meanwhile")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.status("meanwhile").await, "ENQUEUED");
    command(&url, &["queue", "resume", "sdk-queue"]).await.unwrap();
    client.result("meanwhile").await.unwrap();
    let limits = "SELECT concurrency FROM dbos.queues WHERE name = 'sdk-queue'";
    let limit: Option<i32> = stage.sql.query_one(limits, &[]).await.unwrap().get(0);
    assert_eq!(limit, None, "as it was registered");
    executor.stop().await;
}

#[tokio::test]
async fn a_pause_holds_for_workers_of_the_typescript_sdk() {
    a_pause_holds_for_workers_of(Lang::TypeScript).await;
}

#[tokio::test]
async fn a_pause_holds_for_workers_of_the_python_sdk() {
    a_pause_holds_for_workers_of(Lang::Python).await;
}
