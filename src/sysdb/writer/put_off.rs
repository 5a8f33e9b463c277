//! Checkpoints that can't be written now, because another session holds a lock: they are tried again with growing pauses,
//! while all others go on. An execution's checkpoints stay in their order.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use super::{BUSY, Job};
use crate::sysdb::WorkflowId;

/// Pause before the next try: doubles from the first to the second. Most locks are held for milliseconds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// A lock that is held for longer is worth a line.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// The checkpoints, and when they are tried again.
#[derive(Default)]
pub(super) struct PutOff {
    jobs: Vec<Job>,
    pause: Duration,
    next: Option<Instant>,
    since: Option<Instant>,
    told: bool,
}

impl PutOff {
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Put these off; they are in the order of their executions' checkpoints.
    pub fn add(&mut self, jobs: Vec<Job>, why: &str) {
        if jobs.is_empty() {
            return;
        }
        self.jobs.extend(jobs);
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.next.is_none() {
            self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
            self.next = Some(Instant::now() + self.pause.mul_f64(rand::random_range(0.5..1.5)));
        }
        if !self.told && since.elapsed() >= TOLD_AFTER {
            self.told = true;
            tracing::warn!(
                checkpoints = self.jobs.len(),
                execution = self.jobs[0].checkpoint.owner.id.as_str(),
                reason = why,
                "another session holds locks that checkpoints need; these executions wait, the others go on \
                 (pg_blocking_pids() and pg_stat_activity tell whose they are)"
            );
        }
    }

    /// Those of `jobs` that needn't wait for an earlier checkpoint of their execution; the others wait here.
    pub fn keep_behind(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        if self.jobs.is_empty() {
            return jobs;
        }
        let waiting: HashSet<WorkflowId> = self.jobs.iter().map(|job| job.checkpoint.owner.id.clone()).collect();
        let (behind, free): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| waiting.contains(&job.checkpoint.owner.id));
        self.jobs.extend(behind);
        free
    }

    /// Completes when they are to be tried again; never while there are none.
    pub fn due(&self) -> impl Future<Output = ()> + use<> {
        let next = self.next;
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    /// All of them, to be tried again now: those that somebody still waits for. The executions that were tried first go
    /// last, since after some that are still locked the rest isn't tried.
    pub fn take(&mut self) -> Vec<Job> {
        self.next = None;
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.retain(|job| !job.reply.is_closed());
        let mut first = HashSet::new();
        for job in &jobs {
            if first.len() < BUSY as usize {
                first.insert(job.checkpoint.owner.id.clone());
            }
        }
        let (last, mut jobs): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| first.contains(&job.checkpoint.owner.id));
        jobs.extend(last);
        jobs
    }

    /// Nothing is put off any more: the next lock is a new one.
    pub fn settle(&mut self) {
        if self.jobs.is_empty() && self.since.take().is_some() {
            if self.told {
                tracing::info!("the locks are gone; checkpoints are written again");
            }
            *self = PutOff::default();
        }
    }
}
