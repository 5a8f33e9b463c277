//! What becomes of the executions of workers that died: all go back to the queue, whoever is to blame is counted, and one
//! that takes its worker down each time is parked, and nobody else with it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::collections::BTreeMap;

use serde_json::json;
use support::{
    bench::Bench,
    client::SqlClient,
    flows::{echo, gated, reporting},
    scrape::{LISTENING, address, until},
    worker::WorkerProcess,
};

/// A worker that is gone, as the tables show it: its lease has expired.
async fn died(client: &SqlClient, id: &str, state: &str) {
    let sql = "INSERT INTO fireflow_workers (id, incarnation, host, application_name, expires_at, state)
               VALUES ($1, gen_random_uuid(), 'elsewhere', 'fireflow-executor', now() - interval '1 second', $2)
               ON CONFLICT (id) DO UPDATE SET expires_at = EXCLUDED.expires_at";
    client.execute(sql, &[&id, &state]).await;
}

/// A row that this executor left, on a queue that nobody serves. Steps are told by their names; an empty one is a gap.
async fn left(client: &SqlClient, id: &str, executor: &str, steps: &[&str]) {
    let sql = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, class_name, queue_name, application_name,
                      application_version, executor_id, owner_xid, started_at_epoch_ms, recovery_attempts, serialization)
               VALUES ($1, 'PENDING', 'executeFireFlow', 'ExecutionWorkflows', 'nobody', 'fireflow-executor', '1.0.0', $2,
                      gen_random_uuid()::text, 1, 1, 'portable_json')
               ON CONFLICT (workflow_uuid) DO UPDATE SET status = 'PENDING', executor_id = EXCLUDED.executor_id,
                      owner_xid = EXCLUDED.owner_xid, started_at_epoch_ms = 1,
                      recovery_attempts = dbos.workflow_status.recovery_attempts + 1";
    client.execute(sql, &[&id, &executor]).await;
    for (number, name) in (0_i32..).zip(steps).filter(|(_, name)| !name.is_empty()) {
        let sql = "INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, function_name) VALUES ($1, $2, $3)
                   ON CONFLICT DO NOTHING";
        client.execute(sql, &[&id, &number, name]).await;
    }
}

