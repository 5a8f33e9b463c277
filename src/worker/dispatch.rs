//! The dispatch loop: as many rows as there are free slots, and again at once while there is more.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::{
    heartbeat::{Heartbeat, database_patience},
    limits::InForce,
    lookout::Work,
    partitions::Partitions,
    reload::Live,
    starter::Starter,
    status::{Count, Status},
    suspects::Suspects,
};
use crate::{
    config::Settings,
    durable::{Slot, Slots},
    failpoint::failpoint,
    postgres::{self, Telling},
    sysdb::{Claim, ClaimScope, Claimed, INTERNAL_QUEUE, QueueLimits, Rows, SysdbError, SystemDatabase},
};

/// Shortest pause between two looks that an ended execution asks for: under a global limit its end may free budget, and
/// a burst of ends shouldn't become a burst of looks.
const AFTER_END: Duration = Duration::from_millis(5);
/// While there is more than slots: a free slot waits for others, at least and at most so long, and in between as long as the
/// last round took: where claims are slow, the database has much to do, or others are waiting for their turn. A claim costs
/// about the same for one row as for several, and what was claimed together ends together.
const GATHER: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// It waits for no more than these, or half of all slots. More make a row little cheaper, and leave less that is done at the
/// same time.
const GATHERED: usize = 25;
/// Pause after another claimer was at the same rows; doubles up to the second. Its claim takes milliseconds.
const CONTENTION: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// Pause where nothing is to be had, unless somebody tells otherwise: the lookout does, soon.
const QUIET: Duration = Duration::from_secs(30);
/// Pause after an error; doubles up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Claims, and starts what it claimed.
pub(super) struct Dispatcher {
    pub sysdb: SystemDatabase,
    pub scope: ClaimScope,
    /// The same, for suspects alone.
    pub suspected: ClaimScope,
    pub suspects: Suspects,
    pub queue: String,
    pub limits: InForce,
    pub partitions: Partitions,
    pub slots: Slots,
    pub live: Live,
    pub heartbeat: Arc<Heartbeat>,
    pub starter: Arc<Starter>,
    pub tasks: TaskTracker,
    pub status: Arc<Status>,
    /// Changes when something was enqueued.
    pub wake: watch::Receiver<()>,
    /// Tells when there may be something to claim.
    pub work: Work,
    /// Whether this one looks at the internal queue; one of a process does.
    pub internal: bool,
    /// About the internal queue.
    pub told: Mutex<Telling>,
}

/// What a round of claims came to.
pub(super) enum Round {
    /// All free slots were filled: there may be more.
    Full,
    /// Fewer rows than slots.
    Drained,
    /// Someone else was there.
    Contended,
}

