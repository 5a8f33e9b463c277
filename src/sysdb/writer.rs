//! The one writer: every checkpoint of every execution goes through it, and those that are ready at the same moment
//! share one transaction.
//!
//! Batching is natural: while one batch commits, the next one gathers; an idle writer adds no delay. A call returns when
//! its batch is durable. A checkpoint that fails never fails its neighbours: a refused batch is rolled back and each
//! of its checkpoints is tried alone; one that waits for somebody else's lock is put off, and the rest goes on. While the
//! database is away, batches wait and are tried again; a commit whose outcome is unknown is resolved by what it left in
//! the database, never repeated blindly.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{failpoint::failpoint, metrics::Metrics};

use super::{Checkpoint, CommitError, Notifier, Received, SysdbError, SystemDatabase, notify};

mod columns;
mod put_off;
mod sql;
mod transaction;

use put_off::PutOff;
use transaction::{Failure, Outcome, Unsure};

/// Checkpoints waiting to be gathered; beyond it, executions wait in `commit`.
const WAITING: usize = 1024;
/// Checkpoints in one transaction, so that its locks on status rows stay short.
const BATCH: usize = 256;
/// Bytes in one transaction, more or less: beyond it, checkpoints wait for the next one. A single larger one goes alone.
const BATCH_BYTES: usize = 1 << 20;
/// Checkpoints of one batch that may wait for a lock one after the other; then the rest is put off untried.
const BUSY: u32 = 3;
/// Pause before trying again while the database is away: doubles from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

struct Job {
    checkpoint: Checkpoint,
    reply: oneshot::Sender<Result<Received, CommitError>>,
}

/// Hands checkpoints to their writer. Cheap to clone.
#[derive(Clone)]
pub struct WriterHandle {
    writers: Arc<[mpsc::Sender<Job>]>,
    metrics: Arc<Metrics>,
}

impl WriterHandle {
    /// Make a checkpoint durable. Returns when it is; gives the message that a receive in it consumed.
    ///
    /// # Errors
    /// [`CommitError::OwnershipLost`] when the row has another owner: nothing was written, and nothing more may be.
    pub async fn commit(&self, checkpoint: Checkpoint) -> Result<Received, CommitError> {
        let (reply, answer) = oneshot::channel();
        let writer = self.writer_of(&checkpoint).ok_or(CommitError::Closed)?;
        let began = Instant::now();
        writer.send(Job { checkpoint, reply }).await.map_err(|_| CommitError::Closed)?;
        let written = answer.await.map_err(|_| CommitError::Closed)?;
        match &written {
            Ok(_) => self.metrics.writer.wait.took(began.elapsed()),
            Err(error) if error.is_refusal() => self.metrics.writer.refused.increment(),
            Err(_) => {}
        }
        written
    }

    /// Where what is written is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All checkpoints of an execution have the same one, which keeps their order.
    fn writer_of(&self, checkpoint: &Checkpoint) -> Option<&mpsc::Sender<Job>> {
        let mut hasher = DefaultHasher::new();
        checkpoint.owner.id.as_str().hash(&mut hasher);
        self.writers.get((hasher.finish() % self.writers.len() as u64) as usize)
    }
}

/// The writer's task.
pub struct Writer {
    sysdb: SystemDatabase,
    notifier: Notifier,
    jobs: mpsc::Receiver<Job>,
    put_off: PutOff,
}

