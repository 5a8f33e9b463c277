//! Which content of its flow an execution runs, when somebody edits the flow meanwhile.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::sync::Arc;

use fireflow_worker::{
    execution::{FlowStore, Swept},
    nodes::Registry,
    sysdb::SystemDatabase,
};
use serde_json::{Value as Json, json};
use support::{bench::Bench, flows::FlowBuilder};

/// A flow that is held in its middle and says `text`; and when it has emitted an event, its child says it.
fn flow(id: &str, ledger: &str, text: &str) -> Json {
    let event = [("eventName", json!("work"))];
    FlowBuilder::new(id)
        .node("said", "TextNode", &[("text", json!(text))])
        .get("hold", ledger)
        .node("emit", "EventEmitterNode", &event)
        .node("listen", "EventListenerNodeV2", &event)
        .node("heard", "TextNode", &[("text", json!(text))])
        .then("listen", "heard")
        .output("said", "said", "text")
        .output("heard", "heard", "text")
        .build()
}

impl Bench {
    async fn new() -> Bench {
        Bench::with(|ledger| vec![flow("doc", ledger, "old"), flow("other", ledger, "old")]).await
    }

    /// As the server saves: the next version.
    async fn edit(&self, id: &str, text: &str) {
        let data = flow(id, self.ledger.base(), text);
        let sql = "UPDATE fireflow_flows SET data = $2, version = version + 1 WHERE id = $1";
        self.client.execute(sql, &[&id, &data]).await;
    }

    async fn enqueue(&self, id: &str, flow: &str, version: Option<u64>) {
        let inputs = json!({"hold": format!("/hold/{id}")});
        let task = json!({"executionId": id, "flowId": flow, "flowVersion": version, "inputs": inputs});
        self.client.enqueue_task(id, &task).await;
    }

    /// What it and its one child said.
    async fn outcome(&self, id: &str) -> (String, String) {
        let row = self.client.until(id, "SUCCESS").await;
        let said = |result: &Json, key: &str| result["outputs"][key].as_str().unwrap().to_owned();
        let child = row.result()["childTasks"][0]["executionId"].as_str().unwrap().to_owned();
        let child = self.client.row(&child).await.unwrap();
        (said(&row.result(), "said"), said(&child.result(), "heard"))
    }

    async fn count(&self, table: &str) -> i64 {
        self.client.sql().query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }
}

fn both(text: &str) -> (String, String) {
    (text.into(), text.into())
}

#[tokio::test]
async fn an_edit_after_a_crash_changes_neither_the_execution_nor_its_children() {
    let bench = Bench::new().await;
    let lease = [("worker.lease", "3s")];
    let worker = bench.worker("w1", &lease).await;
    for id in ["EX1", "EX2"] {
        bench.enqueue(id, "doc", None).await;
        bench.ledger.entered(id, 1).await;
    }
    let other = bench.worker("w2", &lease).await;
    worker.kill().await;
    bench.edit("doc", "new").await;
    for id in ["EX1", "EX2"] {
        bench.ledger.entered(id, 2).await; // by the other one
    }
    bench.edit("doc", "newer").await;
    bench.client.execute("DELETE FROM fireflow_flows WHERE id = 'other'", &[]).await;
    bench.ledger.release_all();
    for id in ["EX1", "EX2"] {
        assert_eq!(bench.outcome(id).await, both("old"), "{id}");
        assert_eq!(bench.client.row(id).await.unwrap().executor.as_deref(), Some("w2"));
    }
    bench.enqueue("EX3", "doc", Some(3)).await;
    assert_eq!(bench.outcome("EX3").await, both("newer"));
    // One document for each content, and pins only of what has not ended.
    assert_eq!(bench.count("fireflow_flow_versions").await, 2);
    assert_eq!(bench.count("fireflow_flow_pins").await, 0);
    assert!(other.stop().await.success());
}

