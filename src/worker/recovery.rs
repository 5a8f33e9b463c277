//! Recovery: what dead workers left goes back to the queue, and who took its worker down again and again is parked.
//!
//! A reconcile that never ends: every few seconds, by every worker, and again at once after an error. What it does is in
//! one statement for some hundreds of rows (`sysdb/reconcile.rs`); a row that the database refuses is left out, so that it
//! doesn't stop the others.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Identity, reload::Live, report, running::Running, status::Status, suspects::Suspects};
use crate::{
    execution::WORKED,
    failpoint::failpoint,
    metrics::{ParkReason, Recovery as Cause},
    sysdb::{Accounts, ClaimScope, Dead, Leases, Predecessor, Reconcile, Recovered, SysdbError, SystemDatabase},
};

/// Longest pause between sweeps, however long the lease.
const EVERY: Duration = Duration::from_secs(5);
/// Where somebody's lease is about to end, the next sweep comes after that by at least and at most so long: a fleet that
/// waits for the same end shouldn't sweep in the same moment.
const AFTER_END: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// Pause after an error.
const RETRY: Duration = Duration::from_secs(1);
/// A row that was refused is tried again after so long.
const REFUSED: Duration = Duration::from_secs(60);
/// The start spends so much time on what others left; nobody renews the lease meanwhile. The rest is for the rounds that follow.
const AT_START: Duration = Duration::from_secs(1);
/// Most refused rows that are remembered; with more, what comes after them waits until they are tried again.
const REMEMBERED: usize = 10_000;

/// Finds the dead by their leases. Cheap to clone.
#[derive(Clone)]
pub(super) struct Recovery {
    sysdb: SystemDatabase,
    accounts: Accounts,
    scope: ClaimScope,
    live: Live,
    suspects: Suspects,
    status: Arc<Status>,
}

/// What a sweep did, and when the next lease ends unless it is renewed.
struct Swept {
    moved: usize,
    next: Option<Duration>,
}

/// Rows that the database refused, and when.
type Refused = HashMap<String, Instant>;

impl Recovery {
    /// For the worker that claims with this scope.
    pub fn new(
        sysdb: SystemDatabase,
        accounts: Accounts,
        scope: ClaimScope,
        live: Live,
        suspects: Suspects,
        status: Arc<Status>,
    ) -> Recovery {
        Recovery { sysdb, accounts, scope, live, suspects, status }
    }

    /// Who had this worker's id before. To be asked before the lease is acquired.
    pub async fn predecessor(&self) -> Result<Option<Predecessor>, SysdbError> {
        self.sysdb.predecessor(&self.accounts, &self.scope.executor).await
    }

    /// All that there is to recover before anything of the present life runs: what earlier lives of this worker left, what
    /// the dead left, as far as that is done soon, and who is a suspect now. `before` are the incarnations under which this
    /// process lost its lease. Gives
    /// how many rows were moved.
    pub async fn begin(
        &self,
        me: &Identity,
        predecessor: Option<&Predecessor>,
        before: &[Uuid],
    ) -> Result<usize, SysdbError> {
        if !before.is_empty() {
            // Whoever found the lease expired couldn't know that this process lives.
            self.sysdb.exonerate(&self.accounts, before).await?;
        }
        let mut refused = Refused::new();
        let earlier = Dead::Earlier {
            present: me.incarnation,
            incarnation: predecessor.map(|it| it.incarnation),
            host: predecessor.and_then(|it| it.host.as_deref()),
            reason: blame(me, predecessor),
        };
        let own = self.all_of(earlier, &mut refused, None).await?;
        failpoint!(RecoveryOwn);
        Ok(own + self.sweep(me, &mut refused, Some(Instant::now() + AT_START)).await?.moved)
    }