impl Dispatcher {
    /// Claim until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ended = self.starter.running.ended();
        let mut contention = CONTENTION.0;
        let mut backoff = BACKOFF.0;
        let mut internal = false; // the lookout's first look tells, and comes at once
        let mut changes = self.limits.clone();
        let mut configured = self.live.changes();
        configured.mark_changed(); // perhaps since this life began
        let mut told = Telling::default();
        // How long the last round took, if it filled all slots.
        let mut plenty = None;
        let heartbeat = self.heartbeat.clone();
        loop {
            heartbeat.beat("going round");
            failpoint!(DispatchRound);
            if configured.has_changed().unwrap_or(false) {
                self.configure(&configured.borrow_and_update().clone());
            }
            let mut free = std::pin::pin!(free_slots(self.slots.clone(), plenty));
            let slots = match free.as_mut().now_or_never() {
                Some(slots) => slots,
                None => {
                    tracing::debug!(queue = self.queue, "waiting for a slot");
                    let slots = heartbeat.wait("waiting for a slot", async {
                        tokio::select! {
                            slots = free => Some(slots),
                            () = stop.cancelled() => None,
                        }
                    });
                    let Some(slots) = slots.await else { return };
                    slots
                }
            };
            let Some(limits) = changes.borrow_and_update().clone() else {
                drop(slots);
                let known = heartbeat.wait("waiting for the first look at the limits", async {
                    tokio::select! {
                        Ok(()) = changes.changed() => true,
                        () = stop.cancelled() => false,
                    }
                });
                if known.await {
                    continue;
                }
                return;
            };
            let began = Instant::now();
            let round = self.round(slots, &limits, internal).await;
            plenty = matches!(round, Ok(Round::Full)).then(|| began.elapsed());
            let pause = match round {
                Ok(Round::Full) => {
                    (contention, backoff, told) = (CONTENTION.0, BACKOFF.0, Telling::default());
                    internal = self.work.take_internal();
                    self.slots.want_more(true);
                    self.work.is_plenty(true);
                    continue;
                }
                Ok(Round::Drained) => {
                    (contention, backoff, told) = (CONTENTION.0, BACKOFF.0, Telling::default());
                    internal = false;
                    self.slots.want_more(false);
                    self.work.is_plenty(false);
                    QUIET
                }
                Ok(Round::Contended) => {
                    contention = (contention * 2).min(CONTENTION.1);
                    contention
                }
                Err(SysdbError::Fenced) => BACKOFF.0, // the end of this life is on its way
                Err(error) => {
                    if told.is_due() {
                        tracing::warn!(%error, "can't claim; trying again with growing pauses");
                    }
                    backoff = (backoff * 2).min(BACKOFF.1);
                    backoff
                }
            };
            // Jitter, or a fleet that started together polls together.
            let pause = pause.mul_f64(rand::random_range(0.9..1.1));
            let wake = &mut self.wake;
            let (work, own) = (&self.work, self.internal);
            let goes_on = heartbeat.wait("waiting for work", async {
                tokio::select! {
                    () = tokio::time::sleep(pause) => internal = own,
                    () = work.arrived() => internal = work.take_internal(),
                    Ok(()) = wake.changed() => {}
                    Ok(()) = changes.changed() => {}
                    Ok(()) = configured.changed() => configured.mark_changed(),
                    Ok(()) = ended.changed() => {
                        tokio::time::sleep(AFTER_END).await;
                        ended.mark_unchanged();
                    }
                    () = stop.cancelled() => return false,
                }
                true
            });
            if !goes_on.await {
                return;
            }
        }
    }

    /// Take over what was configured anew.
    fn configure(&mut self, settings: &Settings) {
        for scope in [&mut self.scope, &mut self.suspected] {
            if let Some((accounts, _)) = &mut scope.accounts {
                accounts.park_at(settings.recovery.max_crashes);
            }
        }
    }

    /// One question to the database, of the few that claim.
    pub(super) async fn ask<T>(&self, question: impl Future<Output = T>) -> T {
        self.heartbeat.within(database_patience(&self.live.settings()), "claiming", question).await
    }

    async fn round(&self, mut slots: Vec<Slot>, limits: &QueueLimits, internal: bool) -> Result<Round, SysdbError> {
        if self.starter.mail.waiting() >= self.live.settings().execution.max_waiting as usize {
            return Ok(Round::Drained);
        }
        if let Some(seat) = self.suspects.seat()
            && let Some(mut slot) = slots.pop()
        {
            slot.sit(seat);
            let mut one = vec![slot];
            self.look(&self.suspected, &mut one, limits, internal).await?;
            slots.extend(one.into_iter().map(|mut slot| {
                slot.stand_up();
                slot
            }));
            if slots.is_empty() {
                return Ok(Round::Full);
            }
        }
        self.look(&self.scope, &mut slots, limits, internal).await
    }

    /// Claim what may be taken by this scope, and start it.
    async fn look(
        &self,
        scope: &ClaimScope,
        slots: &mut Vec<Slot>,
        limits: &QueueLimits,
        internal: bool,
    ) -> Result<Round, SysdbError> {
        if internal {
            // Resumed, forked and recovered workflows; without limits of its own.
            let claim =
                Claim { queue: INTERNAL_QUEUE, rows: Rows::All, limit: wanted(slots), concurrency: None, rate: None };
            match self.ask(self.sysdb.claim(scope, &claim)).await {
                Ok(claimed) => self.start(claimed.unwrap_or_default(), slots),
                // A row there that can't be claimed is no reason to take nothing from the own queue.
                Err(SysdbError::Query(error)) if !postgres::is_transient(&error) => {
                    if self.told.lock().unwrap_or_else(PoisonError::into_inner).is_due() {
                        tracing::error!(%error, queue = INTERNAL_QUEUE, "can't claim what was resumed, forked or recovered");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if slots.is_empty() {
            return Ok(Round::Full);
        }
        if limits.is_paused() {
            return Ok(Round::Drained);
        }
        if let Some(own) = &limits.partition {
            return self.partitioned(scope, slots, limits, own).await;
        }
        let QueueLimits { concurrency, rate, .. } = *limits;
        let claim = Claim { queue: &self.queue, rows: Rows::All, limit: wanted(slots), concurrency, rate };
        let Ok(claimed) = self.ask(self.sysdb.claim(scope, &claim)).await? else { return Ok(Round::Contended) };
        let full = claimed.len() >= slots.len();
        self.start(claimed, slots);
        Ok(if full { Round::Full } else { Round::Drained })
    }

    pub(super) fn start(&self, claimed: Vec<Claimed>, slots: &mut Vec<Slot>) {
        if !self.sysdb.is_open() {
            // The lease ended while the answer was on its way. Recovery puts them back; nothing of this life may run.
            return;
        }
        self.status.count(Count::Claimed, claimed.len() as u64);
        let most = i64::from(self.live.settings().execution.max_recovery_attempts) + 1;
        for claimed in claimed {
            // A claim is never for more rows than slots.
            let Some(slot) = slots.pop() else { return };
            let starter = self.starter.clone();
            let partition = self.partitions.enter(claimed.partition.as_deref());
            // At every level, or lines wouldn't say whose they are.
            let span = tracing::error_span!(
                "execution",
                execution = %claimed.owner.id,
                flow = tracing::field::Empty,
                attempt = claimed.attempts,
                worker = self.scope.executor,
            );
            let parked = claimed.attempts > most;
            self.tasks.spawn(
                async move {
                    let _partition = partition;
                    let (place, control) = starter.running.enter(&claimed.owner);
                    if parked {
                        starter.park(&claimed).await;
                    } else {
                        let id = claimed.owner.id.clone();
                        starter.execute(claimed, slot, place, control).await;
                        starter.family.has_ended(&id);
                    }
                }
                .instrument(span),
            );
        }
    }
}

/// Wait for free slots, and gather some where there is plenty to do: the last round took that long.
async fn free_slots(slots: Slots, plenty: Option<Duration>) -> Vec<Slot> {
    let mut free = slots.take_free().await;
    if let Some(lasted) = plenty {
        let enough = GATHERED.min(slots.limit().div_ceil(2) as usize);
        let more = async {
            while free.len() < enough {
                free.extend(slots.take_free().await);
            }
        };
        let _ = tokio::time::timeout(lasted.clamp(GATHER.0, GATHER.1), more).await; // then with those that there are
    }
    free
}

/// As many rows as there are slots.
pub(super) fn wanted(slots: &[Slot]) -> u32 {
    u32::try_from(slots.len()).unwrap_or(u32::MAX)
}
