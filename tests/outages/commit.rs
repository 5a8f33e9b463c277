//! A connection that breaks around a COMMIT: before the server has seen it, and after it was done and before the answer.
//! Nothing is lost, and nothing happens twice.

use serde_json::json;

use super::support::{bench::Bench, flows, worker::WorkerProcess};
use super::wire::{Cut, Wire};

/// By what a transaction of the writer is known.
const APPENDS: &str = "INSERT INTO \"dbos\".streams";
const STARTS: &str = "parent_workflow_id)";
const FINISHES: &str = "deduplication_id = NULL";
const CLAIMS: &str = "SET status = 'PENDING'";

/// `family` emits two events; on each a child is told to the ledger.
async fn family() -> (Bench, Wire, WorkerProcess) {
    let bench = Bench::with(|ledger| vec![flows::family(ledger)]).await;
    bench.ledger.release_all();
    let wire = Wire::before(&bench.database.url()).await;
    let worker = WorkerProcess::start(wire.url(), "w1", &[("log.level", "info")]).await;
    (bench, wire, worker)
}

#[tokio::test]
async fn a_commit_that_is_cut_is_neither_lost_nor_done_twice() {
    let (bench, wire, worker) = family().await;
    let mut round = 0;
    for within in [APPENDS, STARTS, FINISHES] {
        for done in [false, true] {
            round += 1;
            let id = format!("EX{round}");
            wire.arm(Cut { within, at: "COMMIT", done, for_good: false });
            bench.client.enqueue(&id, "family", json!({"hold": format!("/hold/{id}")})).await;
            wire.tripped(round).await;
            let row = bench.client.until(&id, "SUCCESS").await;
            assert_eq!(row.attempts, 1, "{within} {done}");
            // Both children reported once, under their parent's id.
            assert_eq!(bench.ledger.entries(&id).await, 2, "{within} {done}");
            let sql = "SELECT count(*), COALESCE(max(recovery_attempts), 0) FROM dbos.workflow_status
                        WHERE parent_workflow_id = $1 AND status = 'SUCCESS'";
            let children = bench.client.sql().query_one(sql, &[&id]).await.unwrap();
            assert_eq!((children.get::<_, i64>(0), children.get::<_, i64>(1)), (2, 1), "{within} {done}");
            let events = bench.client.events(&id).await;
            let offsets: Vec<i32> = events.iter().map(|event| event.0).collect();
            assert_eq!(offsets, (0..i32::try_from(events.len()).unwrap()).collect::<Vec<_>>(), "{within} {done}");
            let mut indices: Vec<i64> = events.iter().map(|event| event.1).collect();
            indices.sort_unstable();
            indices.dedup();
            assert_eq!(indices.len(), events.len(), "an event is there twice: {within} {done}: {events:?}");
            let once = |kind: &str| events.iter().filter(|event| event.2 == kind).count();
            assert_eq!((once("flow:started"), once("flow:completed")), (1, 1), "{within} {done}");
            let steps = bench.client.steps(&id).await;
            assert_eq!(steps.len(), 8, "{steps:?}");
        }
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_goes_back_to_the_queue_and_runs_once() {
    let (bench, wire, worker) = family().await;
    for (round, done) in [(1, false), (2, true)] {
        let id = format!("EX{round}");
        wire.arm(Cut { within: CLAIMS, at: "COMMIT", done, for_good: false });
        bench.client.enqueue(&id, "family", json!({"hold": format!("/hold/{id}")})).await;
        wire.tripped(round).await;
        let row = bench.client.until(&id, "SUCCESS").await;
        assert_eq!(row.attempts, if done { 2 } else { 1 }, "a claim that was made is counted");
        assert_eq!(bench.ledger.entries(&id).await, 2);
    }
    let events = bench.client.events("EX2").await;
    assert_eq!(events.iter().filter(|event| event.2 == "flow:started").count(), 1);
    assert!(worker.stop().await.success());
}