    /// Until `stop`.
    pub async fn run(self, me: Identity, lease: Duration, running: Running, stop: CancellationToken) {
        let every = (lease / 4).min(EVERY);
        let mut recovery = self;
        let mut refused = Refused::new();
        let mut failing = false;
        let mut pause = until_next(every, None);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            recovery.accounts.park_at(recovery.live.settings().recovery.max_crashes);
            let round = async {
                let swept = recovery.sweep(&me, &mut refused, None).await?;
                recovery.stranded(&running).await?;
                Ok::<_, SysdbError>(swept.next)
            };
            let outcome = tokio::select! {
                outcome = round => outcome,
                () = stop.cancelled() => return,
            };
            pause = match outcome {
                Ok(next) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("recovery works again");
                    }
                    until_next(every, next)
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "can't look for dead workers; trying again until it works");
                    }
                    until_next(RETRY.min(every), None)
                }
            };
        }
    }

    /// Take what the dead left, until that time if one is given, and look whether there are suspects.
    async fn sweep(&self, me: &Identity, refused: &mut Refused, until: Option<Instant>) -> Result<Swept, SysdbError> {
        let mut moved = 0;
        failpoint!(RecoveryBefore, error = SysdbError::Pool(deadpool_postgres::PoolError::Closed));
        let Leases { expired, next } = self.sysdb.leases(&self.accounts, &me.id).await?;
        if !expired.is_empty() {
            let (mut alive, mut gone) = (Vec::new(), Vec::new());
            for worker in &expired {
                let (namespace, pid, started) = &worker.process;
                if me.is_gone(namespace.as_deref(), *pid, *started) {
                    gone.push(worker.incarnation);
                } else if me.namespace.is_some() && me.namespace == *namespace {
                    alive.push(worker.incarnation);
                }
            }
            moved += self.all_of(Dead::Expired { alive: &alive, gone: &gone }, refused, until).await?;
        }
        failpoint!(RecoveryAfter);
        let settings = self.live.settings();
        let adopt = &settings.recovery.adopt_executors;
        if !adopt.is_empty() {
            moved += self.all_of(Dead::Adopted(adopt), refused, until).await?;
            failpoint!(RecoveryAdopted);
        }
        self.suspects.are_there(self.sysdb.settle_accounts(&self.accounts).await?);
        failpoint!(RecoverySettled);
        Ok(Swept { moved, next })
    }

    async fn stranded(&self, running: &Running) -> Result<(), SysdbError> {
        let ClaimScope { executor, application, .. } = &self.scope;
        let stranded = self.sysdb.release_stranded(executor, application, &running.owners()).await?;
        failpoint!(RecoveryStranded);
        if stranded > 0 {
            self.status.recovered(Cause::Stranded, stranded);
            tracing::warn!(executions = stranded, "executions that were claimed but never ran are back on the queue");
        }
        Ok(())
    }

    /// Batch by batch. A batch that is refused is taken row by row, and what is refused alone is left out.
    async fn all_of(&self, dead: Dead<'_>, refused: &mut Refused, until: Option<Instant>) -> Result<usize, SysdbError> {
        refused.retain(|_, since| since.elapsed() < REFUSED);
        let reconcile = Reconcile { accounts: &self.accounts, scope: &self.scope, worked: WORKED };
        let mut moved = 0;
        loop {
            let skip: Vec<String> = refused.keys().cloned().collect();
            let (taken, refusals) = match self.sysdb.reconcile(&reconcile, dead, None, &skip).await {
                Ok(taken) => (taken, 0),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "rows of dead workers are refused together; taking them one by one");
                    self.one_by_one(&reconcile, dead, &skip, refused).await?
                }
            };
            self.tell(dead, &taken);
            moved += taken.len();
            let late = until.is_some_and(|until| Instant::now() >= until);
            if late || !SystemDatabase::is_full(taken.len() + refusals) || refused.len() >= REMEMBERED {
                return Ok(moved);
            }
        }
    }

    async fn one_by_one(
        &self,
        reconcile: &Reconcile<'_>,
        dead: Dead<'_>,
        skip: &[String],
        refused: &mut Refused,
    ) -> Result<(Vec<Recovered>, usize), SysdbError> {
        let (mut taken, mut refusals) = (Vec::new(), 0);
        for id in self.sysdb.left_behind(reconcile, dead, skip).await? {
            match self.sysdb.reconcile(reconcile, dead, Some(std::slice::from_ref(&id)), &[]).await {
                Ok(one) => taken.extend(one),
                Err(error) if error.is_transient() => {
                    self.tell(dead, &taken);
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!(id, %error, "an execution of a dead worker can't be given back; the others are");
                    refused.insert(id, Instant::now());
                    refusals += 1;
                }
            }
        }
        Ok((taken, refusals))
    }

    fn tell(&self, dead: Dead<'_>, taken: &[Recovered]) {
        if taken.is_empty() {
            return;
        }
        let cause = match dead {
            Dead::Earlier { .. } | Dead::Expired { .. } => Cause::Died,
            Dead::Adopted(_) => Cause::Adopted,
        };
        let back = taken.iter().filter(|row| row.parked.is_none()).count(); // parked ones have a count of their own
        self.status.recovered(cause, back as u64);
        let executors: HashSet<&str> = taken.iter().map(|row| row.executor.as_str()).collect();
        for executor in executors {
            let of = taken.iter().filter(|row| row.executor == executor);
            let at_work = of.clone().filter(|row| row.crashes.is_some()).count();
            let executions = of.filter(|row| row.parked.is_none()).count();
            match cause {
                Cause::Adopted => {
                    tracing::info!(executor, executions, "executions that are to be adopted are on the queue")
                }
                _ => {
                    tracing::warn!(executor, executions, at_work, "a worker died; its executions are back on the queue")
                }
            }
        }
        for (row, text) in taken.iter().filter_map(|row| Some((row, row.parked.as_ref()?))) {
            report::Parked { execution: &row.id, why: text, reason: ParkReason::Crashes }.tell(&self.status);
        }
    }
}

