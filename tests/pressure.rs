//! Much at once: a backlog, executions that wait, values at the size limit, clients that flood, events faster than the
//! database takes them. All of it ends as it should, and the worker's memory stays within its bound.
//!
//! Here with volumes that take seconds; `cargo test --release --test pressure -- --ignored --nocapture --test-threads 1` has
//! the large ones, and prints the figures of docs/reliability.md.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]
#![cfg(target_os = "linux")]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{
    bench::Bench,
    client::QUEUE,
    flows::{FlowBuilder, echo},
    worker::WorkerProcess,
};

const MIB: u64 = 1 << 20;

/// The memory of a process in bytes: now, and the most it ever had.
fn memory(worker: &WorkerProcess) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid().as_raw_nonzero())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn mib(bytes: u64) -> u64 {
    bytes / MIB
}

impl Bench {
    /// Executions `<prefix>1` to `<prefix>COUNT` of the flow `echo`, as a client would enqueue them, in one statement.
    async fn enqueue_many(&self, prefix: &str, count: i32) {
        let sql = "WITH rows AS (SELECT $1 || n AS id FROM generate_series(1, $2) n),
                   inputs AS (INSERT INTO dbos.workflow_input (workflow_uuid, inputs)
                              SELECT id, json_build_object('positionalArgs', json_build_array(json_build_object(
                                     'executionId', id, 'flowId', 'echo', 'inputs', json_build_object('text', id))),
                                     'namedArgs', json_build_object())::text FROM rows)
                   INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, serialization, class_name,
                          priority)
                   SELECT id, 'ENQUEUED', 'executeFireFlow', $3, 'portable_json', 'ExecutionWorkflows', 0 FROM rows";
        // Shorter than the client's patience with a single statement has to be.
        self.client.execute("SET statement_timeout = 0", &[]).await;
        assert_eq!(self.client.execute(sql, &[&prefix, &count, &QUEUE]).await, u64::try_from(count).unwrap());
    }

    async fn number(&self, sql: &str) -> i64 {
        self.client.sql().query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Wait until a statement gives at least this.
    async fn reaches(&self, sql: &str, wanted: i64) {
        let until = Instant::now() + Duration::from_secs(900);
        while self.number(sql).await < wanted {
            assert!(Instant::now() < until, "{sql} does not reach {wanted}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Where there is little to read, however long the backlog.
const ENDED: &str = "SELECT count(*) FROM dbos.workflow_output WHERE error IS NULL";

/// So many rows wait. What is urgent is picked up at once, the rest goes on at its speed, and the worker's memory knows
/// nothing of it.
async fn backlog(rows: i32, ended: i64) {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    bench.enqueue_many("EX-", rows).await;
    // As autovacuum does soon: it is with statistics that the planner may come to prefer reading everything.
    bench.client.execute("ANALYZE", &[]).await;
    let read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'workflow_status'";
    let read_before = bench.number(read).await;
    let worker = bench.worker("w1", &[("log.level", "info"), ("queue.worker_concurrency", "10")]).await;
    let began = Instant::now();
    bench.reaches(ENDED, ended).await;
    let took = began.elapsed();
    let mut longest = Duration::ZERO;
    for number in 0..5 {
        let id = format!("EX-urgent-{number}");
        let task = json!({"executionId": id, "flowId": "echo", "inputs": {"text": id}});
        let asked = Instant::now();
        let inputs = json!({"positionalArgs": [task], "namedArgs": {}}).to_string();
        let mut raw = support::client::Raw::new(&id, Some("portable_json"), &inputs);
        raw.priority = -1;
        bench.client.enqueue_raw(&raw).await;
        assert_eq!(bench.client.until(&id, "SUCCESS").await.result()["outputs"]["text"], id);
        longest = longest.max(asked.elapsed());
    }
    let (now, most) = memory(&worker);
    let rate = ended as f64 / took.as_secs_f64();
    eprintln!(
        "backlog of {rows}: {rate:.0} executions/s over the first {ended}; the urgent ones ended within {longest:?}; \
         memory {} MiB, at most {} MiB",
        mib(now),
        mib(most)
    );
    // Sessions report what they read when they are idle, or end.
    assert!(worker.stop().await.success());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let read = bench.number(read).await - read_before;
    assert!(read < i64::from(rows) * 3, "{read} rows of the backlog of {rows} were read without an index");
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    assert!(most < 200 * MIB, "{} MiB", mib(most));
}

#[tokio::test]
async fn a_backlog_delays_nothing_urgent() {
    backlog(30_000, 100).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_backlog_of_a_million_delays_nothing_urgent() {
    backlog(1_000_000, 3_000).await;
}

/// So many executions wait for their start signal in one worker; all start and end when it comes.
async fn waiting(count: i32) {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let settings = [
        ("log.level", "warn,fireflow_worker::worker=info"),
        ("execution.start", "signal"),
        ("execution.start_timeout", "1h"),
        ("execution.max_waiting", "20000"),
        ("queue.concurrency", "20000"),
        ("queue.worker_concurrency", "20"),
    ];
    let worker = bench.worker("w1", &settings).await;
    bench.enqueue_many("EX-warm-", 1).await;
    bench.client.until_step("EX-warm-1", "DBOS.sleep").await;
    let (before, _) = memory(&worker);
    let began = Instant::now();
    bench.enqueue_many("EX-", count).await;
    let wait = "SELECT count(*) FROM dbos.operation_outputs WHERE function_name = 'DBOS.sleep'";
    bench.reaches(wait, i64::from(count) + 1).await;
    let waits = began.elapsed();
    let (after, _) = memory(&worker);
    let sql = "INSERT INTO dbos.notifications (destination_uuid, topic, message, serialization)
               SELECT workflow_uuid, 'START_SIGNAL', '\"GO\"', 'portable_json' FROM dbos.workflow_status";
    let signalled = Instant::now();
    assert_eq!(bench.client.execute(sql, &[]).await, u64::try_from(count).unwrap() + 1);
    bench.reaches(ENDED, i64::from(count) + 1).await;
    let each = (after.saturating_sub(before)) / u64::try_from(count).unwrap();
    eprintln!(
        "{count} waiting: all wait after {waits:?}, with {} KiB each; all ended {:?} after the signal; memory {} MiB, at most {} MiB",
        each / 1024,
        signalled.elapsed(),
        mib(after),
        mib(memory(&worker).1)
    );
    let wrong = "SELECT count(*) FROM dbos.workflow_output
                  WHERE output::jsonb #>> '{outputs,text}' IS DISTINCT FROM workflow_uuid";
    assert_eq!(bench.number(wrong).await, 0);
    assert!(each < 64 << 10, "{each} bytes for each execution that waits");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn executions_that_wait_take_little() {
    waiting(500).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn ten_thousand_executions_wait_in_one_worker() {
    waiting(10_000).await;
}

/// Texts just below `execution.max_input`, so many at once.
async fn large_values(at_once: u64, bound: u64) {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    let concurrency = at_once.to_string();
    let settings = [("log.level", "info"), ("queue.worker_concurrency", concurrency.as_str())];
    let worker = bench.worker("w1", &settings).await;
    let text = "x".repeat(16 * 1024 * 1024 - 1000);
    for number in 0..at_once * 2 {
        let id = format!("EX-{number}");
        bench.client.enqueue(&id, "echo", json!({"text": text})).await;
    }
    bench.reaches(ENDED, i64::try_from(at_once * 2).unwrap()).await;
    let wrong = "SELECT count(*) FROM dbos.workflow_output
                  WHERE md5(output::json #>> '{outputs,text}') IS DISTINCT FROM md5(repeat('x', 16 * 1024 * 1024 - 1000))";
    assert_eq!(bench.number(wrong).await, 0);
    let (now, most) = memory(&worker);
    eprintln!("{at_once} values of 16 MiB at once: memory {} MiB, at most {} MiB", mib(now), mib(most));
    assert!(most < bound, "{} MiB", mib(most));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn values_at_the_size_limit_pass() {
    large_values(1, 500 * MIB).await;
}

#[tokio::test]
#[ignore = "takes half a minute, and gigabytes of disk"]
async fn ten_values_at_the_size_limit_pass_at_once() {
    large_values(10, 3_000 * MIB).await;
}

/// A client sends messages on a topic that nobody reads, and commands in such numbers that most are of no use.
async fn flood(messages: i64, commands: i64) {
    let bench = Bench::with(|ledger| vec![FlowBuilder::new("long").get("hold", ledger).build()]).await;
    let worker = bench.worker("w1", &[("log.level", "warn,fireflow_worker::worker=info")]).await;
    bench.client.enqueue("EX1", "long", json!({"hold": "/hold/EX1"})).await;
    bench.ledger.entered("EX1", 1).await;
    let (before, _) = memory(&worker);
    let sql = "INSERT INTO dbos.notifications (destination_uuid, topic, message, serialization, created_at_epoch_ms)
               SELECT 'EX1', $1, $2 || repeat(' ', 200), 'portable_json', n FROM generate_series(1, $3::bigint) n";
    bench.client.execute(sql, &[&"NOBODY", &"1", &messages]).await;
    let began = Instant::now();
    for (message, count) in
        [("{\"command\": \"PAUSE\"}", commands), ("{\"command\": \"?\"}", commands), ("\"RESUME\"", commands)]
    {
        bench.client.execute(sql, &[&"COMMAND", &message, &count]).await;
    }
    let unread = "SELECT -count(*) FROM dbos.notifications WHERE topic = 'COMMAND' AND NOT consumed";
    bench.reaches(unread, 0).await;
    eprintln!("{} commands are read after {:?}", commands * 3, began.elapsed());
    bench.client.send("EX1", "COMMAND", json!("RESUME")).await;
    bench.reaches(unread, 0).await;
    bench.ledger.release("EX1");
    bench.client.until("EX1", "SUCCESS").await;
    let (_, most) = memory(&worker);
    eprintln!("flood of {messages} messages: memory {} MiB before, at most {} MiB", mib(before), mib(most));
    assert_eq!(bench.number("SELECT count(*) FROM dbos.notifications WHERE topic = 'NOBODY' AND consumed").await, 0);
    assert_eq!(bench.ledger.entries("EX1").await, 1);
    assert!(most < before + 40 * MIB, "{} MiB, after {}", mib(most), mib(before));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_flood_of_messages_takes_no_memory_and_stops_nothing() {
    flood(10_000, 200).await;
}

#[tokio::test]
#[ignore = "takes a minute"]
async fn a_large_flood_of_messages_takes_no_memory_and_stops_nothing() {
    flood(500_000, 3_000).await;
}

/// The database takes no events for a while: the flow gets so far ahead, and then waits.
#[tokio::test]
async fn events_that_the_database_does_not_take_are_not_hoarded() {
    const NODES: usize = 400;
    let mut flow = FlowBuilder::new("loud");
    for node in 0..NODES {
        flow = flow.node(
            &format!("n{node}"),
            "TextNode",
            &[("text", json!("x".repeat(if node == 0 { 1_000_000 } else { 1 })))],
        );
        if node > 0 {
            flow = flow.edge((&format!("n{}", node - 1), "text"), (&format!("n{node}"), "text"));
        }
    }
    let flow = flow.output("text", &format!("n{}", NODES - 1), "text").build();
    let bench = Bench::with(|_| vec![flow, echo("echo")]).await;
    let worker = bench.worker("w1", &[("log.level", "info")]).await;
    bench.client.enqueue("EX-warm", "echo", json!({"text": "x"})).await;
    bench.client.until("EX-warm", "SUCCESS").await;
    let (before, _) = memory(&worker);
    let somebody = bench.database.client().await;
    let lock = "BEGIN; LOCK TABLE dbos.streams IN EXCLUSIVE MODE";
    // It runs, so that its first checkpoints are there.
    somebody.batch_execute(lock).await.unwrap();
    bench.client.enqueue("EX1", "loud", json!({})).await;
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'dbos.streams'::regclass";
    bench.reaches(waits, 1).await;
    somebody.batch_execute("COMMIT").await.unwrap();
    bench.client.until_step("EX1", "updateToRunning").await;
    somebody.batch_execute(lock).await.unwrap();
    bench.reaches(waits, 1).await;
    // It would be through by far, were it not held.
    let mut held = memory(&worker).0;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
        held = held.max(memory(&worker).0);
    }
    let written = bench.number("SELECT count(*) FROM dbos.streams WHERE workflow_uuid = 'EX1'").await;
    assert!(written < i64::try_from(NODES).unwrap(), "{written} events were written before the lock");
    somebody.batch_execute("COMMIT").await.unwrap();
    bench.client.until("EX1", "SUCCESS").await;
    let events = bench.client.events("EX1").await;
    let all = "SELECT sum(octet_length(value))::bigint FROM dbos.streams WHERE workflow_uuid = 'EX1'";
    let all = u64::try_from(bench.number(all).await).unwrap();
    eprintln!(
        "{} events of {} MiB: memory {} MiB before, {} MiB while the database took none, at most {} MiB",
        events.len(),
        mib(all),
        mib(before),
        mib(held),
        mib(memory(&worker).1)
    );
    assert!(all > 300 * MIB, "there is more than may be held: {} MiB", mib(all));
    assert!(events.len() >= NODES * 2 + 2);
    assert!(held < before + 220 * MIB, "{} MiB, after {}", mib(held), mib(before));
    assert!(worker.stop().await.success());
}
