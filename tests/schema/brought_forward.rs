//! A schema is brought forward under a worker that serves it: no execution fails, is lost or is done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::every_level::{back_to_100, step_to};
use crate::support::client::{QUEUE, SqlClient};
use crate::support::flows::{FlowBuilder, echo};
use crate::support::worker::{WorkerProcess, program};
use crate::support::{TestDatabase, TestServer};

/// A database at this level.
async fn at(level: i64) -> TestDatabase {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    back_to_100(&mut client).await;
    for level in 101..=level {
        step_to(&client, level).await;
    }
    database
}

/// A flow whose execution starts one other.
fn parent() -> Value {
    let event = [("eventName", json!("work"))];
    let parent = FlowBuilder::new("parent").node("emitter", "EventEmitterNode", &event);
    parent.node("listener", "EventListenerNodeV2", &event).build()
}

async fn count(client: &Client, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM dbos.workflow_status w WHERE {condition}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_worker_under_load_goes_on_while_the_schema_is_brought_forward() {
    let database = at(108).await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    client.store(&parent()).await;
    let workers =
        [WorkerProcess::start(&database.url(), "a", &[]).await, WorkerProcess::start(&database.url(), "b", &[]).await];
    // By SQL, whose function puts the inputs into their own table from level 113 on.
    let done = Arc::new(AtomicBool::new(false));
    let enqueued = tokio::spawn({
        let (done, client) = (done.clone(), SqlClient::open(&database).await);
        async move {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                let id = format!("e{number}");
                match number % 4 {
                    0 => client.enqueue(&id, "parent", json!({})).await,
                    _ => client.enqueue(&id, "echo", json!({"text": id})).await,
                }
                number += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            number
        }
    });
    let sql = database.client().await;
    while count(&sql, "status = 'SUCCESS'").await < 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let early = count(&sql, "inputs IS NOT NULL").await;
    let migrated = program(&database.url()).arg("migrate").output().await.unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    // Until all workers have noticed, and a while longer.
    for worker in &workers {
        worker.says("the system schema was brought forward").await;
    }
    let after = count(&sql, "true").await;
    while count(&sql, "status = 'SUCCESS'").await < after + 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    done.store(true, Ordering::Relaxed);
    let enqueued: i64 = enqueued.await.unwrap();
    let all = enqueued + (enqueued + 3) / 4;
    client.until_count("SUCCESS", all).await;
    assert_eq!(count(&sql, "true").await, all);
    assert_eq!(count(&sql, "recovery_attempts <> 1").await, 0);
    let steps = "SELECT count(*) FROM dbos.operation_outputs WHERE function_name = 'updateToCompleted'";
    assert_eq!(sql.query_one(steps, &[]).await.unwrap().get::<_, i64>(0), all);
    // Both kinds were there, and each has its result where its client looks.
    let legacy = count(&sql, "inputs IS NOT NULL").await;
    assert!(early >= 20 && legacy >= early && all - legacy >= 20, "{early} {legacy} {all}");
    assert_eq!(count(&sql, "(inputs IS NOT NULL) <> (output IS NOT NULL)").await, 0);
    let newer =
        "inputs IS NULL AND NOT EXISTS (SELECT FROM dbos.workflow_output o WHERE o.workflow_uuid = w.workflow_uuid)";
    assert_eq!(count(&sql, newer).await, 0);
    for worker in workers {
        assert!(worker.stop().await.success());
    }
}

#[tokio::test]
async fn the_commands_work_on_an_older_layout_and_its_executions_are_run() {
    for level in [100, 108, 112] {
        let database = at(level).await;
        let client = SqlClient::open(&database).await;
        client.store(&echo("echo")).await;
        let worker = WorkerProcess::start(&database.url(), "w", &[]).await;
        let url = database.url();
        let ended = program(&url).args(["enqueue", "echo", "--input", "text=here", "--wait", "--json"]).output().await;
        let ended = ended.unwrap();
        let result: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{level}: {ended:?}"));
        assert_eq!(result["result"]["outputs"], json!({"text": "here"}), "{result}");
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(told.contains(&format!("note: the system schema is at level {level}: ")), "{told}");
        // SQL as that level has it.
        let sql = database.client().await;
        let task = json!({"flowId": "echo", "inputs": {"text": "by SQL"}}).to_string();
        let enqueue =
            "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY[$2::text::json], workflow_id => 'sql')";
        sql.query_one(enqueue, &[&QUEUE, &task]).await.unwrap();
        let succeeded = "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = 'sql' AND status = 'SUCCESS'
                            AND output::jsonb -> 'outputs' ->> 'text' = 'by SQL'";
        assert!(client.comes_true(succeeded, &[], 1).await, "level {level}: {}", worker.log());
        assert!(worker.stop().await.success());
        assert_eq!(
            sql.query_one("SELECT version FROM dbos.dbos_migrations", &[]).await.unwrap().get::<_, i64>(0),
            level
        );
    }
}

/// A client of the next generation enqueues in the second before the worker has looked at the schema again.
#[tokio::test]
async fn a_newer_row_waits_until_the_worker_knows_of_its_table() {
    let database = at(108).await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    let worker = WorkerProcess::start(&database.url(), "w", &[]).await;
    let sql = database.client().await;
    // The tables are there, and the number says nothing of them yet.
    step_to(&sql, 109).await;
    sql.execute("UPDATE dbos.dbos_migrations SET version = 108", &[]).await.unwrap();
    client.enqueue("old", "echo", json!({"text": "old"})).await;
    let newer = "WITH row AS (INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, serialization)
                              VALUES ('new', 'ENQUEUED', 'executeFireFlow', $1, 'portable_json'))
                 INSERT INTO dbos.workflow_input (workflow_uuid, inputs) VALUES ('new', $2)";
    let inputs = json!({"positionalArgs": [{"flowId": "echo", "inputs": {"text": "new"}}]}).to_string();
    sql.execute(newer, &[&QUEUE, &inputs]).await.unwrap();
    for wait in 0..5 {
        let id = format!("other-{wait}");
        client.enqueue(&id, "echo", json!({"text": "old"})).await;
        client.until(&id, "SUCCESS").await;
    }
    assert_eq!(client.row("new").await.unwrap().status, "ENQUEUED");
    sql.execute("UPDATE dbos.dbos_migrations SET version = 109", &[]).await.unwrap();
    let row = client.until("new", "SUCCESS").await;
    assert_eq!((row.attempts, &row.result()["outputs"]), (1, &json!({"text": "new"})));
    assert!(worker.stop().await.success());
}

