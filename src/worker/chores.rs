//! What is done now and then for what runs: watch whether it is still ours, and remove what is left of flows that nobody runs.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{running::Running, status::Status};
use crate::{
    durable::{MailRoom, Stop},
    execution::FlowVersions,
    sysdb::{Cause, SysdbError, SystemDatabase},
};

/// Cancels and deletes are noticed within this time.
const EVERY: Duration = Duration::from_secs(1);
/// Pause between sweeps of what is left of flows that nobody runs any more.
const SWEEP: Duration = Duration::from_secs(300);

/// The chores of one worker.
pub(super) struct Chores {
    pub sysdb: SystemDatabase,
    pub running: Running,
    pub mail: MailRoom,
    pub versions: FlowVersions,
    pub status: Arc<Status>,
}

impl Chores {
    /// Until `stop`. An error is logged, and the chore is done again the next time.
    pub async fn run(self, stop: CancellationToken) {
        let (mut since_sweep, mut swept_to) = (Duration::ZERO, String::new());
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY.mul_f64(rand::random_range(0.9..1.1))) => {}
                () = stop.cancelled() => return,
            }
            self.status.gauge(self.running.len(), self.mail.waiting());
            if let Err(error) = self.watch().await {
                tracing::debug!(%error, "can't look whether executions are still ours");
            }
            since_sweep += EVERY;
            if since_sweep >= SWEEP {
                since_sweep = Duration::ZERO;
                match self.versions.sweep(&self.sysdb, &mut swept_to).await {
                    Ok(swept) => tracing::debug!(?swept, "old contents of flows are removed"),
                    Err(error) => tracing::debug!(%error, "can't remove old contents of flows"),
                }
            }
        }
    }

    /// Stop what this process no longer owns, and children whose parent has ended.
    async fn watch(&self) -> Result<(), SysdbError> {
        let owners = self.running.owners();
        if owners.is_empty() {
            return Ok(());
        }
        for astray in self.sysdb.astray(&owners).await? {
            let stop = match astray.cause {
                Cause::Lost(status) => Stop::Lost(status),
                Cause::ParentEnded(status) => Stop::Abort(format!("the parent execution ended as {status}")),
            };
            self.running.stop(&astray.owner, stop);
        }
        Ok(())
    }
}
