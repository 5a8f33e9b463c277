//! Families are changed as a whole; and what changes meanwhile, or is locked, is left alone and told.

use fireflow_worker::{
    config,
    sysdb::operator::{Filter, Operator, OperatorError, Outcome, Status},
    worker::Database,
};
use serde_json::json;

use super::{
    console::{done, refused, run},
    support::{
        bench::Bench,
        client::QUEUE,
        flows::{echo, family, reporting},
    },
};

async fn bench() -> (Bench, String) {
    let bench = Bench::with(|ledger| vec![echo("echo"), reporting("report", ledger), family(ledger)]).await;
    let url = bench.database.url();
    (bench, url)
}

async fn operator(url: &str) -> Operator {
    let mut settings = config::Settings::default();
    settings.database.url = url.into();
    let database = Database::connect(&settings).await.unwrap();
    Operator::new(&database.sysdb, &database.prefix, &settings.worker.application_name)
}

const CHILDREN: &str = "SELECT count(*) FROM dbos.workflow_status WHERE parent_workflow_id = $1 AND status = $2";

#[tokio::test]
async fn a_cancelled_family_goes_on_together() {
    let (bench, url) = bench().await;
    let _worker = bench.worker("kin", &[]).await;
    for (root, tree, verb) in [("resumed", true, "resume"), ("retried", false, "retry")] {
        bench.client.enqueue(root, "family", json!({"hold": format!("/gate/{root}")})).await;
        assert!(bench.client.comes_true(CHILDREN, &[&root, &"PENDING"], 2).await);
        match tree {
            // All are cancelled, or the children are stopped by their worker, since their parent was.
            true => done(&url, &["executions", "cancel", "--tree", root]).await,
            false => done(&url, &["executions", "cancel", root]).await,
        };
        let stopped = if tree { "CANCELLED" } else { "ERROR" };
        assert!(bench.client.comes_true(CHILDREN, &[&root, &stopped], 2).await);
        let children = "SELECT workflow_uuid FROM dbos.workflow_status WHERE parent_workflow_id = $1 LIMIT 1";
        let child: String = bench.client.sql().query_one(children, &[&root]).await.unwrap().get(0);
        refused(&url, &["executions", "retry", &child], &format!("its parent \"{root}\" is cancelled")).await;
        bench.ledger.release(root);
        let again = done(&url, &["executions", verb, "--tree", root, "--json"]).await.json();
        assert_eq!(again.as_array().unwrap().len(), 3, "{again}");
        // The parent waits for its children, and sees their success.
        let result = bench.client.until(root, "SUCCESS").await.result();
        assert!(bench.client.comes_true(CHILDREN, &[&root, &"SUCCESS"], 2).await, "{result}");
        let failed = "SELECT count(*) FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND error IS NOT NULL";
        assert!(bench.client.comes_true(failed, &[&root], 0).await, "no child's failure was recorded");
    }
}

#[tokio::test]
async fn what_changes_or_is_locked_meanwhile_is_left_alone_and_told() {
    let (bench, url) = bench().await;
    for id in ["a", "b", "c"] {
        bench.client.enqueue(id, "echo", json!({})).await;
    }
    // The list is made, then somebody has one of them, which runs when the lock is gone.
    let mut other = bench.database.client().await;
    let taken = other.transaction().await.unwrap();
    taken.execute("UPDATE dbos.workflow_status SET status = 'PENDING' WHERE workflow_uuid = 'b'", &[]).await.unwrap();
    let cancel = tokio::spawn({
        let url = url.clone();
        async move { run(&url, &["executions", "cancel", "--all", "--status", "queued", "--yes"]).await }
    });
    let waits = "SELECT LEAST(count(*), 1) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    assert!(bench.client.comes_true(waits, &[], 1).await);
    taken.commit().await.unwrap();
    let cancelled = cancel.await.unwrap();
    assert_eq!((cancelled.code, cancelled.out.lines().count()), (1, 2), "{cancelled:?}");
    assert!(cancelled.err.contains("execution \"b\": it is running by now, and was left alone"), "{cancelled:?}");
    assert_eq!(bench.client.row("b").await.unwrap().status, "PENDING");

    // A lock that stays keeps nobody but its row.
    let held = other.transaction().await.unwrap();
    held.execute("SELECT FROM dbos.workflow_status WHERE workflow_uuid = 'a' FOR UPDATE", &[]).await.unwrap();
    let resumed = run(&url, &["executions", "resume", "a", "c"]).await;
    assert_eq!((resumed.code, resumed.out.as_str()), (1, "c  resumed\n"), "{resumed:?}");
    assert!(resumed.err.contains("execution \"a\": another session has its row locked"), "{resumed:?}");
    let operator = operator(&url).await;
    let bulk = operator.cancel(&["a".into(), "c".into()], &[]).await;
    let outcomes: Vec<_> = bulk.changed.iter().map(|one| one.outcome).collect();
    assert_eq!((outcomes, bulk.failed.is_none()), (vec![Outcome::Locked, Outcome::Done], true));
    held.rollback().await.unwrap();
    let both = ["a".to_owned(), "c".to_owned()];
    let changed = operator.resume(&both, &[Status::Parked], None).await.unwrap();
    assert!(changed.iter().all(|one| one.outcome == Outcome::Changed), "{changed:?}");
}

#[tokio::test]
async fn bounds_are_told_and_one_can_go_on_from_there() {
    let (bench, url) = bench().await;
    let fill =
        "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, parent_workflow_id, created_at)
                SELECT 't' || n, 'ENQUEUED', 'work', $1, CASE WHEN n > 1 THEN 't' || n / 2 END, 1000 + n / 2
                  FROM generate_series(1, 1000) n";
    bench.client.execute(fill, &[&QUEUE]).await;
    let all = operator(&url).await;
    let queued = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'ENQUEUED'";
    let bulk = all.clone().reaching(100).cancel_trees(&["t1".into()], &[]).await;
    assert_eq!(bulk.changed.len(), 100);
    assert!(bench.client.comes_true(queued, &[], 900).await, "what was found is cancelled");
    let Some(OperatorError::Deep { most: 100, below }) = bulk.failed else { panic!("{bulk:?}") };
    let rest = all.cancel_trees(&[below], &[]).await;
    assert!(rest.failed.is_none() && rest.changed.len() > 2, "{rest:?}");
    let found = all.descendants(&["t1".into()], &[Status::Queued]).await.unwrap();
    assert_eq!(all.cancel_trees(&["t1".into()], &[]).await.changed.len(), 1000);
    assert!(found.len() > 500 && bench.client.comes_true(queued, &[], 0).await);

    // A list that looks no further says where it was, and the next one leaves nothing out, also within a millisecond.
    let few = all.looking_through(200);
    let filter = Filter { name: Some("work".into()), worker: Some("none".into()), ..Filter::default() };
    let page = few.list(&filter, None, 10).await.unwrap();
    let place = page.looked_until.unwrap();
    assert!(page.executions.is_empty() && place.after.as_str().starts_with('t'), "{place:?}");
    let filter = Filter { name: Some("work".into()), ..Filter::default() };
    let before = few.list(&filter, None, 200).await.unwrap();
    assert_eq!(before.executions.last().unwrap().id, place.after);
    let after = few.list(&filter, Some(&place.after), 1000).await.unwrap();
    assert_eq!(after.executions.len(), 800);
}