/// The tables belong to who brought the schema forward, and the worker has another role.
#[tokio::test]
async fn a_worker_without_rights_on_the_new_tables_goes_on_with_what_it_knows() {
    let database = at(108).await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    let sql = database.client().await;
    let role = format!("poor_{}", &database.name()[5..13]);
    let rights = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA dbos TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA dbos, public TO {role}"
    );
    sql.batch_execute(&rights).await.unwrap();
    let url = format!("postgresql://{role}:x@127.0.0.1:{}/{}", TestServer::get().port(), database.name());
    let worker = WorkerProcess::start(&url, "w", &[]).await;
    let migrated = program(&database.url()).arg("migrate").output().await.unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    client.enqueue("new", "echo", json!({"text": "new"})).await;
    worker.says("grant it the same rights").await;
    let earlier = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, serialization, inputs)
                   VALUES ('old', 'ENQUEUED', 'executeFireFlow', $1, 'portable_json', $2)";
    let inputs = json!({"positionalArgs": [{"flowId": "echo", "inputs": {"text": "old"}}]}).to_string();
    sql.execute(earlier, &[&QUEUE, &inputs]).await.unwrap();
    client.until("old", "SUCCESS").await;
    let output = "SELECT output FROM dbos.workflow_status WHERE workflow_uuid = 'old'";
    assert!(sql.query_one(output, &[]).await.unwrap().get::<_, &str>(0).contains("old"));
    assert_eq!(client.row("new").await.unwrap().status, "ENQUEUED");
    let rights = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA dbos TO {role}");
    sql.batch_execute(&rights).await.unwrap();
    let row = client.until("new", "SUCCESS").await;
    assert_eq!((row.attempts, &row.result()["outputs"]), (1, &json!({"text": "new"})));
    assert!(worker.stop().await.success());
    sql.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}
