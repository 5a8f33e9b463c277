//! The fence on this side of the network: it may close between any two looks, and then nothing comes of what was begun.

use std::sync::atomic::{AtomicU32, Ordering};

use fireflow_worker::sysdb::{
    Checkpoint, Claim, ClaimScope, CommitError, Fence, Finish, Notifier, Owner, Rows, SysdbError, SystemDatabase,
    Write, Writer, schema::SchemaName,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{bench, support::client::QUEUE};

/// A fence that is found open so often, and closed from then on.
fn closes_after(looks: u32) -> Fence {
    let seen = AtomicU32::new(0);
    Fence::new(move || seen.fetch_add(1, Ordering::SeqCst) < looks)
}

fn scope() -> ClaimScope {
    ClaimScope {
        executor: "w1".into(),
        application: "fireflow-executor".into(),
        version: "1.0.0".into(),
        workflows: vec!["executeFireFlow".into()],
        class: "ExecutionWorkflows".into(),
        formats: vec!["portable_json".into()],
        max_input: 1 << 20,
        accounts: None,
    }
}

async fn commit(sysdb: &SystemDatabase, owner: &Owner) -> Result<(), CommitError> {
    let stop = CancellationToken::new();
    let (notifier, _) = Notifier::new(sysdb.clone(), stop.clone());
    let (writer, mut writers) = Writer::several(1, sysdb, &notifier);
    let write = writers.remove(0);
    let task = tokio::spawn(write.run(stop));
    let finish = Write::Finish(Finish { outcome: Ok("1".into()), legacy: false });
    let committed = writer.commit(Checkpoint { owner: owner.clone(), writes: vec![finish].into() }).await;
    drop(writer);
    task.await.unwrap();
    committed.map(drop)
}

#[tokio::test]
async fn behind_a_closed_fence_nothing_is_claimed_and_nothing_is_written() {
    let bench = bench().await;
    let sysdb = SystemDatabase::new(bench.database.pool().await, SchemaName::default());
    bench.client.enqueue("EX1", "echo", json!({})).await;
    for concurrency in [None, Some(5)] {
        let claim = Claim { queue: QUEUE, rows: Rows::All, limit: 1, concurrency, rate: None };
        let mut looks = 0;
        let owner = loop {
            match sysdb.fenced(closes_after(looks)).claim(&scope(), &claim).await {
                Ok(claimed) => break claimed.unwrap().remove(0).owner,
                Err(error) => assert!(matches!(error, SysdbError::Fenced), "{error}"),
            }
            assert_eq!(bench.client.row("EX1").await.unwrap().status, "ENQUEUED");
            looks += 1;
        };
        assert!(looks >= 2, "it looks for its connection, and before it sends");
        assert_eq!(sysdb.release(&[owner]).await.unwrap(), 1);
    }
    let claim = Claim { queue: QUEUE, rows: Rows::All, limit: 1, concurrency: None, rate: None };
    let owner = sysdb.claim(&scope(), &claim).await.unwrap().unwrap().remove(0).owner;
    let mut looks = 0;
    while let Err(error) = commit(&sysdb.fenced(closes_after(looks)), &owner).await {
        assert_eq!(error, CommitError::Fenced);
        assert_eq!(bench.client.row("EX1").await.unwrap().status, "PENDING");
        looks += 1;
    }
    assert!(looks >= 2, "it looks before the batch, and before the commit");
    assert_eq!(bench.client.row("EX1").await.unwrap().status, "SUCCESS");
}
