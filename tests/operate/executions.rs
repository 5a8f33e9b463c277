//! Executions: what lists show, and what becomes of those that are cancelled, resumed, retried and forked.

use serde_json::{Value as Json, json};

use super::{
    console::{Follower, done, misused, refused, run, run_with},
    support::{
        bench::Bench,
        client::QUEUE,
        flows::{echo, family, gated, reporting},
    },
};

async fn bench() -> (Bench, String) {
    let bench = Bench::with(|ledger| vec![echo("echo"), reporting("report", ledger), family(ledger)]).await;
    let url = bench.database.url();
    (bench, url)
}

/// A text without its columns.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn list(url: &str, arguments: &[&str]) -> Vec<Json> {
    let listed = done(url, &[&["executions", "list", "--json"], arguments].concat()).await.json();
    listed["executions"].as_array().unwrap().clone()
}

fn ids(listed: &[Json]) -> Vec<&str> {
    listed.iter().map(|execution| execution["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_running_execution_is_cancelled_and_resumed() {
    let (bench, url) = bench().await;
    let worker = bench.worker("solo", &[("queue.worker_concurrency", "1")]).await;
    bench.client.enqueue("held", "report", gated("held")).await;
    bench.ledger.entered("held", 1).await;
    let running = list(&url, &["--status", "running"]).await;
    assert_eq!(ids(&running), ["held"]);
    let shown = &running[0];
    assert_eq!(
        (&shown["flow"], &shown["state"], &shown["worker"]),
        (&json!("report"), &json!("running"), &json!("solo"))
    );
    assert!(shown["duration_ms"].as_i64().is_some() && shown["ended_at"].is_null(), "{shown}");
    let whole = words(&done(&url, &["executions", "show", "held"]).await.out);
    for part in ["status running (PENDING) flow report", " 1 updateToRunning ", " events ", " event "] {
        assert!(whole.contains(part), "{part}: {whole}");
    }

    let cancelled = done(&url, &["executions", "cancel", "held", "--json"]).await.json();
    assert_eq!(
        cancelled,
        json!([{"id": "held", "was": "PENDING", "done": true, "result": "cancelled", "error": null}])
    );
    // The one slot is free again, though the ledger still holds the answer: the execution was stopped.
    bench.client.enqueue("next", "echo", json!({"text": "on"})).await;
    bench.client.until("next", "SUCCESS").await;
    worker.says("execution stopped").await;
    assert_eq!(bench.client.execution("held").await.unwrap().0, "stopped");
    let shown = done(&url, &["executions", "show", "held", "--json"]).await.json();
    assert_eq!((&shown["state"], &shown["error"]), (&json!("cancelled"), &json!("the workflow was cancelled")));

    assert_eq!(done(&url, &["executions", "resume", "held"]).await.out, "held  resumed\n");
    bench.ledger.release("held");
    bench.client.until("held", "SUCCESS").await;
    assert_eq!(bench.ledger.entries("held").await, 2);
    assert_eq!(bench.client.until_execution("held", "completed").await, None);
    let shown = done(&url, &["executions", "show", "held", "--json"]).await.json();
    let names: Vec<_> = shown["steps"].as_array().unwrap().iter().map(|step| step["name"].clone()).collect();
    assert_eq!(json!(names), json!(["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"]));
    assert_eq!(shown["result"]["status"], "completed");
    assert!(shown["event_count"].as_i64() > Some(5) && shown["events"].as_array().unwrap().len() == 5, "{shown}");
    for verb in ["cancel", "resume", "retry"] {
        refused(&url, &["executions", verb, "held"], "it ").await;
    }
}

#[tokio::test]
async fn a_tree_is_cancelled_with_all_its_children() {
    let (bench, url) = bench().await;
    let _worker = bench.worker("parent", &[]).await;
    bench.client.enqueue("root", "family", json!({"hold": "/gate/child"})).await;
    let children = "SELECT count(*) FROM dbos.workflow_status WHERE parent_workflow_id = 'root' AND status = 'PENDING'";
    assert!(bench.client.comes_true(children, &[], 2).await);
    let shown = done(&url, &["executions", "show", "root", "--json"]).await.json();
    assert_eq!(shown["child_count"], 2);
    assert_eq!(list(&url, &["--parent", "root"]).await.len(), 2);
    let cancelled = done(&url, &["executions", "cancel", "--tree", "root", "--json"]).await.json();
    assert_eq!(cancelled.as_array().unwrap().len(), 3, "{cancelled}");
    bench.client.until_count("CANCELLED", 3).await;
    for child in list(&url, &["--parent", "root"]).await {
        assert_eq!(child["state"], "cancelled");
        bench.client.until_execution(child["id"].as_str().unwrap(), "stopped").await;
    }
}

#[tokio::test]
async fn a_failed_execution_is_retried_from_the_step_that_failed() {
    let (bench, url) = bench().await;
    let _worker = bench.worker("again", &[]).await;
    // The flow has no such input yet; it gets it, and the execution is retried.
    let mut flow = echo("late");
    let inputs = flow["metadata"]["inputs"].take();
    flow["metadata"]["inputs"] = json!({});
    bench.client.store(&flow).await;
    bench.client.enqueue("failing", "late", json!({"text": "at last"})).await;
    bench.client.until("failing", "ERROR").await;
    let failed = list(&url, &["--status", "failed", "--flow", "late"]).await;
    assert!(failed[0]["error"].as_str().unwrap().contains("text"), "{failed:?}");
    let before = bench.client.steps("failing").await;
    assert_eq!(before[2].name, "executeFlowAtomic");

    flow["metadata"]["inputs"] = inputs;
    let sql = "UPDATE fireflow_flows SET data = $1, version = 2 WHERE id = 'late'";
    bench.client.execute(sql, &[&flow]).await;
    let retried = done(&url, &["executions", "retry", "failing"]).await.out;
    assert_eq!(retried, format!("failing  runs again from step 2, on queue {QUEUE}\n"));
    let result = bench.client.until("failing", "SUCCESS").await.result();
    assert_eq!(result["outputs"]["text"], "at last");
    let after = bench.client.steps("failing").await;
    assert_eq!(after[..2], before[..2], "what had succeeded was not done again");
    assert_eq!(bench.client.until_execution("failing", "completed").await, None);

    // A task that fails before any step begins at its beginning.
    bench.client.enqueue("early", "nowhere", json!({})).await;
    bench.client.until("early", "ERROR").await;
    bench.client.store(&echo("nowhere")).await;
    let retried = done(&url, &["executions", "retry", "early", "--json"]).await.json();
    assert!(retried[0]["result"].as_str().unwrap().starts_with("runs again from its start"), "{retried}");
    bench.client.until("early", "SUCCESS").await;

    // And one whose history fits no more, by order.
    bench.client.enqueue("whole", "late", json!({"text": 1, "wrong": 2})).await;
    bench.client.until("whole", "ERROR").await;
    done(&url, &["executions", "retry", "whole", "--from-start"]).await;
    bench.client.until("whole", "ERROR").await;
    let first: Vec<_> =
        bench.client.events("whole").await.into_iter().filter(|(.., kind)| kind == "execution:created").collect();
    assert_eq!(first.len(), 2, "it began twice, on the same stream");
}

#[tokio::test]
async fn a_parked_execution_is_retried_and_nothing_is_held_against_it() {
    let (bench, url) = bench().await;
    bench.client.enqueue("guilty", "echo", json!({"text": "innocent"})).await;
    let park = "UPDATE dbos.workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', queue_name = NULL,
                       deduplication_id = NULL, recovery_attempts = 102, completed_at = 1 WHERE workflow_uuid = 'guilty'";
    assert_eq!(bench.client.execute(park, &[]).await, 1);
    let blame = "INSERT INTO fireflow_crashes (workflow_id, crashes, steps, attempts, worker_id, reason)
                 VALUES ('guilty', 2, 0, 200, 'lost', 'it died')";
    bench.client.execute(blame, &[]).await;
    let shown = words(&done(&url, &["executions", "show", "guilty"]).await.out);
    assert!(
        shown.contains("status parked (MAX_RECOVERY_ATTEMPTS_EXCEEDED)") && shown.contains("2 in a row; last on lost"),
        "{shown}"
    );
    let retried = done(&url, &["executions", "retry", "guilty"]).await.out;
    // Its row names no queue any more.
    assert_eq!(retried, "guilty  runs again from its recorded steps, on queue _dbos_internal_queue\n");
    // One that failed without a step that tells why runs again as well; its version is nobody's.
    bench.client.enqueue("bare", "echo", json!({"text": "on"})).await;
    let fail = "UPDATE dbos.workflow_status SET status = 'ERROR', application_version = '9.9', completed_at = 1 WHERE workflow_uuid = 'bare'";
    assert_eq!(bench.client.execute(fail, &[]).await, 1);
    let retried = done(&url, &["executions", "retry", "bare"]).await;
    assert_eq!(retried.out, format!("bare  runs again from its recorded steps, on queue {QUEUE}\n"));
    assert!(
        retried.err.contains("1 of them ask for application version \"9.9\", which no live worker has"),
        "{retried:?}"
    );
    let current = "UPDATE dbos.workflow_status SET application_version = NULL WHERE workflow_uuid = 'bare' AND status = 'ENQUEUED'";
    assert_eq!(bench.client.execute(current, &[]).await, 1);
    let crashes = "SELECT count(*) FROM fireflow_crashes";
    assert!(bench.client.comes_true(crashes, &[], 0).await);
    let _worker = bench.worker("forgiving", &[]).await;
    let row = bench.client.until("guilty", "SUCCESS").await;
    assert_eq!(row.attempts, 1, "attempts begin anew");
    bench.client.until("bare", "SUCCESS").await;
}

#[tokio::test]
async fn a_fork_does_the_rest_of_another_ones_steps() {
    let (bench, url) = bench().await;
    let _worker = bench.worker("forked", &[("execution.start", "signal")]).await;
    bench.client.enqueue("source", "echo", json!({"text": "both"})).await;
    bench.client.send("source", "START_SIGNAL", json!("GO")).await;
    let result = bench.client.until("source", "SUCCESS").await.result();
    // From its beginning, the start signal included, which a fork doesn't take along.
    for step in ["0", "4"] {
        let forked = done(&url, &["executions", "fork", "source", "--from-step", step, "--json"]).await.json();
        let id = forked["id"].as_str().unwrap();
        assert_eq!((&forked["forked_from"], id.starts_with("EX")), (&json!("source"), true));
        // The receive may have had to wait, by a timer of its own.
        let expected = if step == "0" { 0..=0 } else { 3..=4 };
        assert!(expected.contains(&forked["steps"].as_i64().unwrap()), "{forked}");
        let own = bench.client.until(id, "SUCCESS").await.result();
        assert_eq!((&own["outputs"], &own["executionId"]), (&result["outputs"], &json!(id)));
        let shown = words(&done(&url, &["executions", "show", id]).await.out);
        assert!(shown.contains("forked from source"), "{shown}");
    }
    refused(&url, &["executions", "fork", "source", "--from-step", "99"], "--from-step can be 0 to ").await;
    refused(&url, &["executions", "fork", "nothing", "--from-step", "0"], "there is no execution \"nothing\"").await;
    for wrong in [
        ["--from-step", "-1"],
        ["--id", ""],
        ["--timeout", "0s"],
        ["--timeout", "500000000000years"],
        ["--to-queue", ""],
    ] {
        misused(&url, &[&["executions", "fork", "source", "--from-step", "0"], &wrong[..]].concat(), wrong[0]).await;
    }
    // The last recorded step is far beyond those that are shown.
    let far = "INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, function_name, output) VALUES ('source', 12000, 'far', '1')";
    bench.client.execute(far, &[]).await;
    done(&url, &["executions", "fork", "source", "--from-step", "12001", "--to-queue", "nowhere", "--force"]).await;
}

#[tokio::test]
async fn tail_follows_to_the_end_and_its_exit_code_says_which() {
    let (bench, url) = bench().await;
    let _worker = bench.worker("watched", &[]).await;
    let mut all = Follower::start(&url, &["executions", "tail", "--json", "--queue", QUEUE]);
    // What comes before its first look isn't news to it.
    for herald in 0.. {
        bench.client.enqueue(&format!("herald-{herald}"), "echo", json!({})).await;
        if tokio::time::timeout(std::time::Duration::from_secs(1), all.line()).await.is_ok() {
            break;
        }
    }
    bench.client.enqueue("good", "report", gated("good")).await;
    let mut good = Follower::start(&url, &["executions", "tail", "good", "--json"]);
    let created = good.until(|event| event["event"]["type"] == "execution:created").await;
    assert_eq!(created["executionId"], "good");
    good.until(|event| event["event"]["type"] == "node:started").await; // live: the ledger still holds it
    bench.ledger.release("good");
    let end = good.until(|line| line["status"].is_string()).await;
    assert_eq!((&end["state"], &end["result"]["status"]), (&json!("completed"), &json!("completed")));
    assert_eq!(good.ended().await, 0);
    for happened in ["created", "started", "ended"] {
        let news = all.until(|news| news["happened"] == happened && news["id"] == "good").await;
        assert_eq!(news["queue"], QUEUE);
    }

    bench.client.enqueue("bad", "nowhere", json!({})).await;
    let bad = run(&url, &["executions", "tail", "bad"]).await;
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(bad.err.contains("execution bad is failed: there is no flow \"nowhere\""), "{bad:?}");
    bench.client.enqueue("stopped", "report", gated("stopped")).await;
    bench.ledger.entered("stopped", 1).await;
    let stopped = Follower::start(&url, &["executions", "tail", "stopped", "-n", "1"]);
    done(&url, &["executions", "cancel", "stopped"]).await;
    assert_eq!(stopped.ended().await, 3);
    let park =
        "UPDATE dbos.workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' WHERE workflow_uuid = 'stopped'";
    bench.client.execute(park, &[]).await;
    assert_eq!(run(&url, &["executions", "tail", "stopped"]).await.code, 4);
    refused(&url, &["executions", "tail", "nothing"], "there is no execution \"nothing\"").await;
}

#[tokio::test]
async fn tail_hears_a_quiet_queue_beside_a_busy_one() {
    let (bench, url) = bench().await;
    bench.client.enqueue("long", "echo", json!({})).await; // it was there before
    let mut own = Follower::start(&url, &["executions", "tail", "--json", "--queue", QUEUE]);
    for herald in 0.. {
        bench.client.enqueue(&format!("herald-{herald}"), "echo", json!({})).await;
        if tokio::time::timeout(std::time::Duration::from_secs(1), own.line()).await.is_ok() {
            break;
        }
    }
    // More than a look takes, of the same millisecond, ended as well; and of another application on our queue.
    let busy = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, application_name, created_at, completed_at)
                SELECT 'busy-' || n, CASE WHEN n % 2 = 0 THEN 'CANCELLED' ELSE 'SUCCESS' END, 'work',
                       CASE n % 4 WHEN 1 THEN 'busy' WHEN 3 THEN $1 END, CASE WHEN n % 4 = 3 THEN 'another' END, t, t
                  FROM generate_series(1, 2500) n, (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS t) now";
    bench.client.execute(busy, &[&QUEUE]).await;
    for id in ["quiet", "later"] {
        bench.client.enqueue(id, "echo", json!({})).await;
        own.until(|news| news["id"] == id && news["happened"] == "created").await;
    }
    // Who is on no queue any more is told if it was seen on ours, and nobody else.
    for id in ["long", "quiet"] {
        done(&url, &["executions", "cancel", id]).await;
        let ended = own.until(|news| news["happened"] == "ended").await;
        assert_eq!((&ended["id"], &ended["state"]), (&json!(id), &json!("cancelled")));
    }
}

/// Rows of many kinds, without a worker: n from 1 to 1200, newest last.
const MANY: &str = "
INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, executor_id, created_at, updated_at, completed_at,
       parent_workflow_id, application_name)
