//! The one writer: every checkpoint of every execution goes through it, and those that are ready at the same moment
//! share one transaction.
//!
//! Batching is natural: while one batch commits, the next one gathers; an idle writer adds no delay. A call returns when
//! its batch is durable. A checkpoint that fails never fails its neighbours: a refused batch is rolled back and each
//! of its checkpoints is tried alone. While the database is away, batches wait and are tried again; a commit whose
//! outcome is unknown is resolved by asking for the transaction's status, never repeated blindly.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::failpoint::failpoint;

use super::{Checkpoint, CommitError, Notifier, Received, SysdbError, SystemDatabase, notify};
use crate::postgres::Statements;

mod transaction;

use transaction::{Failure, Outcome};

/// Checkpoints waiting to be gathered; beyond it, executions wait in `commit`.
const WAITING: usize = 1024;
/// Checkpoints in one transaction, so that its locks on status rows stay short.
const BATCH: usize = 256;
/// Bytes in one transaction, more or less: beyond it, checkpoints wait for the next one. A single larger one goes alone.
const BATCH_BYTES: usize = 16 << 20;
/// Pause before trying again while the database is away: doubles from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

struct Job {
    checkpoint: Checkpoint,
    reply: oneshot::Sender<Result<Received, CommitError>>,
}

/// Hands checkpoints to the writer. Cheap to clone.
#[derive(Clone)]
pub struct WriterHandle(mpsc::Sender<Job>);

impl WriterHandle {
    /// Make a checkpoint durable. Returns when it is; gives the message that a receive in it consumed.
    ///
    /// # Errors
    /// [`CommitError::OwnershipLost`] when the row has another owner: nothing was written, and nothing more may be.
    pub async fn commit(&self, checkpoint: Checkpoint) -> Result<Received, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Job { checkpoint, reply }).await.map_err(|_| CommitError::Closed)?;
        answer.await.map_err(|_| CommitError::Closed)?
    }
}

/// The writer's task.
pub struct Writer {
    sysdb: SystemDatabase,
    notifier: Notifier,
    jobs: mpsc::Receiver<Job>,
}

impl Writer {
    /// A writer on this database.
    pub fn new(sysdb: SystemDatabase, notifier: Notifier) -> (WriterHandle, Writer) {
        let (sender, jobs) = mpsc::channel(WAITING);
        (WriterHandle(sender), Writer { sysdb, notifier, jobs })
    }

    /// Serve until every handle is gone, or `abandon` ends: then what is not committed yet fails with
    /// [`CommitError::Closed`].
    pub async fn run(mut self, abandon: CancellationToken) {
        let mut gathered = Vec::with_capacity(BATCH);
        loop {
            let count = tokio::select! {
                count = self.jobs.recv_many(&mut gathered, BATCH) => count,
                () = abandon.cancelled() => 0,
            };
            if count == 0 {
                return;
            }
            for batch in batches(&mut gathered) {
                tokio::select! {
                    () = self.commit(batch) => {}
                    () = abandon.cancelled() => return,
                }
            }
        }
    }

    async fn commit(&self, jobs: Vec<Job>) {
        let outcome = self.persist(&jobs).await;
        match outcome {
            Ok(outcomes) => {
                self.answer(jobs, outcomes);
                failpoint!(CheckpointAnswered);
            }
            Err(error) if jobs.len() == 1 || error == CommitError::Fenced => {
                for job in jobs {
                    let _ = job.reply.send(Err(error.clone())); // a caller that gave up needs no answer
                }
            }
            // One of them is at fault: each alone, so that the others don't suffer.
            Err(error) => {
                tracing::debug!(%error, checkpoints = jobs.len(), "batch refused, trying its checkpoints one by one");
                for job in jobs {
                    Box::pin(self.commit(vec![job])).await;
                }
            }
        }
    }

