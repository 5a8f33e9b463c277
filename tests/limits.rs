//! Limits that come from the table of queues, and change while workers run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

#[path = "interop/mod.rs"]
mod interop;

use std::time::Duration;

use interop::{
    executor::{Executor, ExecutorOptions},
    setup::Lang,
};
use serde_json::json;
use support::{
    bench::Bench,
    client::QUEUE,
    flows::{FlowBuilder, echo, gated, reporting},
    worker::{PATIENCE, WorkerProcess},
};

impl Bench {
    /// With a registered queue without limits, and the flows `reporting` and `echo`.
    async fn new() -> Bench {
        let bench = Bench::with(|ledger| vec![reporting("reporting", ledger), echo("echo")]).await;
        let register = "INSERT INTO dbos.queues (name, polling_interval_sec) VALUES ($1, 0.05)";
        bench.client.execute(register, &[&QUEUE]).await;
        bench
    }

    /// A worker that knows its limits.
    async fn limited(&self, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        let worker = self.worker(id, settings).await;
        worker.says("limits in force").await;
        worker
    }

    /// Change the registered limits: `column = value, …`.
    async fn register(&self, change: &str) {
        assert_eq!(
            self.client.execute(&format!("UPDATE dbos.queues SET {change} WHERE name = $1"), &[&QUEUE]).await,
            1
        );
    }

    /// Enqueue executions that are held inside until they are released.
    async fn enqueue(&self, ids: &[&str]) {
        for id in ids {
            self.client.enqueue(id, "reporting", gated(id)).await;
        }
    }

    /// Enqueue executions `KEY-1`, `KEY-2`, … in each of these partitions, in turns.
    async fn enqueue_in(&self, keys: &[&str], count: u32) {
        for n in 1..=count {
            for key in keys {
                self.enqueue(&[&format!("{key}-{n}")]).await;
            }
        }
        let sql = "UPDATE dbos.workflow_status SET queue_partition_key = split_part(workflow_uuid, '-', 1)
                    WHERE queue_name = $1";
        self.client.execute(sql, &[&QUEUE]).await;
    }

    /// The largest number inside at once in one partition, or in one partition of one worker.
    async fn most_in_one_partition(&self, in_one_worker: bool) -> i64 {
        let sql = "SELECT max(inside) FROM (
                       SELECT sum(change) OVER (PARTITION BY split_part(execution, '-', 1),
                              CASE WHEN $1 THEN worker END ORDER BY number) AS inside FROM ledger) s";
        self.client.sql().query_one(sql, &[&in_one_worker]).await.unwrap().get(0)
    }

    /// Let all run to their end, each once, and stop the workers.
    async fn finish(&self, workers: Vec<WorkerProcess>, executions: i64) {
        self.ledger.release_all();
        self.client.until_count("SUCCESS", executions).await;
        assert_eq!((self.ledger.executions().await, self.ledger.not_once().await), (executions, vec![]));
        for worker in workers {
            assert!(!worker.log().contains("ERROR"), "{}", worker.log());
            assert!(worker.stop().await.success());
        }
    }

    /// Return when a worker has looked at its queue once more: it looks at the internal queue first in each round.
    async fn look(&self) {
        for _ in 0..2 {
            let id = format!("look-{}", uuid::Uuid::new_v4());
            let sql = "SELECT dbos.enqueue_workflow('executeFireFlow', '_dbos_internal_queue',
                              ARRAY['{\"flowId\": \"echo\"}'::json], workflow_id => $1)";
            self.client.sql().query_one(sql, &[&id]).await.unwrap();
            self.client.until(&id, "SUCCESS").await;
        }
    }
}

/// Wait until these limits are the worker's latest.
async fn in_force(worker: &WorkerProcess, limits: &str) {
    let is = || worker.log().lines().rfind(|line| line.contains("limits in force")).is_some_and(|l| l.contains(limits));
    let reached = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "not in force: {limits}\n{}", worker.log());
}

