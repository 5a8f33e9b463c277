//! An upgrade of all workers while they are at work: one after the other drains, ends, and is started anew. Nothing is lost,
//! nothing runs twice, and limits hold all the time.
//!
//! With `FIREFLOW_WORKER_BEFORE=/path/to/fireflow-worker` the first generation is that program, and so are the schemas that it
//! begins with: `packaging/upgrade` builds an earlier version and runs this test with it.

mod support;

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use support::{
    TestDatabase,
    client::{SqlClient, Step},
    flows::FlowBuilder,
    ledger::Ledger,
    worker::{PROGRAM, WorkerProcess, program_at},
};
use tokio_util::sync::CancellationToken;

const WORKERS: [&str; 3] = ["w1", "w2", "w3"];
/// Over all workers, those that wait included, and in each: three workers have slots for more than may run.
const TOGETHER: (&str, i64) = ("10", 10);
const EACH: (&str, i64) = ("3", 3);
/// Executions that wait for their signal from before the first restart to after the last.
const WAITING: [&str; 3] = ["waits-1", "waits-2", "waits-3"];

fn settings() -> Vec<(&'static str, &'static str)> {
    vec![
        ("execution.start", "signal"),
        ("queue.concurrency", TOGETHER.0),
        ("queue.worker_concurrency", EACH.0),
        // None is cut off: all that runs ends long before.
        ("worker.drain_timeout", "10m"),
    ]
}

/// Enters, takes a moment, leaves.
fn flow(ledger: &str) -> serde_json::Value {
    FlowBuilder::new("work")
        .get("enter", ledger)
        .node("rest", "SleepNode", &[("duration", json!(60))])
        .get("leave", ledger)
        .then("enter", "rest")
        .then("rest", "leave")
        .build()
}

async fn enqueue(client: &SqlClient, id: &str) {
    client.enqueue(id, "work", json!({"enter": format!("/enter/{id}"), "leave": format!("/leave/{id}")})).await;
}

/// Enqueue and start executions all the time, until told to stop; gives how many.
async fn load(client: Arc<SqlClient>, stop: CancellationToken) -> usize {
    let mut pace = tokio::time::interval(Duration::from_millis(40));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0.. {
        tokio::select! {
            _ = pace.tick() => {}
            () = stop.cancelled() => return number,
        }
        let id = format!("EX{number}");
        enqueue(&client, &id).await;
        client.send(&id, "START_SIGNAL", json!("GO")).await;
    }
    unreachable!("numbers don't end")
}

async fn steps(client: &SqlClient) -> Vec<Vec<Step>> {
    let mut steps = Vec::new();
    for id in WAITING {
        steps.push(client.steps(id).await);
    }
    steps
}

