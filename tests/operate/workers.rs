//! Workers: what is shown of them, and that they end when they are asked to.

use serde_json::{Value as Json, json};

use super::{
    console::{Follower, done, refused},
    support::{
        bench::Bench,
        flows::{echo, gated, reporting},
    },
};

async fn bench() -> (Bench, String) {
    let bench = Bench::with(|ledger| vec![echo("echo"), reporting("report", ledger)]).await;
    let url = bench.database.url();
    (bench, url)
}

async fn worker(url: &str, id: &str) -> Json {
    let all = done(url, &["workers", "--json"]).await.json();
    all.as_array().unwrap().iter().find(|worker| worker["id"] == id).cloned().unwrap_or(Json::Null)
}

#[tokio::test]
async fn workers_show_what_they_run_what_waits_and_who_is_gone() {
    let (bench, url) = bench().await;
    let settings = [("execution.start", "signal"), ("worker.lease", "5s")];
    let lives = bench.worker("lives", &settings).await;
    bench.client.enqueue("running", "report", gated("running")).await;
    bench.client.send("running", "START_SIGNAL", json!("GO")).await;
    bench.ledger.entered("running", 1).await;
    bench.client.enqueue("waiting", "echo", json!({})).await;
    bench.client.until_step("waiting", "DBOS.sleep").await;
    let foreign = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, executor_id)
                   VALUES ('theirs', 'PENDING', 'work', 'other', 'an-sdk')";
    bench.client.execute(foreign, &[]).await;
    let shown = worker(&url, "lives").await;
    assert_eq!((&shown["running"], &shown["waiting"]), (&json!(1), &json!(1)), "{shown}");
    assert_eq!((&shown["state"], &shown["version"]), (&json!("running"), &json!(env!("CARGO_PKG_VERSION"))));
    let left = shown["expires_in_ms"].as_i64().unwrap();
    assert!((0..=5000).contains(&left), "{shown}");
    let theirs = worker(&url, "an-sdk").await;
    assert_eq!(
        (&theirs["state"], &theirs["running"], &theirs["alive"]),
        (&json!("unregistered"), &json!(1), &json!(false))
    );

    lives.kill().await;
    let dead = async {
        while worker(&url, "lives").await["state"] != "expired" {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(super::support::worker::PATIENCE, dead).await.unwrap();
    let table = done(&url, &["workers"]).await.out;
    assert!(table.starts_with("WORKER") && table.contains("lives") && table.contains("expired"), "{table}");
    assert!(!done(&url, &["workers", "--alive"]).await.out.contains("lives"));
    refused(&url, &["drain", "--worker", "lives"], "there is no live worker \"lives\"").await;
    let mut watched = Follower::start(&url, &["workers", "--json", "--watch=200ms"]);
    for _ in 0..2 {
        assert!(watched.line().await.contains("\"id\":\"lives\""));
    }
}

#[tokio::test]
async fn a_worker_that_is_asked_to_drain_ends_as_by_a_signal_and_the_others_go_on() {
    let (bench, url) = bench().await;
    let mut one = bench.worker("one", &[]).await;
    bench.client.enqueue("held", "report", gated("held")).await;
    bench.ledger.entered("held", 1).await;
    let _two = bench.worker("two", &[]).await;
    let drain = Follower::start(&url, &["drain", "--worker", "one", "--wait"]);
    one.says("draining, as an operator asked through the database").await;
    let shown = worker(&url, "one").await;
    assert!(shown["drain_asked_at"].is_string(), "{shown}");
    // It claims nothing more, and what runs may finish.
    for n in 0..10 {
        bench.client.enqueue(&format!("next-{n}"), "echo", json!({"text": "x"})).await;
        assert_eq!(bench.client.until(&format!("next-{n}"), "SUCCESS").await.executor.as_deref(), Some("two"));
    }
    bench.ledger.release("held");
    assert_eq!(bench.client.until("held", "SUCCESS").await.executor.as_deref(), Some("one"));
    assert_eq!(one.ended().await.code(), Some(0));
    assert_eq!(drain.ended().await, 0);
    assert_eq!(worker(&url, "one").await["state"], "stopped");
    refused(&url, &["drain", "--worker", "one"], "there is no live worker \"one\"").await;
    // Whoever comes after it isn't meant.
    let again = bench.worker("one", &[]).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(worker(&url, "one").await["state"], "running");
    assert!(!again.log().contains("draining"), "{}", again.log());
}

#[tokio::test]
async fn a_request_to_drain_outlives_the_lease_that_it_came_under() {
    let (bench, _) = bench().await;
    let mut worker = bench.worker("frail", &[("worker.lease", "5s")]).await;
    let lost = "UPDATE fireflow_workers w SET incarnation = gen_random_uuid(), expires_at = now() - interval '1 second'
                  FROM fireflow_workers before WHERE w.id = 'frail' AND before.id = w.id RETURNING before.incarnation::text";
    let before: String = bench.client.sql().query_one(lost, &[]).await.unwrap().get(0);
    worker.says_times("serving queue=", 2).await;
    // Asked in the moment in which the lease was gone: the life that was meant has ended before it looked again.
    let ask = "INSERT INTO fireflow_drain_requests (worker_id, incarnation, requested_by) VALUES ('frail', $1::text::uuid, 'tests')";
    bench.client.execute(ask, &[&before]).await;
    worker.says("draining, as an operator asked through the database").await;
    assert_eq!(worker.ended().await.code(), Some(0));
}

#[tokio::test]
async fn all_are_drained_at_once_only_when_somebody_is_sure() {
    let (bench, url) = bench().await;
    let mut workers = [bench.worker("one", &[]).await, bench.worker("two", &[]).await];
    bench.client.enqueue("held", "report", gated("held")).await;
    bench.ledger.entered("held", 1).await;
    refused(&url, &["drain", "--all"], "Drain all live workers of the application? There is no terminal").await;
    assert_eq!(super::console::run(&url, &["drain"]).await.code, 2);
    let drained = done(&url, &["drain", "--all", "--yes", "--now", "--wait", "--json"]).await.json();
    let ends: Vec<_> = drained.as_array().unwrap().iter().map(|one| (&one["worker"], &one["end"])).collect();
    assert_eq!(json!(ends), json!([["one", "stopped"], ["two", "stopped"]]));
    for worker in &mut workers {
        assert_eq!(worker.ended().await.code(), Some(0));
    }
    let row = bench.client.until("held", "ENQUEUED").await;
    assert_eq!(row.attempts, 0, "given back, which is no failed attempt");
    let none = done(&url, &["drain", "--all", "--yes"]).await;
    assert!(none.err.contains("no worker lives"), "{none:?}");
}
