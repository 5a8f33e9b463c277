//! What is done now and then: watch ownership, look where the schema stands, release delayed rows, cancel expired ones.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Database, running::Running, status::Status};
use crate::{
    durable::{MailRoom, Stop},
    execution::FlowVersions,
    sysdb::{Cause, SysdbError, SystemDatabase},
};

/// Cancels, deletes and deadlines are noticed within this time.
const EVERY: Duration = Duration::from_secs(1);
/// Pause between sweeps of what is left of flows that nobody runs any more.
const SWEEP: Duration = Duration::from_secs(300);

/// The chores of one worker.
pub(super) struct Chores {
    pub sysdb: SystemDatabase,
    pub application: String,
    pub running: Running,
    pub mail: MailRoom,
    pub versions: FlowVersions,
    pub status: Arc<Status>,
    pub database: Database,
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
            if let Err(error) = self.round().await {
                tracing::debug!(%error, "chores put off");
                self.judge(&error);
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

    /// What an error says of the database as a whole.
    fn judge(&self, error: &SysdbError) {
        if error.is_read_only() {
            self.database.forget_connections();
        }
        if error.is_away() {
            self.status.database_fails(error);
        }
    }

    async fn round(&self) -> Result<(), SysdbError> {
        self.watch().await?;
        // Somebody may bring the schema forward while this worker runs.
        self.sysdb.look_again().await?;
        // The first write of the round: the server answers, and takes it.
        let released = self.sysdb.release_delayed(&self.application).await?;
        self.status.database_answers();
        if released > 0 {
            tracing::debug!(released, "delayed workflows are due");
        }
        let cancelled = self.sysdb.cancel_expired(&self.application).await?;
        if cancelled > 0 {
            tracing::info!(cancelled, "workflows past their deadline were cancelled");
        }
        Ok(())
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