#[tokio::test]
async fn a_rolling_restart_under_load_loses_nothing_and_repeats_nothing() {
    let before = std::env::var("FIREFLOW_WORKER_BEFORE").unwrap_or_else(|_| PROGRAM.to_owned());
    let database = TestDatabase::new().await;
    let url = database.url();
    let migrated = program_at(&before, &url).arg("migrate").output().await.unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let client = Arc::new(SqlClient::attach(&url).await);
    let ledger = Ledger::open(&database).await;
    client.store(&flow(ledger.base())).await;

    let mut workers = Vec::new();
    for id in WORKERS {
        let worker = WorkerProcess::spawn_program(&before, &url, id, &settings());
        worker.says("serving").await;
        workers.push(worker);
    }
    for id in WAITING {
        enqueue(&client, id).await;
        client.until_step(id, "DBOS.sleep").await;
    }
    let recorded = steps(&client).await;

    let stop = CancellationToken::new();
    let load = tokio::spawn(load(client.clone(), stop.clone()));
    let done = "SELECT LEAST(count(*), $1) FROM dbos.workflow_status WHERE status = 'SUCCESS'";
    assert!(client.comes_true(done, &[&10_i64], 10).await, "nothing runs: {}", workers[0].log());
    // The schema comes first, as it does in every upgrade; the earlier workers go on with it.
    let migrated = program_at(PROGRAM, &url).arg("migrate").output().await.unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    for (worker, id) in workers.iter_mut().zip(WORKERS) {
        // All three have something in hand when one of them goes.
        let busy = "SELECT LEAST(count(*), 1) FROM dbos.workflow_status WHERE status = 'PENDING' AND executor_id = $1";
        assert!(client.comes_true(busy, &[&id], 1).await, "{id} runs nothing:\n{}", worker.log());
        worker.signal(Signal::TERM);
        assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
        assert!(!worker.log().contains("drain time is over"), "{}", worker.log());
        *worker = WorkerProcess::spawn_program(PROGRAM, &url, id, &settings());
        worker.says("serving").await;
        assert!(worker.log().contains("recovered=0"), "a drained worker leaves nothing:\n{}", worker.log());
    }
    // The new ones do all kinds of work, too.
    let so_far: i64 = client.sql().query_one("SELECT count(*) FROM dbos.workflow_status", &[]).await.unwrap().get(0);
    assert!(client.comes_true(done, &[&so_far], so_far).await, "the new workers do nothing: {}", workers[0].log());
    stop.cancel();
    let count = load.await.unwrap();
    for id in WAITING {
        client.until(id, "PENDING").await; // a worker has it, and it still waits
    }
    assert_eq!(steps(&client).await, recorded, "what is recorded stays as it is");
    for id in WAITING {
        client.send(id, "START_SIGNAL", json!("GO")).await;
    }

    client.until_count("SUCCESS", i64::try_from(count + WAITING.len()).unwrap()).await;
    assert_eq!(
        client.sql().query_one("SELECT count(*) FROM dbos.workflow_status", &[]).await.unwrap().get::<_, i64>(0),
        i64::try_from(count + WAITING.len()).unwrap()
    );
    assert_eq!(ledger.not_once().await, [], "each entered once");
    assert_eq!(ledger.executions().await, i64::try_from(count + WAITING.len()).unwrap());
    let (together, each) = (ledger.most().await, ledger.most_in_one_worker().await);
    // Those that have their signal only afterwards count for the limit of all until then, and don't enter.
    assert!(together <= TOGETHER.1 && each <= EACH.1, "{together} at once, {each} in one worker");
    assert_eq!(ledger.workers().await.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), WORKERS);
    for (id, recorded) in WAITING.iter().zip(&recorded) {
        let steps = client.steps(id).await;
        assert!(recorded.iter().all(|step| steps.contains(step)), "{id}: {recorded:?} became {steps:?}");
    }
    let unfinished = "SELECT count(*) FROM fireflow_executions WHERE status <> 'completed'";
    assert!(client.comes_true(unfinished, &[], 0).await);
    eprintln!("{count} executions over three restarts, {together} at once, {each} in one worker");
    for worker in workers {
        assert!(worker.stop().await.success());
    }
}

/// So that workers of the version before go on while a newer one has made the tables its own: nothing that they use is taken
/// away or changed.
#[test]
fn application_tables_are_only_added_to() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/app");
    let mut statements = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let sql: String = text.lines().filter_map(|line| line.split("--").next()).collect::<Vec<_>>().join(" ");
        for statement in sql.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            let words: Vec<&str> = statement.split_whitespace().collect();
            let statement = words.join(" ");
            let adds =
                ["CREATE TABLE IF NOT EXISTS ", "CREATE INDEX IF NOT EXISTS ", "CREATE UNIQUE INDEX IF NOT EXISTS "]
                    .iter()
                    .any(|start| statement.starts_with(start));
            // A column that older workers know nothing of has to do without a value from them.
            let column = statement.starts_with("ALTER TABLE ") && statement.contains(" ADD COLUMN IF NOT EXISTS ");
            let optional = !statement.contains("NOT NULL") || statement.contains("DEFAULT");
            assert!(adds || (column && optional), "{}: {statement}", file.display());
            statements += 1;
        }
    }
    assert!(statements > 10, "{statements}");
}