impl Writer {
    /// So many writers on this database, each with transactions of its own: while one waits for the disk, another one
    /// sends.
    pub fn several(count: usize, sysdb: &SystemDatabase, notifier: &Notifier) -> (WriterHandle, Vec<Writer>) {
        let (senders, writers): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let (sender, jobs) = mpsc::channel(WAITING);
                let (sysdb, notifier) = (sysdb.clone(), notifier.clone());
                (sender, Writer { sysdb, notifier, jobs, put_off: PutOff::default() })
            })
            .unzip();
        (WriterHandle { writers: senders.into(), metrics: sysdb.metrics.clone() }, writers)
    }

    /// Serve until every handle is gone, or `abandon` ends: then what is not committed yet fails with
    /// [`CommitError::Closed`].
    pub async fn run(mut self, abandon: CancellationToken) {
        let mut gathered = Vec::with_capacity(BATCH);
        let mut closed = false;
        while !(closed && self.put_off.is_empty()) {
            tokio::select! {
                count = self.jobs.recv_many(&mut gathered, BATCH), if !closed => closed = count == 0,
                () = self.put_off.due() => gathered.extend(self.put_off.take()),
                () = abandon.cancelled() => return,
            }
            for batch in batches(&mut gathered) {
                tokio::select! {
                    () = self.commit(batch) => {}
                    () = abandon.cancelled() => return,
                }
            }
            self.put_off.settle();
        }
    }

    async fn commit(&mut self, jobs: Vec<Job>) {
        let jobs = self.put_off.keep_behind(jobs);
        if jobs.is_empty() {
            return;
        }
        match self.persist(&jobs).await {
            Ok(outcomes) => {
                self.answer(jobs, outcomes);
                failpoint!(CheckpointAnswered);
            }
            Err(refusal) if jobs.len() == 1 || matches!(refusal, Refusal::Checkpoint(CommitError::Fenced)) => {
                self.refuse(jobs, &refusal)
            }
            // One of them is at fault: each alone, so that the others don't suffer.
            Err(refusal) => {
                tracing::debug!(%refusal, checkpoints = jobs.len(), "batch refused, trying its checkpoints one by one");
                let mut busy = 0;
                for job in jobs {
                    let job = self.put_off.keep_behind(vec![job]);
                    if job.is_empty() {
                        continue;
                    }
                    // A table that is locked as a whole isn't waited for by each of them.
                    let tried = if busy < BUSY { self.persist(&job).await } else { Err(refusal.clone()) };
                    match tried {
                        Ok(outcomes) => self.answer(job, outcomes),
                        Err(refusal) => {
                            busy += u32::from(matches!(refusal, Refusal::Busy(_)));
                            self.refuse(job, &refusal);
                        }
                    }
                }
            }
        }
    }

    fn refuse(&mut self, jobs: Vec<Job>, refusal: &Refusal) {
        match refusal {
            Refusal::Busy(why) => {
                self.sysdb.metrics.writer.put_off.add(jobs.len() as u64);
                self.put_off.add(jobs, why);
            }
            Refusal::Checkpoint(error) => {
                for job in jobs {
                    let _ = job.reply.send(Err(error.clone())); // a caller that gave up needs no answer
                }
            }
        }
    }

    /// One batch, tried until the database answers.
    async fn persist(&self, jobs: &[Job]) -> Result<Vec<Outcome>, Refusal> {
        let mut pause = BACKOFF.0;
        let mut told = false;
        let mut unsure = None;
        let metrics = &self.sysdb.metrics.writer;
        loop {
            let composed_for = self.sysdb.standing.get();
            let began = Instant::now();
            match self.attempt(jobs, &mut unsure).await {
                Err(Failure::Misfit(error)) => {
                    let looked = self.sysdb.look_again().await;
                    if looked.is_err() || self.sysdb.standing.get() == composed_for {
                        return Err(Refusal::Checkpoint(error));
                    }
                }
                Err(Failure::Busy(error)) if unsure.is_none() => return Err(Refusal::Busy(error)),
                Err(Failure::Transient(error) | Failure::Busy(error)) => {
                    if !told {
                        tracing::warn!(%error, checkpoints = jobs.len(), "can't write checkpoints; trying until the database is back");
                        told = true;
                    }
                    metrics.retries.increment();
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
                Err(Failure::Refused(error)) => return Err(Refusal::Checkpoint(error)),
                Ok(outcomes) => {
                    metrics.duration.took(began.elapsed());
                    metrics.size.measured(jobs.len());
                    if told {
                        tracing::info!("the database is back; checkpoints are written again");
                    }
                    return Ok(outcomes);
                }
            }
        }
    }

    async fn attempt(&self, jobs: &[Job], unsure: &mut Option<Unsure>) -> Result<Vec<Outcome>, Failure> {
        let checkpoints: Vec<&Checkpoint> = jobs.iter().map(|job| &job.checkpoint).collect();
        let mut client = self.sysdb.client().await.map_err(Failure::of)?;
        if let Some(before) = unsure.take() {
            match transaction::was_committed(&self.sysdb, &client, &checkpoints, &before).await {
                Ok(Some(true)) => return Ok(before.outcomes),
                Ok(Some(false)) => tracing::info!("that commit was lost with its connection; writing it again"),
                undecided => {
                    *unsure = Some(before);
                    return Err(match undecided {
                        Err(failure) => failure,
                        Ok(_) => Failure::Transient("a commit is still under way".into()),
                    });
                }
            }
        }
        let (xid, outcomes, committed) = transaction::write(&self.sysdb, &mut client, &checkpoints).await?;
        let Err(error) = committed else { return Ok(outcomes) };
        // The connection broke around COMMIT. What the server has by now says whether it came through.
        drop(client.take());
        *unsure = Some(Unsure { xid, outcomes });
        Err(Failure::Transient(format!("a commit's outcome is unknown: {}", SysdbError::from(error))))
    }

    fn answer(&mut self, jobs: Vec<Job>, outcomes: Vec<Outcome>) {
        let mut busy = Vec::new();
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            if outcome.busy {
                busy.push(job);
                continue;
            }
            for key in outcome.streams {
                self.notifier.announce(notify::STREAMS, format!("{}::{key}", job.checkpoint.owner.id));
            }
            let _ = job.reply.send(outcome.result); // a caller that gave up needs no answer
        }
        self.sysdb.metrics.writer.put_off.add(busy.len() as u64);
        self.put_off.add(busy, "the execution's row is locked");
    }
}

/// Why a batch wasn't written.
#[derive(Clone, Debug, thiserror::Error)]
enum Refusal {
    /// It has to wait for somebody else's lock, or takes too long.
    #[error("{0}")]
    Busy(String),
    /// Something in it.
    #[error("{0}")]
    Checkpoint(CommitError),
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
            Job {
                checkpoint: Checkpoint { owner, writes: vec![Write::Finish(finish)].into() },
                reply: oneshot::channel().0,
            }
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