    /// One batch, tried until the database answers.
    async fn persist(&self, jobs: &[Job]) -> Result<Vec<Outcome>, CommitError> {
        let mut pause = BACKOFF.0;
        let mut told = false;
        loop {
            let composed_for = self.sysdb.standing.get();
            match self.attempt(jobs).await {
                Err(Failure::Misfit(error)) => {
                    let looked = self.sysdb.look_again().await;
                    if looked.is_err() || self.sysdb.standing.get() == composed_for {
                        return Err(error);
                    }
                }
                Err(Failure::Transient(error)) => {
                    if !told {
                        tracing::warn!(%error, checkpoints = jobs.len(), "can't write checkpoints; trying until the database is back");
                        told = true;
                    }
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
                Err(Failure::Refused(error)) => return Err(error),
                Ok(outcomes) => {
                    if told {
                        tracing::info!("the database is back; checkpoints are written again");
                    }
                    return Ok(outcomes);
                }
            }
        }
    }

    async fn attempt(&self, jobs: &[Job]) -> Result<Vec<Outcome>, Failure> {
        let checkpoints: Vec<&Checkpoint> = jobs.iter().map(|job| &job.checkpoint).collect();
        let mut client = self.sysdb.client().await.map_err(Failure::of)?;
        let (xid, outcomes, committed) = transaction::write(&self.sysdb, &mut client, &checkpoints).await?;
        let Err(error) = committed else { return Ok(outcomes) };
        // The connection broke around COMMIT. Only the server knows; ask until it answers.
        drop(client);
        tracing::warn!(error = %SysdbError::from(error), "a commit's outcome is unknown; asking the server");
        if self.was_committed(&xid).await {
            Ok(outcomes)
        } else {
            Err(Failure::Transient("the commit was lost with the connection".into()))
        }
    }

    async fn was_committed(&self, xid: &str) -> bool {
        loop {
            let answer = async {
                let client = self.sysdb.client().await?;
                let row = client.query_one("SELECT pg_xact_status($1::text::xid8)", &[&xid]).await?;
                Ok::<Option<String>, SysdbError>(row.try_get(0)?)
            };
            match answer.await {
                Ok(Some(status)) if status == "in progress" => {}
                Ok(status) => return status.as_deref() == Some("committed"),
                // After a failover the new server may not know the transaction: it was not committed there.
                Err(error) if !error.is_transient() => return false,
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn answer(&self, jobs: Vec<Job>, outcomes: Vec<Outcome>) {
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            for key in outcome.streams {
                self.notifier.announce(notify::STREAMS, format!("{}::{key}", job.checkpoint.owner.id));
            }
            let _ = job.reply.send(outcome.result); // a caller that gave up needs no answer
        }
    }
}

/// Cut what was gathered where it becomes too large for one transaction; the order stays.
fn batches(gathered: &mut Vec<Job>) -> Vec<Vec<Job>> {
    let mut batches: Vec<Vec<Job>> = Vec::new();
    let mut bytes = 0;
    for job in gathered.drain(..) {
        let weight = job.checkpoint.weight();
        match batches.last_mut() {
            Some(batch) if bytes + weight <= BATCH_BYTES => {
                bytes += weight;
                batch.push(job);
            }
            _ => {
                bytes = weight;
                batches.push(vec![job]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysdb::{Finish, Owner, OwnerToken, WorkflowId, Write};

    #[test]
    fn a_batch_is_cut_where_it_becomes_too_large_and_keeps_its_order() {
        let job = |bytes: usize| {
            let owner = Owner { id: WorkflowId::new(bytes.to_string()), token: OwnerToken::fresh(), since: 0 };
            let finish = Finish { outcome: Ok("x".repeat(bytes)), legacy: false };
            Job { checkpoint: Checkpoint { owner, writes: vec![Write::Finish(finish)] }, reply: oneshot::channel().0 }
        };
        let sizes = [1, BATCH_BYTES - 1, 1, BATCH_BYTES + 1, 2, 3];
        let cut = batches(&mut sizes.map(job).into());
        let ids = |batch: &Vec<Job>| batch.iter().map(|job| job.checkpoint.weight()).collect::<Vec<_>>();
        assert_eq!(
            cut.iter().map(ids).collect::<Vec<_>>(),
            [vec![1, BATCH_BYTES - 1], vec![1], vec![BATCH_BYTES + 1], vec![2, 3]]
        );
    }
}
