//! NOTIFY after commit, for readers of streams and events: coalesced, off the write path, and never needed for correctness.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{SysdbError, SystemDatabase};
use crate::postgres::Statements;

/// Readers of streams listen here; the payload is `<workflow>::<key>`.
pub(super) const STREAMS: &str = "dbos_streams_channel";

/// Workers listen here for what comes onto their queues; the payload is the queue's name, or its beginning.
pub const QUEUES: &str = "fireflow_queues";
/// The trigger that announces enqueues, see `schema/announce.rs`.
pub(super) const ENQUEUED: &str = "fireflow_enqueued";

/// NOTIFY makes commits queue on one lock of the whole cluster, so a burst becomes one statement.
const COALESCE: Duration = Duration::from_millis(10);
/// Announcements waiting; more are dropped, since readers poll as well.
const WAITING: usize = 4096;
/// PostgreSQL refuses payloads of 8000 bytes and more.
const PAYLOAD_MAX: usize = 7999;

/// Takes announcements. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(mpsc::Sender<(&'static str, String)>);

impl Notifier {
    /// A notifier, and the task that serves it until `stop`.
    pub fn new(sysdb: SystemDatabase, stop: CancellationToken) -> (Notifier, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Notifier(sender), serve(sysdb, receiver, stop))
    }

    /// Announce; dropped when too many wait.
    pub(super) fn announce(&self, channel: &'static str, payload: String) {
        if payload.len() <= PAYLOAD_MAX {
            let _ = self.0.try_send((channel, payload));
        }
    }
}

async fn serve(sysdb: SystemDatabase, mut receiver: mpsc::Receiver<(&'static str, String)>, stop: CancellationToken) {
    loop {
        let first = tokio::select! {
            first = receiver.recv() => first,
            () = stop.cancelled() => None,
        };
        let Some(first) = first else { return };
        let mut waiting = BTreeSet::from([first]);
        tokio::time::sleep(COALESCE).await;
        while let Ok(more) = receiver.try_recv() {
            waiting.insert(more);
        }
        if let Err(error) = notify(&sysdb, &waiting).await {
            tracing::debug!(%error, "announcements dropped; readers poll");
        }
    }
}

async fn notify(sysdb: &SystemDatabase, waiting: &BTreeSet<(&'static str, String)>) -> Result<(), SysdbError> {
    let channels: Vec<&str> = waiting.iter().map(|(channel, _)| *channel).collect();
    let payloads: Vec<&str> = waiting.iter().map(|(_, payload)| payload.as_str()).collect();
    let client = sysdb.client().await?;
    let statement = "SELECT pg_notify(n.channel, n.payload) FROM unnest($1::text[], $2::text[]) AS n(channel, payload)";
    client.query(statement, &[&channels, &payloads]).await?;
    Ok(())
}
