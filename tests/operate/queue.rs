//! Queues: what is shown of them, and that a pause holds for all workers, over restarts, until it ends.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{
    console::{done, refused, run},
    support::{
        bench::Bench,
        client::QUEUE,
        flows::{echo, gated, reporting},
    },
};

async fn bench() -> (Bench, String) {
    let bench = Bench::with(|ledger| vec![echo("echo"), reporting("report", ledger)]).await;
    let url = bench.database.url();
    (bench, url)
}

async fn shown(url: &str) -> Json {
    done(url, &["queue", "show", QUEUE, "--json"]).await.json()[0].take()
}

#[tokio::test]
async fn a_pause_holds_under_load_for_every_worker_and_over_restarts() {
    let (bench, url) = bench().await;
    let workers = [bench.worker("one", &[]).await, bench.worker("two", &[("queue.limits", "configured")]).await];
    bench.client.enqueue("held", "report", gated("held")).await;
    bench.ledger.entered("held", 1).await;
    // A load that goes on all the time.
    let load = bench.database.client().await;
    let load = tokio::spawn(async move {
        let sql = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY[json_build_object('flowId', 'echo')])";
        loop {
            load.query_one(sql, &[&QUEUE]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let started = async || -> i64 {
        let sql = "SELECT count(*) FROM dbos.workflow_status WHERE started_at_epoch_ms IS NOT NULL";
        bench.client.sql().query_one(sql, &[]).await.unwrap().get(0)
    };
    while started().await < 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let paused = done(&url, &["queue", "pause", QUEUE, "--reason", "the vendor is down"]).await;
    assert_eq!(paused.out, format!("queue {QUEUE} is paused\n"));
    for worker in &workers {
        worker.says("the queue is paused by an operator").await;
    }
    // Claims that were under way go by what they knew.
    let mut before = started().await;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = started().await;
        if std::mem::replace(&mut before, now) == now {
            break;
        }
    }
    let waiting = shown(&url).await["queued"].as_i64().unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(started().await, before, "nothing is claimed");
    let state = shown(&url).await;
    assert!(state["queued"].as_i64().unwrap() > waiting + 20, "{state}");
    assert_eq!((&state["stopped"], &state["paused"]["reason"]), (&json!(true), &json!("the vendor is down")));
    assert_eq!(state["running"], 1, "what runs goes on");
    assert!(
        state["oldest_age_ms"].as_i64() > Some(1000) && state["started_last_minute"].as_i64() >= Some(20),
        "{state}"
    );
    bench.ledger.release("held");
    bench.client.until("held", "SUCCESS").await;
    let again = done(&url, &["queue", "pause", QUEUE, "--json"]).await.json();
    assert_eq!((&again["new"], &again["registered"]), (&json!(false), &json!(false)));

    let [one, two] = workers;
    one.stop().await;
    let one = bench.worker("one", &[]).await;
    one.says("the queue is paused by an operator").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(started().await, before, "nor by one that starts");
    load.abort();

    assert_eq!(done(&url, &["queue", "resume", QUEUE]).await.out, format!("queue {QUEUE} goes on\n"));
    for worker in [&one, &two] {
        worker.says("the queue is no longer paused").await;
    }
    let queued = "SELECT count(*) FROM dbos.workflow_status WHERE status <> 'SUCCESS'";
    assert!(bench.client.comes_true(queued, &[], 0).await);
    refused(&url, &["queue", "resume", QUEUE], "is not paused").await;
}

#[tokio::test]
async fn a_registered_queue_is_closed_for_other_sdks_and_is_afterwards_what_it_was() {
    let (bench, url) = bench().await;
    let concurrency = async || -> Option<i32> {
        let sql = "SELECT concurrency FROM dbos.queues WHERE name = $1";
        bench.client.sql().query_one(sql, &[&QUEUE]).await.unwrap().get(0)
    };
    let register = "INSERT INTO dbos.queues (name, concurrency, worker_concurrency, application_name)
                    VALUES ($1, 7, 3, 'fireflow-executor')";
    bench.client.execute(register, &[&QUEUE]).await;
    let shown_limits = shown(&url).await["limits"].take();
    assert_eq!(
        (&shown_limits["registered"]["concurrency"], &shown_limits["in_force"]["worker_concurrency"]),
        (&json!(7), &json!(3))
    );
    let _worker = bench.worker("served", &[]).await;

    let paused = done(&url, &["queue", "pause", QUEUE]).await;
    assert!(paused.out.contains("its registered concurrency is 0 meanwhile"), "{paused:?}");
    assert_eq!(concurrency().await, Some(0));
    done(&url, &["queue", "pause", QUEUE]).await; // the value of before isn't lost by a second one
    let text = done(&url, &["queue", "show", QUEUE]).await.out;
    assert!(text.contains("registered concurrency 7 again"), "{text}");
    bench.client.enqueue("waiting", "echo", json!({"text": "x"})).await;
    let resumed = done(&url, &["queue", "resume", QUEUE, "--json"]).await.json();
    let expected = json!({"queue": QUEUE, "paused": false, "was_paused": true, "concurrency": 7, "restored": true});
    assert_eq!((resumed, concurrency().await), (expected, Some(7)));
    bench.client.until("waiting", "SUCCESS").await;

    // Registered only while it is paused, and closed: it stays so, also after a second pause.
    bench.client.execute("DELETE FROM dbos.queues", &[]).await;
    done(&url, &["queue", "pause", QUEUE]).await;
    bench.client.execute(&register.replace("7", "0"), &[&QUEUE]).await;
    done(&url, &["queue", "pause", QUEUE]).await;
    let resumed = done(&url, &["queue", "resume", QUEUE]).await;
    assert!(resumed.out.contains("its registered concurrency is 0, which stops it"), "{resumed:?}");
    assert_eq!(concurrency().await, Some(0));

    // Without a limit before, there is none afterwards.
    bench.client.execute("UPDATE dbos.queues SET concurrency = NULL WHERE name = $1", &[&QUEUE]).await;
    done(&url, &["queue", "pause", QUEUE]).await;
    assert_eq!(concurrency().await, Some(0));
    done(&url, &["queue", "resume", QUEUE]).await;
    assert_eq!(concurrency().await, None);
    // What somebody changes in between stays.
    done(&url, &["queue", "pause", QUEUE]).await;
    bench.client.execute("UPDATE dbos.queues SET concurrency = 9 WHERE name = $1", &[&QUEUE]).await;
    let text = done(&url, &["queue", "show", QUEUE]).await.out;
    assert!(text.contains("workers of other SDKs may claim from it"), "{text}");
    let kept = done(&url, &["queue", "resume", QUEUE]).await;
    assert!(kept.out.contains("was changed meanwhile, and stays as it is"), "{kept:?}");
    assert_eq!(concurrency().await, Some(9));
}

#[tokio::test]
async fn queues_show_who_has_what_and_wrong_names_are_refused() {
    let (bench, url) = bench().await;
    let _worker = bench.worker("busy", &[]).await;
    for id in ["a", "b"] {
        bench.client.enqueue(id, "report", gated(id)).await;
        bench.ledger.entered(id, 1).await;
    }
    let partitioned = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, queue_partition_key, priority, created_at)
                       SELECT 'p' || n, 'ENQUEUED', 'work', 'split', 'tenant-' || n % 30, n % 3, 1000 + n FROM generate_series(1, 90) n";
    bench.client.execute(partitioned, &[]).await;
    let all = done(&url, &["queue", "show", "--json"]).await.json();
    let find = |name: &str| all.as_array().unwrap().iter().find(|queue| queue["name"] == name).unwrap().clone();
    let (own, split) = (find(QUEUE), find("split"));
    assert_eq!((&own["running"], &own["workers"]), (&json!(2), &json!({"busy": 2})));
    assert_eq!((&own["limits"]["registered"], &own["limits"]["configured"]["concurrency"]), (&Json::Null, &json!(100)));
    assert_eq!((&split["queued"], &split["partition_count"]), (&json!(90), &json!(30)));
    assert_eq!(split["partitions"][0], json!({"key": "tenant-0", "queued": 3, "running": 0}));
    assert_eq!(split["oldest_at"], "1970-01-01T00:00:01.001Z");
    let table = done(&url, &["queue", "show"]).await.out;
    assert!(table.starts_with("QUEUE") && table.contains("split"), "{table}");

    let waits = done(&url, &["queue", "pause", "split", "--wait", "--json"]).await.json();
    assert_eq!(waits["running"], 0);
    let late = run(&url, &["queue", "pause", QUEUE, "--wait", "--wait-timeout", "1s"]).await;
    assert_eq!((late.code, late.err.as_str()), (1, "2 of its executions still run\n"), "{late:?}");
    refused(&url, &["queue", "show", "spilt"], "there is no queue \"spilt\"; there are fireflow-executions, split")
        .await;
    refused(&url, &["queue", "pause", "spilt"], "there is no queue \"spilt\"").await;
    refused(&url, &["queue", "pause", "_dbos_internal_queue"], "can't be paused").await;
    refused(&url, &["queue", "resume", "spilt"], "is not paused").await;
    done(&url, &["queue", "pause", "spilt", "--force"]).await;
    done(&url, &["queue", "resume", "spilt"]).await;
}
