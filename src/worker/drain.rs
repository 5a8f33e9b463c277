//! How a life ends: the lease is lost and everything stops at once, or what runs may finish, and the rest goes back to the
//! queue.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};
use tokio_util::task::TaskTracker;

use super::{Status, lease::Keeper, life::Life, report, running::Running, status::Count};
use crate::{durable::Stop, failpoint::failpoint, sysdb::SystemDatabase};

/// Time that stopped executions get to leave, and the hand-over to be written, after the drain.
pub(super) const GRACE: Duration = Duration::from_secs(5);

impl Life<'_> {
    /// The lease is lost: stop everything. It has until the lease's true end; if it can't, that is for `on_stuck` to say.
    pub(super) async fn abandon(&self, keeper: &Keeper, reason: &str, tasks: &TaskTracker, running: &Running) {
        let lost = Stop::Lost(Some("PENDING, under a lost lease".into()));
        let executions = running.len();
        running.stop_all(&lost);
        report::LeaseLost { reason, executions }.tell(self.status);
        let stop = async {
            loop {
                running.stop_all(&lost); // again, for what was about to begin
                if tokio::time::timeout(Duration::from_millis(50), tasks.wait()).await.is_ok() {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop => {}
            _ = keeper.over() => tracing::error!(tasks = tasks.len(), "executions didn't stop in time"),
        }
    }

    /// Let running executions finish within the drain time, then give what is left back to the queue.
    pub(super) async fn drain(&self, sysdb: &SystemDatabase, tasks: &TaskTracker, running: &Running) {
        let &Life { live, leases, me, status, shutdown, .. } = self;
        let begun = Instant::now();
        let mut changes = live.changes();
        let patience = changes.borrow_and_update().worker.drain_timeout;
        tracing::info!(executions = running.len(), drain_timeout = %humantime::format_duration(patience), "draining");
        let announce = tokio::time::timeout(GRACE, leases.draining(me));
        if !matches!(announce.await, Ok(Ok(()))) {
            tracing::debug!("can't announce the drain");
        }
        failpoint!(DrainAnnounced);
        // What waits for a signal may wait for long, and loses nothing by waiting elsewhere.
        let hand_back_waiting = async {
            loop {
                running.stop_waiting(&Stop::HandBack);
                if let Err(error) = hand_over(sysdb, running, status).await {
                    tracing::debug!(error, "can't give back yet");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        // The time may be changed while it runs.
        let over = async {
            loop {
                let patience = changes.borrow_and_update().worker.drain_timeout;
                tokio::select! {
                    () = tokio::time::sleep_until(begun + patience) => return,
                    Ok(()) = changes.changed() => {}
                }
            }
        };
        tokio::select! {
            () = tasks.wait() => {}
            () = hand_back_waiting => {}
            () = over => tracing::warn!(executions = running.len(), "drain time is over"),
            () = shutdown.at_once() => {}
        }
        running.stop_all(&Stop::HandBack);
        wait(tasks).await;
        if let Err(error) = hand_over(sysdb, running, status).await {
            let executions = running.handed_back().len();
            tracing::error!(error, executions, "can't give back; the next recovery does it");
        }
    }
}

/// Give those back to the queue that have stopped for it. May be dropped and called again: nobody is forgotten.
async fn hand_over(sysdb: &SystemDatabase, running: &Running, status: &Status) -> Result<(), String> {
    let owners = running.handed_back();
    if owners.is_empty() {
        return Ok(());
    }
    failpoint!(DrainHanding);
    let released = tokio::time::timeout(GRACE, sysdb.release(&owners)).await;
    failpoint!(DrainHanded);
    let released = match released {
        Ok(released) => released.map_err(|error| error.to_string())?,
        Err(_) => return Err("the database didn't answer in time".into()),
    };
    running.gave_back(owners.len());
    status.count(Count::HandedBack, released as u64);
    tracing::info!(executions = released, "given back to the queue");
    Ok(())
}

/// Wait for dispatch loops that were told to end.
pub(super) async fn ended(dispatch: &mut JoinSet<()>) {
    while let Some(ended) = dispatch.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a dispatch loop failed");
        }
    }
}

/// Wait for tasks that were told to end.
pub(super) async fn wait(tasks: &TaskTracker) {
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::error!(tasks = tasks.len(), "tasks didn't end in time");
    }
}