/// The account: crashes by workflow.
async fn account(client: &SqlClient) -> BTreeMap<String, i32> {
    let rows = client.sql().query("SELECT workflow_id, crashes FROM fireflow_crashes", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn nobody_is_pending(client: &SqlClient) {
    let sql = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'PENDING'";
    assert!(client.comes_true(sql, &[], 0).await);
}

const BEGUN: [&str; 2] = ["DBOS.writeStream", "updateToRunning"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guilty_one_is_parked_and_the_innocents_end_well() {
    let bench = Bench::with(|ledger| vec![echo("echo"), reporting("work", ledger)]).await;
    let innocents: Vec<String> = (0..30).map(|number| format!("EX{number}")).collect();
    for (number, id) in innocents.iter().enumerate() {
        bench.client.enqueue(id, "work", gated(id)).await;
        if number == 10 {
            bench.client.enqueue("EX-poison", "echo", json!({})).await;
        }
    }
    let settings =
        [("queue.worker_concurrency", "50"), ("failpoints", "flow.begins/EX-poison=kill"), ("log.level", "info")];
    for death in 1..=3 {
        let mut worker = WorkerProcess::with_failpoints(&bench.database.url(), "w1", &settings);
        worker.ended().await;
        if death == 2 {
            // Those that ran beside it go on, one by one, and would be held for ever otherwise.
            bench.ledger.release_all();
        }
    }
    bench.client.enqueue("EX-new", "echo", json!({"text": "fresh"})).await;
    let worker = WorkerProcess::with_failpoints(&bench.database.url(), "w1", &settings);
    for id in innocents.iter().map(String::as_str).chain(["EX-new"]) {
        bench.client.until(id, "SUCCESS").await;
        assert_eq!(bench.client.execution(id).await.unwrap().0, "completed");
    }
    bench.client.until("EX-poison", "MAX_RECOVERY_ATTEMPTS_EXCEEDED").await;
    let (status, error) = bench.client.execution("EX-poison").await.unwrap();
    let error = error.unwrap();
    assert_eq!(status, "failed");
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    assert!(error.starts_with("parked: its worker died 3 times in a row while it ran"), "{error}");
    assert!(error.contains(&format!("last worker w1 on {host} at 20")), "{error}");
    assert!(error.ends_with("its process was gone"), "{error}");
    worker.says("execution parked as MAX_RECOVERY_ATTEMPTS_EXCEEDED: its worker died 3 times").await;
    let freed = "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = 'EX-poison' AND queue_name IS NULL
                    AND deduplication_id IS NULL AND owner_xid IS NULL AND completed_at IS NOT NULL";
    assert_eq!(bench.client.sql().query_one(freed, &[]).await.unwrap().get::<_, i64>(0), 1);
    // The accounts are settled when their executions have ended.
    assert!(bench.client.comes_true("SELECT count(*) FROM fireflow_crashes", &[], 0).await);
    assert!(worker.stop().await.success());

    // A client resumes it: it begins with a clean account, on a worker that it doesn't hurt.
    let resume = "UPDATE dbos.workflow_status SET status = 'ENQUEUED', queue_name = '_dbos_internal_queue', owner_xid = NULL,
                         recovery_attempts = 0, started_at_epoch_ms = NULL, completed_at = NULL WHERE workflow_uuid = $1";
    bench.client.execute(resume, &[&"EX-poison"]).await;
    let worker = bench.worker("w1", &[]).await;
    bench.client.until("EX-poison", "SUCCESS").await;
    assert_eq!(bench.client.execution("EX-poison").await.unwrap(), ("completed".into(), None));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn only_who_was_at_work_is_counted() {
    let bench = Bench::with(|_| vec![]).await;
    let client = &bench.client;
    let listens = ["DBOS.writeStream", "", "DBOS.sleep"];
    let told = ["DBOS.writeStream", "DBOS.recv", "DBOS.sleep"];
    let ran = ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "executeFireFlow"];
    let all = async || {
        left(client, "began", "lost", &BEGUN).await;
        left(client, "at-once", "lost", &[]).await;
        left(client, "listens", "lost", &listens).await;
        left(client, "was-told", "lost", &told).await;
        left(client, "awaits-children", "lost", &ran).await;
        left(client, "paused", "lost", &BEGUN).await;
        left(client, "drained", "drained", &BEGUN).await;
    };
    client.create_execution("paused", "F1").await;
    client.execute("UPDATE fireflow_executions SET status = 'paused'", &[]).await;
    all().await;
    died(client, "lost", "running").await;
    died(client, "drained", "draining").await;
    let worker = bench.worker("w1", &[("worker.lease", "2s")]).await;
    nobody_is_pending(client).await;
    let counted = |crashes| ["at-once", "began", "was-told"].map(|id| (id.to_owned(), crashes)).into();
    assert_eq!(account(client).await, counted(1));

    // Once more, and all is counted by the chore as well; what has made progress begins anew.
    all().await;
    left(client, "began", "lost", &["DBOS.writeStream", "updateToRunning", "another"]).await;
    nobody_is_pending(client).await;
    let mut expected: BTreeMap<String, i32> = counted(2);
    expected.insert("began".into(), 1);
    assert_eq!(account(client).await, expected);

    // So does what a client resumes; and what doesn't crash for once keeps its count.
    client.execute("UPDATE dbos.workflow_status SET recovery_attempts = 0 WHERE workflow_uuid = 'at-once'", &[]).await;
    let settled = "SELECT count(*) FROM fireflow_crashes WHERE workflow_id = 'at-once'";
    assert!(client.comes_true(settled, &[], 0).await);
    expected.remove("at-once");
    assert_eq!(account(client).await, expected);
    let parked = async |id: &str| {
        left(client, id, "lost", &[]).await;
        client.until(id, "MAX_RECOVERY_ATTEMPTS_EXCEEDED").await;
    };
    parked("was-told").await;
    worker.says("last worker lost on elsewhere").await;
    worker.says("its lease ended, and nothing is known of its process").await;
    expected.remove("was-told");
    assert_eq!(account(client).await, expected);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_row_that_can_t_be_moved_keeps_nobody_else() {
    let bench = Bench::with(|_| vec![]).await;
    let client = &bench.client;
    client
        .sql()
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON dbos.workflow_status FOR EACH ROW
               WHEN (OLD.workflow_uuid = 'bad' AND NEW.status = 'ENQUEUED') EXECUTE FUNCTION refuse()",
        )
        .await
        .unwrap();
    for id in ["a", "bad", "z"] {
        left(client, id, "lost", &[]).await;
    }
    // More than one statement takes.
    let more =
        "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, application_name, executor_id)
                SELECT 'more-' || n, 'PENDING', 'executeFireFlow', 'nobody', 'fireflow-executor', 'lost'
                  FROM generate_series(1, 1200) AS n";
    client.execute(more, &[]).await;
    died(client, "lost", "running").await;
    let worker = bench.worker("w1", &[("worker.lease", "4s")]).await;
    let pending = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'PENDING'";
    assert!(client.comes_true(pending, &[], 1).await);
    worker.says("can't be given back; the others are").await;
    assert!(worker.log().contains("not this one"), "{}", worker.log());
    // Later ones pass it by.
    left(client, "later", "lost", &[]).await;
    client.until("later", "ENQUEUED").await;
    assert_eq!(client.row("bad").await.unwrap().status, "PENDING");
    assert_eq!(account(client).await.len(), 3 + 1200);
    assert!(worker.stop().await.success());
}

/// Sweeps at their own pace are more than four seconds apart, so that one of them would find two of these.
#[tokio::test]
async fn what_a_worker_held_is_given_back_when_its_lease_ends() {
    let bench = Bench::with(|_| vec![]).await;
    let client = &bench.client;
    let worker = bench.worker("w1", &[("worker.lease", "30s")]).await;
    for (id, ends) in [("one", 5), ("two", 7), ("three", 9)] {
        let sql = "INSERT INTO fireflow_workers (id, incarnation, host, application_name, expires_at, state)
                   VALUES ($1, gen_random_uuid(), 'elsewhere', 'fireflow-executor', now() + make_interval(secs => $2), 'running')";
        client.execute(sql, &[&id, &f64::from(ends)]).await;
        left(client, id, id, &[]).await;
    }
    nobody_is_pending(client).await;
    let sweeps = "SELECT count(DISTINCT updated_at) FROM dbos.workflow_status";
    assert_eq!(client.sql().query_one(sweeps, &[]).await.unwrap().get::<_, i64>(0), 3, "{}", worker.log());
    let early = "SELECT count(*) FROM dbos.workflow_status w JOIN fireflow_workers k ON k.id = w.workflow_uuid
                  WHERE w.updated_at < EXTRACT(EPOCH FROM k.expires_at) * 1000 - 1";
    assert_eq!(
        client.sql().query_one(early, &[]).await.unwrap().get::<_, i64>(0),
        0,
        "a lease is respected to its end"
    );
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn executors_of_other_sdks_are_adopted_only_by_name_and_only_what_can_be_run() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let client = &bench.client;
    client.enqueue("EX1", "echo", json!({"text": "adopted"})).await;
    let taken =
        "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = 'local', application_version = '1.0.0',
                        recovery_attempts = 1 WHERE workflow_uuid = 'EX1'";
    client.execute(taken, &[]).await;
    for id in ["other-name", "other-class", "other-version", "other-application", "other-format", "other-executor"] {
        left(client, id, "local", &[]).await;
    }
    for change in [
        "name = 'else' WHERE workflow_uuid = 'other-name'",
        "class_name = 'Else' WHERE workflow_uuid = 'other-class'",
        "application_version = '2' WHERE workflow_uuid = 'other-version'",
        "application_name = 'else' WHERE workflow_uuid = 'other-application'",
        "serialization = 'else' WHERE workflow_uuid = 'other-format'",
        "executor_id = 'else' WHERE workflow_uuid = 'other-executor'",
    ] {
        assert_eq!(client.execute(&format!("UPDATE dbos.workflow_status SET {change}"), &[]).await, 1);
    }
    let worker = bench.worker("w1", &[("worker.lease", "2s")]).await;
    client.until_count("PENDING", 7).await; // nobody is named
    assert!(worker.stop().await.success());
    assert_eq!(client.row("EX1").await.unwrap().status, "PENDING");

    let settings = [&LISTENING[..], &[("worker.lease", "2s"), ("recovery.adopt_executors", "gone, local")]].concat();
    let worker = bench.worker("w1", &settings).await;
    assert_eq!(client.until("EX1", "SUCCESS").await.result()["outputs"], json!({"text": "adopted"}));
    // And in the chore.
    left(client, "later", "local", &[]).await;
    client.until("later", "ENQUEUED").await;
    client.until_count("PENDING", 6).await;
    assert_eq!(account(client).await, BTreeMap::new(), "nothing is known of how they ended");
    // Nobody is told that a worker died: that would be an alarm.
    let recovered = |cause: &str| format!("fireflow_executions_recovered_total{{cause=\"{cause}\"}}");
    let now = until(&address(&worker).await, |now| now.get(&recovered("adopted")) == 2.0).await;
    assert_eq!((now.get(&recovered("died")), now.get(&recovered("stranded"))), (0.0, 0.0));
    assert!(!worker.log().contains("a worker died"), "{}", worker.log());
    assert!(worker.stop().await.success());
}

/// A worker that lost its lease, and lives: what others counted is taken back.
#[tokio::test]
async fn a_lost_lease_of_a_live_worker_is_no_crash() {
    let bench = Bench::with(|ledger| vec![reporting("work", ledger)]).await;
    let lease = [("worker.lease", "2s")];
    let first = bench.worker("w1", &lease).await;
    bench.client.enqueue("EX1", "work", gated("EX1")).await;
    bench.ledger.entered("EX1", 1).await;
    // As if it came from another machine, where nobody sees that its process lives.
    let moved = "UPDATE fireflow_workers SET process_identity = 'elsewhere' WHERE id = 'w1'";
    bench.client.execute(moved, &[]).await;
    first.signal(rustix::process::Signal::STOP);
    let other = bench.worker("w2", &lease).await;
    bench.ledger.entered("EX1", 2).await;
    assert_eq!(account(&bench.client).await, [("EX1".to_owned(), 1)].into());
    first.signal(rustix::process::Signal::CONT);
    assert!(bench.client.comes_true("SELECT count(*) FROM fireflow_crashes", &[], 0).await);
    bench.ledger.release_all();
    bench.client.until("EX1", "SUCCESS").await;
    assert!(other.stop().await.success());
    assert!(first.stop().await.success());
}