/// Pause before the next sweep: what a worker held whose lease ends before that is free as soon as it has ended. Leases
/// are renewed long before their end, so that the workers of a healthy fleet sweep no more often for each other.
fn until_next(every: Duration, next: Option<Duration>) -> Duration {
    // Jitter, or a fleet that started together sweeps together.
    let regular = every.mul_f64(rand::random_range(0.9..1.1));
    next.map_or(regular, |next| regular.min(next.saturating_add(rand::random_range(AFTER_END.0..AFTER_END.1))))
}

/// How the earlier life of a worker that starts has ended; `None` when that was no crash.
fn blame(me: &Identity, predecessor: Option<&Predecessor>) -> Option<&'static str> {
    let Some(Predecessor { was_serving, process: (namespace, pid, started), .. }) = predecessor else {
        return Some("its worker was never registered, or long ago");
    };
    if !was_serving {
        return None; // it gave back what it could
    }
    let itself = me.namespace.is_some()
        && (&me.namespace, me.pid, me.started) == (namespace, *pid, *started)
        && started.is_some();
    if itself {
        return None; // it lost its lease, and lives
    }
    Some(match me.is_gone(namespace.as_deref(), *pid, *started) {
        true => "its process was gone",
        false => "its lease ended, and nothing is known of its process",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_follows_the_end_of_a_lease_and_else_its_own_pace() {
        for _ in 0..1000 {
            let soon = until_next(EVERY, Some(Duration::from_secs(2)));
            assert!((2.02..2.25).contains(&soon.as_secs_f64()), "{soon:?}");
            for next in [None, Some(Duration::from_secs(20)), Some(Duration::MAX)] {
                let regular = until_next(EVERY, next);
                assert!((4.5..5.5).contains(&regular.as_secs_f64()), "{regular:?}");
            }
        }
    }
}
