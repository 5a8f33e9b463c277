//! `gc`: what goes, what stays, and that it can be stopped and doubled.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use support::{TestDatabase, bench::Bench, client::SqlClient, flows, worker::program};

const DAYS_AGO: &str = "(extract(epoch FROM now()) * 1000)::bigint - 86400000::bigint * ";
/// Tables with rows of workflows, and the column that says whose.
const TABLES: [(&str, &str); 10] = [
    ("dbos.workflow_status", "workflow_uuid"),
    ("dbos.workflow_input", "workflow_uuid"),
    ("dbos.workflow_output", "workflow_uuid"),
    ("dbos.operation_outputs", "workflow_uuid"),
    ("dbos.streams", "workflow_uuid"),
    ("dbos.workflow_events", "workflow_uuid"),
    ("dbos.workflow_events_history", "workflow_uuid"),
    ("dbos.notifications", "destination_uuid"),
    ("fireflow_flow_pins", "workflow_id"),
    ("fireflow_crashes", "workflow_id"),
];

async fn gc(url: &str, arguments: &[&str]) -> Json {
    let output = program(url).args(["gc", "--json", "--pause", "0ms"]).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A workflow with a row in each table; `more` are columns of its own.
async fn workflow(client: &SqlClient, id: &str, status: &str, days: u32, more: &str, values: &str) {
    let sql = format!(
        "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, completed_at{more})
         VALUES ('{id}', '{status}', 'executeFireFlow', {DAYS_AGO} {days}, {DAYS_AGO} {days},
                 CASE WHEN '{status}' NOT IN ('ENQUEUED', 'DELAYED', 'PENDING') THEN {DAYS_AGO} {days} END{values});
         INSERT INTO dbos.workflow_input (workflow_uuid, inputs) VALUES ('{id}', '{{}}');
         INSERT INTO dbos.workflow_output (workflow_uuid, output) VALUES ('{id}', '{{}}');
         INSERT INTO dbos.operation_outputs (workflow_uuid, function_id) VALUES ('{id}', 0), ('{id}', 1);
         INSERT INTO dbos.streams (workflow_uuid, key, value, \"offset\") VALUES ('{id}', 'events', '{{}}', 0);
         INSERT INTO dbos.workflow_events (workflow_uuid, key, value) VALUES ('{id}', 'k', '1');
         INSERT INTO dbos.workflow_events_history (workflow_uuid, function_id, key, value) VALUES ('{id}', 0, 'k', '1');
         INSERT INTO dbos.notifications (destination_uuid, topic, message) VALUES ('{id}', 't', '1');
         INSERT INTO fireflow_flow_pins (workflow_id, hash) VALUES ('{id}', 'h');
         INSERT INTO fireflow_crashes (workflow_id, crashes, steps, attempts, worker_id, reason) VALUES ('{id}', 1, 0, 1, 'w', 'r');
         INSERT INTO fireflow_executions (id, flow_id, owner_id, status) VALUES ('{id}', 'f', 'o', 'completed')"
    );
    client.sql().batch_execute(&sql).await.unwrap();
}

/// The workflows of which a table has rows.
async fn left(client: &SqlClient, table: &str, column: &str) -> Vec<String> {
    let rows = client.sql().query(&format!("SELECT DISTINCT {column} FROM {table} ORDER BY 1"), &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn statuses(client: &SqlClient) -> Vec<String> {
    left(client, "dbos.workflow_status", "workflow_uuid").await
}

#[tokio::test]
async fn what_ended_long_ago_goes_with_all_that_belongs_to_it_and_nothing_else() {
    let database = TestDatabase::new().await;
    let (client, url) = (SqlClient::open(&database).await, database.url());
    for (id, status, days) in [
        ("old-success", "SUCCESS", 40),
        ("old-error", "ERROR", 40),
        ("old-cancelled", "CANCELLED", 40),
        ("old-parked", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", 40),
        ("young", "SUCCESS", 20),
        ("enqueued", "ENQUEUED", 40),
        ("delayed", "DELAYED", 40),
        ("pending", "PENDING", 40),
    ] {
        workflow(&client, id, status, days, "", "").await;
    }
    // Its executor, of an SDK before, didn't say when it ended.
    workflow(&client, "undated", "SUCCESS", 40, "", "").await;
    client.execute("UPDATE dbos.workflow_status SET completed_at = NULL WHERE workflow_uuid = 'undated'", &[]).await;
    // Others' executions, one that nobody has claimed, and one that nobody has claimed and isn't ours by name.
    workflow(&client, "shop", "SUCCESS", 40, ", application_name", ", 'shop'").await;
    workflow(&client, "ours", "SUCCESS", 40, ", application_name", ", 'fireflow-executor'").await;
    workflow(&client, "unclaimed", "SUCCESS", 40, "", "").await;
    client.execute("UPDATE dbos.workflow_status SET name = 'sendInvoice' WHERE workflow_uuid = 'unclaimed'", &[]).await;
    let before = statuses(&client).await;

    let dry = gc(&url, &["--older-than", "30d", "--dry-run", "--executions"]).await;
    assert_eq!(dry["executions"], json!({"CANCELLED": 1, "ERROR": 1, "SUCCESS": 3}));
    assert_eq!((&dry["dry_run"], &dry["complete"]), (&json!(true), &json!(true)));
    assert_eq!(statuses(&client).await, before, "a dry run changes nothing");

    let done = gc(&url, &["--older-than", "30d", "--batch-size", "2"]).await;
    assert_eq!(done["executions"], dry["executions"]);
    let counts = ["payloads", "steps", "stream_items", "events", "messages", "application_rows"]
        .map(|key| done[key].as_i64().unwrap());
    assert_eq!(counts, [10, 10, 5, 10, 5, 10]);
    let kept = ["delayed", "enqueued", "old-parked", "pending", "shop", "unclaimed", "young"];
    for (table, column) in TABLES {
        assert_eq!(left(&client, table, column).await, kept, "{table}");
    }
    assert_eq!(left(&client, "fireflow_executions", "id").await.len(), 12, "the product's rows stay");

    let parked =
        gc(&url, &["--older-than", "30d", "--statuses", "parked,success", "--all-applications", "--executions"]).await;
    assert_eq!(parked["executions"], json!({"MAX_RECOVERY_ATTEMPTS_EXCEEDED": 1, "SUCCESS": 2}));
    assert_eq!(statuses(&client).await, ["delayed", "enqueued", "pending", "young"]);
    assert_eq!(left(&client, "fireflow_executions", "id").await.len(), 9, "these went, since that was asked for");
    let again = gc(&url, &["--older-than", "30d"]).await;
    assert_eq!((&again["executions"], &again["steps"]), (&json!({}), &json!(0)));
}

#[tokio::test]
async fn families_stay_while_one_of_them_may_need_another() {
    let database = TestDatabase::new().await;
    let (client, url) = (SqlClient::open(&database).await, database.url());
    let child = (", parent_workflow_id", |parent: &str| format!(", '{parent}'"));
    // A parent with a live child; children of parents that live, may be resumed, have ended, are gone.
    workflow(&client, "busy", "SUCCESS", 40, "", "").await;
    workflow(&client, "busy-1", "PENDING", 40, child.0, &(child.1)("busy")).await;
    workflow(&client, "live", "PENDING", 40, "", "").await;
    workflow(&client, "live-1", "SUCCESS", 40, child.0, &(child.1)("live")).await;
    workflow(&client, "resumable", "CANCELLED", 20, "", "").await;
    workflow(&client, "resumable-1", "SUCCESS", 40, child.0, &(child.1)("resumable")).await;
    workflow(&client, "ended", "ERROR", 20, "", "").await;
    workflow(&client, "ended-1", "SUCCESS", 40, child.0, &(child.1)("ended")).await;
    workflow(&client, "orphan-1", "SUCCESS", 40, child.0, &(child.1)("gone")).await;
    // A fork begins with the steps of its source, and asks for the same children; so does a fork of a fork.
    workflow(&client, "source", "ERROR", 40, "", "").await;
    workflow(&client, "source-1", "SUCCESS", 40, child.0, &(child.1)("source")).await;
    workflow(&client, "fork", "SUCCESS", 40, ", forked_from", ", 'source'").await;
    workflow(&client, "fork-2", "PENDING", 20, ", forked_from", ", 'fork'").await;
    workflow(&client, "forked", "ERROR", 40, "", "").await;
    workflow(&client, "forked-1", "SUCCESS", 40, child.0, &(child.1)("forked")).await;
    workflow(&client, "forked-fork", "SUCCESS", 20, ", forked_from", ", 'forked'").await;
    // A family that is old as a whole goes as a whole, also where a child ended before its parent was cancelled.
    workflow(&client, "old", "CANCELLED", 40, "", "").await;
    workflow(&client, "old-1", "SUCCESS", 41, child.0, &(child.1)("old")).await;
    gc(&url, &["--older-than", "30d", "--batch-size", "1"]).await;
    let kept = [
        "busy",
        "busy-1",
        "ended",
        "fork",
        "fork-2",
        "forked-fork",
        "live",
        "live-1",
        "resumable",
        "resumable-1",
        "source",
        "source-1",
    ];
    assert_eq!(statuses(&client).await, kept);
}

#[tokio::test]
async fn it_may_be_interrupted_doubled_and_bounded_and_removes_whole_workflows_only() {
    let database = TestDatabase::new().await;
    let (client, url) = (SqlClient::open(&database).await, database.url());
    let fill = format!(
        "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, completed_at)
         SELECT 'X' || n, 'SUCCESS', 'executeFireFlow', {DAYS_AGO} 40, {DAYS_AGO} 40 + n / 3 FROM generate_series(1, 6000) n;
         INSERT INTO dbos.operation_outputs (workflow_uuid, function_id) SELECT 'X' || n, 0 FROM generate_series(1, 6000) n;
         INSERT INTO dbos.workflow_input (workflow_uuid, inputs) SELECT 'X' || n, '{{}}' FROM generate_series(1, 6000) n"
    );
    client.sql().batch_execute(&fill).await.unwrap();
    let whole =
        "SELECT (SELECT count(*) FROM dbos.workflow_status s FULL JOIN dbos.operation_outputs o USING (workflow_uuid)
                          FULL JOIN dbos.workflow_input i USING (workflow_uuid)
                          WHERE s.status IS NULL OR o.function_id IS NULL OR i.inputs IS NULL)";
    let some = "SELECT LEAST(1, 6000 - count(*)) FROM dbos.workflow_status";

    // Its time is over.
    let bounded = gc(&url, &["--older-than", "30d", "--max-duration", "0s"]).await;
    assert_eq!((&bounded["complete"], &bounded["executions"]), (&json!(false), &json!({})));

    // Killed in its middle: pauses make it last.
    let mut killed = program(&url);
    killed.args(["gc", "--older-than", "30d", "--batch-size", "7", "--pause", "5ms"]);
    let mut killed = killed.spawn().unwrap();
    assert!(client.comes_true(some, &[], 1).await);
    killed.kill().await.unwrap();
    assert_eq!(client.sql().query_one(whole, &[]).await.unwrap().get::<_, i64>(0), 0, "whole workflows only");
    let left: i64 = client.sql().query_one("SELECT count(*) FROM dbos.workflow_status", &[]).await.unwrap().get(0);
    assert!(left > 0 && left < 6000, "{left}");

    // Two at once, and one that is told to end says what it did.
    let mut told = program(&url);
    told.args(["gc", "--json", "--older-than", "30d", "--batch-size", "3", "--pause", "50ms"])
        .stdout(std::process::Stdio::piped());
    let told = told.spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(told.id().unwrap().cast_signed()).unwrap();
    let fewer = "SELECT LEAST(1, $1 - count(*)) FROM dbos.workflow_status";
    assert!(client.comes_true(fewer, &[&left], 1).await);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = told.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    let first: Json = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(first["complete"], false);

    let (one, other) = tokio::join!(
        gc(&url, &["--older-than", "30d", "--batch-size", "50"]),
        gc(&url, &["--older-than", "30d", "--batch-size", "40"])
    );
    let removed: i64 = [&first, &one, &other].iter().filter_map(|run| run["executions"]["SUCCESS"].as_i64()).sum();
    // What one had locked, the other left to it.
    assert_eq!(removed, left, "{one} {other}");
    let steps: i64 = [&first, &one, &other].iter().filter_map(|run| run["steps"].as_i64()).sum();
    assert_eq!(steps, left);
    for table in ["workflow_status", "operation_outputs", "workflow_input"] {
        let count = format!("SELECT count(*) FROM dbos.{table}");
        assert_eq!(client.sql().query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 0, "{table}");
    }
}

#[tokio::test]
async fn rows_without_a_workflow_and_contents_that_nobody_needs_go() {
    let database = TestDatabase::new().await;
    let (client, url) = (SqlClient::open(&database).await, database.url());
    workflow(&client, "kept", "SUCCESS", 1, "", "").await;
    let sql = format!(
        "INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp) SELECT 'old' || n, '', \
             {DAYS_AGO} 40 FROM generate_series(1, 9) n;
         INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp) VALUES ('new', '', {DAYS_AGO} 2), ('kept-too', '', {DAYS_AGO} 40);
         INSERT INTO dbos.workflow_status (workflow_uuid, status, completed_at) VALUES ('kept-too', 'SUCCESS', {DAYS_AGO} 1);
         INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, retention_timestamp) SELECT 'old1', n, {DAYS_AGO} 40 FROM generate_series(1, 9) n;
         INSERT INTO fireflow_flow_versions (hash, flow_id, version, data, used_at)
         VALUES ('h', 'pinned', 1, '{{}}', now() - interval '3 days'), ('i', 'unused', 1, '{{}}', now() - interval '3 days'),
                ('j', 'fresh', 1, '{{}}', now())"
    );
    client.sql().batch_execute(&sql).await.unwrap();
    let none = gc(&url, &["--older-than", "30d", "--dry-run"]).await;
    assert_eq!((&none["orphans"], &none["flow_contents"]), (&json!({}), &json!(1)));
    let done = gc(&url, &["--older-than", "30d", "--orphans", "--batch-size", "4"]).await;
    assert_eq!(done["orphans"], json!({"workflow_input": 9, "operation_outputs": 9}), "{done}");
    assert_eq!(left(&client, "dbos.workflow_input", "workflow_uuid").await, ["kept", "kept-too", "new"]);
    assert_eq!(left(&client, "fireflow_flow_versions", "hash").await, ["h", "j"]);
}

#[tokio::test]
async fn beside_a_worker_nothing_that_runs_is_touched() {
    let bench = Bench::with(|ledger| vec![flows::family(ledger)]).await;
    let worker = bench.worker("w1", &[]).await;
    bench.client.enqueue("F1", "family", json!({"hold": "/hold/child"})).await;
    bench.ledger.entered("child", 2).await;
    // As if all of it were very old.
    bench.client.execute("UPDATE dbos.workflow_status SET created_at = 1, updated_at = 1", &[]).await;
    let done = gc(&bench.database.url(), &["--older-than", "1h", "--executions", "--orphans"]).await;
    assert_eq!(done["executions"], json!({}), "{done}");
    bench.ledger.release_all();
    bench.client.until("F1", "SUCCESS").await;
    bench.client.until_count("SUCCESS", 3).await;
    let age = "UPDATE dbos.workflow_status SET completed_at = completed_at - 7200000";
    bench.client.execute(age, &[]).await;
    let gone = gc(&bench.database.url(), &["--older-than", "1h", "--executions"]).await;
    assert_eq!(gone["executions"], json!({"SUCCESS": 3}));
    assert_eq!(left(&bench.client, "fireflow_executions", "id").await, [""; 0]);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_can_not_be_meant_is_refused_and_a_summary_is_for_people() {
    let database = TestDatabase::new().await;
    let run = async |arguments: &[&str]| {
        let output = program(&database.url()).arg("gc").args(arguments).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let refused: BTreeMap<&str, (&[&str], i32)> = BTreeMap::from([
        ("--older-than", (&[][..], 2)),
        ("at least 1h", (&["--older-than", "5m"], 1)),
        ("possible values: success, error, cancelled, parked", (&["--older-than", "30d", "--statuses", "pending"], 2)),
        ("1..=10000", (&["--older-than", "30d", "--batch-size", "0"], 2)),
        ("fireflow-worker migrate", (&["--older-than", "30d"], 1)),
    ]);
    for (part, (arguments, code)) in refused {
        let (found, out, err) = run(arguments).await;
        assert_eq!((found, out.as_str()), (code, ""), "{arguments:?}: {err}");
        assert!(err.contains(part), "{part}: {err}");
    }
    let client = SqlClient::open(&database).await;
    workflow(&client, "old", "SUCCESS", 40, "", "").await;
    let (code, out, _) = run(&["--older-than", "30d"]).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("removed 1 execution (1 SUCCESS) that ended before "), "{out}");
    assert!(out.contains("\n  2 steps\n") && out.contains("\n  2 inputs and results\n"), "{out}");
}