SELECT 'm' || to_char(n, 'FM0000'), (ARRAY['SUCCESS', 'ERROR', 'ENQUEUED'])[n % 3 + 1], 'executeFireFlow', 'q' || n % 2,
       'w' || n % 5, 1000 + n / 2, 1000, CASE WHEN n % 3 < 2 THEN 5000 END, CASE WHEN n <= 4 THEN 'top' END,
       CASE WHEN n = 1200 THEN 'another' END
  FROM generate_series(1, 1200) n";

#[tokio::test]
async fn lists_are_whole_and_in_order_page_by_page_and_by_every_filter() {
    let (bench, url) = bench().await;
    bench.client.execute(MANY, &[]).await;
    let (mut seen, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let mut arguments = vec!["executions", "list", "--json", "--limit", "500"];
        arguments.extend(after.iter().flat_map(|after| ["--after", after.as_str()]));
        let page = done(&url, &arguments).await.json();
        seen.extend(page["executions"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    let expected: Vec<String> = (1..1200).rev().map(|n| format!("m{n:04}")).collect();
    assert_eq!(seen, expected, "all of the application, newest first, each once");
    let one = list(&url, &["--limit", "1", "--offset", "3"]).await;
    assert_eq!(ids(&one), ["m1196"]);

    let count = async |filter: &[&str]| list(&url, &[filter, &["--limit", "1000"]].concat()).await.len();
    assert_eq!(count(&["--status", "completed"]).await, 399);
    assert_eq!(count(&["--status", "ERROR,queued"]).await, 800);
    assert_eq!(count(&["--status", "queued", "--queue", "q0"]).await, 200);
    assert_eq!(count(&["--worker", "w3", "--queue", "q1"]).await, 120);
    assert_eq!(count(&["--parent", "top"]).await, 4);
    assert_eq!(count(&["--name", "executeFireFlow", "--status", "failed"]).await, 400);
    assert_eq!(count(&["--name", "other"]).await, 0);
    assert_eq!(count(&["--since", "1h"]).await, 0);
    assert_eq!(count(&["--until", "1970-01-01T00:00:01.100Z", "--since", "1970-01-01"]).await, 199);
    let flows = "INSERT INTO fireflow_executions (id, flow_id, owner_id) SELECT 'm' || to_char(n, 'FM0000'), 'f', 'o'
                   FROM generate_series(1, 10) n";
    bench.client.execute(flows, &[]).await;
    assert_eq!(count(&["--flow", "f"]).await, 10);
    assert_eq!(count(&["--flow", "f", "--status", "failed"]).await, 4);

    let text = done(&url, &["executions", "list", "--limit", "2"]).await;
    let lines: Vec<_> = text.out.lines().collect();
    assert_eq!(lines.len(), 3, "{text:?}");
    assert!(lines[0].starts_with("ID     FLOW  STATUS") && lines[1].starts_with("m1199  -     queued"), "{text:?}");
    assert!(text.err.contains("there are more: --after m1198"), "{text:?}");
    let nothing = done(&url, &["executions", "list", "--queue", "none"]).await;
    assert_eq!((nothing.out.as_str(), nothing.err.as_str()), ("", "no executions fit\n"));
    let mut empty = Follower::start(&url, &["executions", "list", "--queue", "none", "--watch=200ms"]);
    for _ in 0..2 {
        assert!(empty.line().await.starts_with("ID  FLOW  STATUS"), "also where there is nothing");
        assert_eq!(empty.line().await, "no executions fit");
    }
    let mut watched = Follower::start(&url, &["executions", "list", "--limit", "1", "--json", "--watch=200ms"]);
    for _ in 0..2 {
        let look = watched.until(|_| true).await;
        assert_eq!(look["executions"][0]["id"], "m1199");
    }
}

#[tokio::test]
async fn many_are_changed_by_a_filter_or_from_stdin_and_never_by_mistake() {
    let (bench, url) = bench().await;
    bench.client.execute(MANY, &[]).await;
    let queued = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'ENQUEUED'";
    let filter = ["executions", "cancel", "--all", "--queue", "q0"];
    refused(&url, &filter, "Cancel 200 queued executions? There is no terminal to ask on; --yes does it").await;
    assert!(bench.client.comes_true(queued, &[], 400).await);
    let cancelled = done(&url, &[&filter[..], &["--yes", "--json"]].concat()).await.json();
    assert_eq!(cancelled.as_array().unwrap().len(), 200);
    assert!(bench.client.comes_true(queued, &[], 200).await);
    let none = done(&url, &[&filter[..], &["--yes"]].concat()).await;
    assert!(none.err.contains("no executions fit"), "{none:?}");

    let mixed = run_with(&url, &["executions", "cancel", "-", "m0001"], "m0002\n\n  m0005 \nnobody\nm0005\n").await;
    assert_eq!(mixed.code, 1, "{mixed:?}");
    assert_eq!(mixed.out, "m0002  cancelled\nm0005  cancelled\n", "DBOS cancels what is cancelled once more");
    for told in ["\"nobody\": there is no such execution", "\"m0001\": it is failed, which stands"] {
        assert!(mixed.err.contains(told), "{told}: {mixed:?}");
    }
    let resume = ["executions", "resume", "--all", "--yes", "--to-queue", "q9", "--json"];
    for verb in [&resume[..], &["executions", "retry", "m0001", "--to-queue", "q9"]] {
        misused(&url, verb, "there is no queue \"q9\"").await;
    }
    let resumed = done(&url, &[&resume[..], &["--force"]].concat()).await.json();
    assert_eq!(resumed.as_array().unwrap().len(), 201);

    misused(&url, &["executions", "cancel", "m0005", "--queue", "q0"], "filters need --all").await;
    misused(
        &url,
        &["executions", "cancel", "--all", "--status", "completed", "--yes"],
        "can't cancel what is completed",
    )
    .await;
    misused(&url, &["executions", "retry", "m0001", "m0004", "--from-step", "1"], "--from-step is for one").await;
    refused(
        &url,
        &["executions", "show", "nobody"],
        "there is no execution \"nobody\"; `fireflow-worker executions list`",
    )
    .await;
    refused(&url, &["executions", "list", "--after", "nobody"], "there is no execution \"nobody\"").await;
    for verb in [&["list"][..], &["cancel", "--all", "--yes"]] {
        misused(&url, &[&["executions"], verb, &["--since", "1h", "--until", "2h"]].concat(), "is not before").await;
    }
    for (wrong, text) in [
        (&["executions", "list", "--status", "sleeping"][..], "\"sleeping\" is no status; it is one of queued"),
        (&["executions", "list", "--since", "yesterday"], "expected a duration before now"),
        (&["executions", "list", "--limit", "5000"], "5000 is not in 1..=1000"),
        (&["executions", "cancel"], "required"),
        (&["executions", "cancel", "--all", "m0001"], "cannot be used with"),
        (&["executions", "fork", "m0001"], "--from-step"),
    ] {
        let ended = run(&url, wrong).await;
        assert_eq!(ended.code, 2, "{wrong:?}: {ended:?}");
        assert!(ended.err.contains(text), "{wrong:?}: {ended:?}");
    }
    // Nothing is made where there is nothing.
    let empty = super::support::TestDatabase::new().await;
    refused(&empty.url(), &["executions", "list"], "`fireflow-worker migrate` makes what is missing").await;
}