#[tokio::test]
async fn a_flow_that_is_edited_or_deleted_while_it_runs_has_children_of_the_old_content() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[]).await;
    bench.enqueue("EX1", "doc", Some(1)).await;
    bench.enqueue("EX2", "other", Some(1)).await;
    bench.ledger.inside(2).await;
    bench.edit("doc", "new").await;
    bench.client.execute("DELETE FROM fireflow_flows WHERE id = 'other'", &[]).await;
    bench.ledger.release_all();
    assert_eq!(bench.outcome("EX1").await, both("old"));
    assert_eq!(bench.outcome("EX2").await, both("old"));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn an_edit_between_enqueue_and_start_is_decided_by_what_is_kept_and_by_the_setting() {
    let bench = Bench::new().await;
    bench.ledger.release_all();
    let worker = bench.worker("w1", &[]).await;
    bench.enqueue("EX1", "doc", Some(1)).await; // so version 1 is kept
    assert_eq!(bench.outcome("EX1").await, both("old"));
    assert!(worker.stop().await.success());

    bench.edit("doc", "new").await;
    bench.edit("other", "new").await;
    bench.enqueue("EX-kept", "doc", Some(1)).await;
    bench.enqueue("EX-gone", "other", Some(1)).await;
    bench.enqueue("EX-none", "doc", None).await;
    let worker = bench.worker("w1", &[]).await;
    assert_eq!(bench.outcome("EX-kept").await, both("old"));
    assert_eq!(bench.outcome("EX-gone").await, both("new"));
    assert_eq!(bench.outcome("EX-none").await, both("new"));
    assert!(worker.log().contains("no copy of the version that the task names is kept"), "{}", worker.log());
    assert!(worker.stop().await.success());

    let worker = bench.worker("w1", &[("execution.flow_version", "strict")]).await;
    bench.enqueue("EX-strict-kept", "doc", Some(1)).await;
    assert_eq!(bench.outcome("EX-strict-kept").await, both("old"));
    bench.enqueue("EX-strict", "other", Some(1)).await;
    let row = bench.client.until("EX-strict", "ERROR").await;
    assert!(row.error().contains("version 1 of flow \\\"other\\\", which is at 2"), "{row:?}");
    assert!(worker.stop().await.success());

    let worker = bench.worker("w1", &[("execution.flow_version", "newest")]).await;
    bench.enqueue("EX-newest", "doc", Some(1)).await;
    assert_eq!(bench.outcome("EX-newest").await, both("new"));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn what_nobody_needs_goes_and_what_an_unfinished_execution_needs_stays() {
    let bench = Bench::new().await;
    let worker = bench.worker("w1", &[]).await;
    bench.enqueue("EX-runs", "doc", None).await;
    bench.enqueue("EX-cancelled", "other", None).await;
    bench.ledger.inside(2).await;
    bench.client.cancel("EX-cancelled").await;
    bench.client.until_execution("EX-cancelled", "stopped").await;

    let pool = bench.database.pool().await;
    let prefix = "fireflow_".parse().unwrap();
    let flows = FlowStore::new(pool.clone(), &prefix, Arc::new(Registry::standard()), 1);
    let versions = flows.versions(pool.clone(), &prefix);
    let sysdb = SystemDatabase::new(pool.clone(), "dbos".parse().unwrap());
    let mut after = String::new();
    let sweep = async |after: &mut String| versions.sweep(&sysdb, after).await.unwrap();
    assert_eq!(sweep(&mut after).await, Swept::default(), "it may be resumed");
    let old = "UPDATE fireflow_flow_pins SET pinned_at = now() - interval '2 days'";
    bench.client.execute(old, &[]).await;
    assert_eq!(sweep(&mut after).await, Swept::default(), "however late");
    let status = "UPDATE dbos.workflow_status SET status = $1 WHERE workflow_uuid = 'EX-cancelled'";
    bench.client.execute(status, &[&"MAX_RECOVERY_ATTEMPTS_EXCEEDED"]).await;
    assert_eq!(sweep(&mut after).await, Swept::default(), "so may one that is parked");
    bench.client.execute(status, &[&"ERROR"]).await;
    assert_eq!(sweep(&mut after).await, Swept { pins: 1, contents: 0 }, "the content was used lately");
    let old = "UPDATE fireflow_flow_versions SET used_at = now() - interval '2 days'";
    bench.client.execute(old, &[]).await;
    assert_eq!(sweep(&mut after).await, Swept { pins: 0, contents: 1 });
    let left = "SELECT count(*) FROM fireflow_flow_versions v JOIN fireflow_flow_pins p USING (hash)
                 WHERE flow_id = 'doc' AND workflow_id = 'EX-runs'";
    assert_eq!(bench.client.sql().query_one(left, &[]).await.unwrap().get::<_, i64>(0), 1);
    bench.ledger.release_all();
    assert_eq!(bench.outcome("EX-runs").await, both("old"));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_worker_makes_the_tables_where_an_earlier_one_made_the_others() {
    let bench = Bench::new().await;
    bench.client.sql().batch_execute("DROP TABLE fireflow_flow_versions, fireflow_flow_pins").await.unwrap();
    bench.ledger.release_all();
    let worker = bench.worker("w1", &[]).await;
    bench.enqueue("EX1", "doc", Some(1)).await;
    assert_eq!(bench.outcome("EX1").await, both("old"));
    assert_eq!(bench.count("fireflow_flow_versions").await, 1);
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn an_execution_whose_content_is_gone_runs_the_newest_unless_that_is_forbidden() {
    let bench = Bench::new().await;
    let strict = [("worker.lease", "1h"), ("execution.flow_version", "strict")];
    for (id, settings) in [("EX-kept", &strict[..1]), ("EX-strict", &strict[..])] {
        let worker = bench.worker("w1", settings).await;
        bench.enqueue(id, "doc", None).await;
        bench.ledger.entered(id, 1).await;
        worker.kill().await;
        bench.client.execute("DELETE FROM fireflow_flow_versions", &[]).await;
        bench.edit("doc", "new").await;
        let worker = bench.worker("w1", settings).await;
        if id == "EX-kept" {
            bench.ledger.entered(id, 2).await;
            bench.ledger.release(id);
            assert_eq!(bench.outcome(id).await, both("new"));
            assert!(worker.log().contains("began with is gone"), "{}", worker.log());
        } else {
            assert!(bench.client.until(id, "ERROR").await.error().contains("began with is gone"));
        }
        assert!(worker.stop().await.success());
    }
}