#[tokio::test]
async fn registered_limits_hold_and_change_while_the_worker_runs() {
    let bench = Bench::new().await;
    bench.register("concurrency = 1").await;
    bench.enqueue(&["a", "b", "c", "d", "e", "f", "g", "h"]).await;
    let worker = bench.limited("w1", &[("queue.concurrency", "9"), ("queue.worker_concurrency", "4")]).await;
    in_force(&worker, r#"source="registered" concurrency=1 worker_concurrency=4 polling_interval=50ms"#).await;
    bench.ledger.inside(1).await;
    bench.look().await;
    assert_eq!(bench.ledger.most().await, 1, "the configuration allows more");

    bench.register("concurrency = 3").await;
    bench.ledger.inside(3).await;
    bench.look().await;
    assert_eq!(bench.ledger.most().await, 3);

    // Nobody is thrown out, and nobody comes in.
    bench.register("concurrency = 0").await;
    in_force(&worker, "concurrency=0 worker_concurrency=4").await;
    bench.ledger.release("a");
    bench.client.until("a", "SUCCESS").await;
    bench.look().await;
    assert_eq!(bench.ledger.executions().await, 3);
    bench.register("concurrency = NULL, worker_concurrency = 0").await;
    in_force(&worker, "worker_concurrency=0").await;
    bench.look().await;
    assert_eq!(bench.ledger.executions().await, 3);

    bench.register("worker_concurrency = 3").await;
    bench.ledger.inside(3).await;
    bench.register("worker_concurrency = 1000").await;
    bench.ledger.inside(4).await; // the worker has no more slots

    // One of two slots that are given back vanishes.
    bench.register("worker_concurrency = 3").await;
    in_force(&worker, "worker_concurrency=3").await;
    for id in ["b", "c"] {
        bench.ledger.release(id);
        bench.client.until(id, "SUCCESS").await;
    }
    bench.ledger.entered("f", 1).await;
    bench.ledger.release("d");
    bench.ledger.entered("g", 1).await;
    assert_eq!(bench.ledger.executions().await, 7, "d, e and f were inside, and now e, f and g");
    assert_eq!(bench.ledger.most().await, 4);
    bench.ledger.release_all();
    bench.client.until_count("ENQUEUED", 0).await;
    bench.client.until_count("PENDING", 0).await;
    assert_eq!(bench.ledger.not_once().await, []);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn the_configuration_holds_where_it_is_wanted_or_the_queue_is_not_ours() {
    let bench = Bench::new().await;
    bench.register("concurrency = 1").await;
    bench.enqueue(&["a", "b", "c"]).await;
    let limits = [("queue.concurrency", "2"), ("queue.worker_concurrency", "2"), ("queue.limits", "configured")];
    let worker = bench.limited("w1", &limits).await;
    bench.ledger.inside(2).await;
    for id in ["a", "b", "c"] {
        bench.ledger.release(id);
    }
    bench.client.until_count("ENQUEUED", 0).await;
    bench.client.until_count("PENDING", 0).await;
    assert_eq!(bench.ledger.most().await, 2);
    assert!(worker.stop().await.success());

    bench.register("application_name = 'other-app'").await;
    bench.enqueue(&["d", "e", "f", "g"]).await;
    let worker = bench.limited("w1", &[("queue.concurrency", "3"), ("queue.worker_concurrency", "3")]).await;
    bench.ledger.inside(3).await;
    bench.register("application_name = 'fireflow-executor'").await;
    in_force(&worker, r#"source="registered" concurrency=1"#).await;
    bench.client.execute("DELETE FROM dbos.queues", &[]).await;
    in_force(&worker, r#"source="configured" concurrency=3"#).await;
    bench.ledger.release_all();
    bench.client.until_count("ENQUEUED", 0).await;
    bench.client.until_count("PENDING", 0).await;
    assert_eq!(bench.ledger.most().await, 3);
    assert!(worker.stop().await.success());
}

/// The largest number of starts, in one partition, within any stretch of `period` milliseconds, by the database's clock.
async fn most_starts(bench: &Bench, period: i64) -> i64 {
    let sql = "SELECT max((SELECT count(*) FROM dbos.workflow_status o
                            WHERE o.queue_name = $1
                              AND o.queue_partition_key IS NOT DISTINCT FROM w.queue_partition_key
                              AND o.started_at_epoch_ms > w.started_at_epoch_ms - $2::bigint
                              AND o.started_at_epoch_ms <= w.started_at_epoch_ms))
                 FROM dbos.workflow_status w WHERE queue_name = $1";
    bench.client.sql().query_one(sql, &[&QUEUE, &period]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_rate_limit_holds_over_two_workers_and_counts_what_others_started() {
    let bench = Bench::new().await;
    bench.ledger.release_all();
    bench.register("rate_limit_max = 4, rate_limit_period_sec = 0.7").await;
    // One of theirs has just started under the same limit, and counts; those without the limit, or long ago, don't.
    let theirs = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, rate_limited,
                         started_at_epoch_ms)
                  SELECT id, 'SUCCESS', 'theirs', $1, limited, (extract(epoch FROM now()) * 1000)::bigint + later
                    FROM (VALUES ('t1', TRUE, 600000), ('t2', FALSE, 600000), ('t3', TRUE, -600000)) t(id, limited, later)";
    bench.client.execute(theirs, &[&QUEUE]).await;
    let ids: Vec<String> = (1..=15).map(|n| format!("EX{n}")).collect();
    bench.enqueue(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let first = bench.limited("w1", &[]).await;
    let second = bench.limited("w2", &[]).await;
    in_force(&first, r#"rate_limit=4 per 700ms"#).await;
    bench.client.until_count("ENQUEUED", 0).await;
    bench.client.until_count("PENDING", 0).await;
    bench.client.execute("DELETE FROM dbos.workflow_status WHERE name = 'theirs'", &[]).await;

    assert_eq!(most_starts(&bench, 700).await, 3, "and one of theirs");
    let marked = "SELECT count(*) FROM dbos.workflow_status WHERE queue_name = $1 AND rate_limited";
    assert!(bench.client.comes_true(marked, &[&QUEUE], 15).await);
    assert_eq!((bench.ledger.executions().await, bench.ledger.not_once().await), (15, vec![]));

    // 0 stops claims, and without the limit they come as fast as there are slots.
    bench.register("rate_limit_max = 0").await;
    in_force(&first, "rate_limit=0 per 700ms").await;
    in_force(&second, "rate_limit=0 per 700ms").await;
    bench.enqueue(&["EX16"]).await;
    bench.look().await;
    assert_eq!(bench.client.row("EX16").await.unwrap().status, "ENQUEUED");
    bench.register("rate_limit_max = NULL").await;
    bench.client.until("EX16", "SUCCESS").await;
    assert!(bench.client.comes_true(marked, &[&QUEUE], 15).await, "a claim without the limit doesn't count for it");
    for worker in [first, second] {
        assert!(!worker.log().contains("ERROR"), "{}", worker.log());
        assert!(worker.stop().await.success());
    }
}

#[tokio::test]
async fn a_configured_rate_limit_holds() {
    let bench = Bench::new().await;
    bench.ledger.release_all();
    bench.client.execute("DELETE FROM dbos.queues", &[]).await;
    bench.enqueue(&["a", "b", "c", "d", "e"]).await;
    let worker = bench.limited("w1", &[("queue.rate_limit", "2 per 500ms")]).await;
    bench.client.until_count("SUCCESS", 5).await;
    assert_eq!(most_starts(&bench, 500).await, 2);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn partitions_run_one_at_a_time_each_in_order() {
    let bench = Bench::new().await;
    bench.register("partition_concurrency = 1").await;
    bench.enqueue_in(&["p", "q", "r", "s"], 6).await;
    bench.enqueue(&["keyless"]).await;
    let slots = [("queue.worker_concurrency", "3")];
    let workers = vec![bench.limited("w1", &slots).await, bench.limited("w2", &slots).await];
    bench.ledger.inside(4).await; // no more can be, and the workers have six slots
    bench.finish(workers, 24).await;

    assert_eq!(bench.most_in_one_partition(false).await, 1);
    let order = bench.ledger.order().await;
    for key in ["p", "q", "r", "s"] {
        let of_key: Vec<_> = order.iter().filter(|id| id.starts_with(key)).collect();
        assert_eq!(of_key, (1..=6).map(|n| format!("{key}-{n}")).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    }
    assert_eq!(bench.client.row("keyless").await.unwrap().status, "ENQUEUED");
}

#[tokio::test]
async fn the_limits_of_partitions_hold_together_with_those_of_the_queue() {
    let bench = Bench::new().await;
    bench.register("concurrency = 5, partition_concurrency = 2, partition_worker_concurrency = 1").await;
    bench.enqueue_in(&["p", "q", "r", "s"], 8).await;
    let slots = [("queue.worker_concurrency", "4")];
    let workers = vec![bench.limited("w1", &slots).await, bench.limited("w2", &slots).await];
    bench.ledger.inside(5).await;
    bench.finish(workers, 32).await;

    assert_eq!(bench.ledger.most().await, 5);
    assert_eq!(bench.most_in_one_partition(false).await, 2);
    assert_eq!(bench.most_in_one_partition(true).await, 1);
}

#[tokio::test]
async fn each_partition_has_a_rate_of_its_own_and_none_waits_for_a_busy_one() {
    let bench = Bench::new().await;
    bench.register("partition_rate_limit_max = 2, partition_rate_limit_period_sec = 0.5").await;
    bench.enqueue_in(&["p", "q", "r"], 5).await;
    bench.ledger.release_all();
    let workers = vec![bench.limited("w1", &[]).await, bench.limited("w2", &[]).await];
    bench.finish(workers, 15).await;
    assert_eq!(most_starts(&bench, 500).await, 2);

    bench.register("partition_rate_limit_max = NULL, partition_concurrency = 3").await;
    bench.enqueue_in(&["busy"], 30).await;
    bench.enqueue_in(&["calm"], 1).await;
    let worker = bench.limited("w1", &[("queue.worker_concurrency", "1")]).await;
    bench.finish(vec![worker], 46).await;
    assert_ne!(bench.ledger.order().await.last().unwrap(), "calm-1", "chosen one time in two, of thirty");
}

#[tokio::test]
async fn children_have_no_partition_and_run_although_their_parent_fills_its_own() {
    let bench = Bench::new().await;
    let emitter = [("eventName", json!("work"))];
    let family = FlowBuilder::new("family")
        .node("emit", "EventEmitterNode", &emitter)
        .node("listener", "EventListenerNodeV2", &emitter)
        .get("hold", bench.ledger.base())
        .then("listener", "hold");
    bench.client.store(&family.build()).await;
    bench.ledger.release_all();
    for limits in ["partition_concurrency = 1", "concurrency = 3, partition_worker_concurrency = 1"] {
        bench.register(limits).await;
        let id = uuid::Uuid::new_v4().to_string();
        bench.client.enqueue(&id, "family", json!({"hold": format!("/hold/{id}")})).await;
        let key = "UPDATE dbos.workflow_status SET queue_partition_key = 'p' WHERE workflow_uuid = $1";
        bench.client.execute(key, &[&id]).await;
        let worker = bench.limited("w1", &[("queue.worker_concurrency", "1")]).await;
        bench.client.until(&id, "SUCCESS").await;
        assert_eq!(bench.ledger.entries(&id).await, 1, "the child ran");
        assert!(worker.stop().await.success());
    }
}

/// What is claimed and what ends, in the order of the statements: an end is noted before it is visible, and a claim after
/// it has seen the end that makes room.
const CLAIMS: &str = "
CREATE TABLE claims (number bigserial PRIMARY KEY, id text NOT NULL, executor text, change int NOT NULL);
CREATE FUNCTION note_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO claims (id, executor, change)
    VALUES (NEW.workflow_uuid, NEW.executor_id, CASE NEW.status WHEN 'PENDING' THEN 1 ELSE -1 END);
    RETURN NULL;
END $$;
CREATE TRIGGER note_claim AFTER UPDATE ON dbos.workflow_status FOR EACH ROW
    WHEN ((OLD.status = 'PENDING') <> (NEW.status = 'PENDING')) EXECUTE FUNCTION note_claim()";

#[tokio::test]
async fn a_limit_holds_together_with_an_executor_of_the_typescript_sdk() {
    let bench = Bench::new().await;
    let options = ExecutorOptions { executor: "sdk", ..ExecutorOptions::default() };
    let Some(sdk) = Executor::start(Lang::TypeScript, &bench.database.url(), &options).await else { return };
    bench.register("concurrency = 4, worker_concurrency = 3, polling_interval_sec = 0.05").await;
    bench.client.sql().batch_execute(CLAIMS).await.unwrap();
    let worker = bench.limited("w1", &[]).await;
    in_force(&worker, "concurrency=4 worker_concurrency=3").await;
    // The SDK reads the table every second, and tells nobody.
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The SDK's run waits for a signal, ours at the gate: so each of them takes what the other leaves.
    for n in 0..60 {
        let id = format!("EX{n}");
        let mut task = json!({"executionId": id, "flowId": "reporting", "inputs": gated(&id)});
        task["waitForStart"] = 60.into();
        bench.client.enqueue_task(&id, &task).await;
    }
    let inside = "SELECT COALESCE(sum(change), 0) FROM claims";
    assert!(bench.client.comes_true(inside, &[], 4).await);
    for n in 0..60 {
        bench.client.send(&format!("EX{n}"), "START_SIGNAL", json!({})).await;
    }
    bench.ledger.release_all();
    bench.client.until_count("SUCCESS", 60).await;

    let most = "SELECT max(inside) FROM (SELECT sum(change) OVER (ORDER BY number) AS inside FROM claims) s";
    assert_eq!(bench.client.sql().query_one(most, &[]).await.unwrap().get::<_, i64>(0), 4);
    let once = "SELECT count(*), count(DISTINCT id), count(DISTINCT executor) FROM claims WHERE change = 1";
    let once = bench.client.sql().query_one(once, &[]).await.unwrap();
    assert_eq!((once.get::<_, i64>(0), once.get::<_, i64>(1), once.get::<_, i64>(2)), (60, 60, 2));
    assert!(worker.stop().await.success());
    sdk.stop().await;
}
