//! The lookout: one statement now and then tells whether there is work, under which limits, what is due, and where the
//! schema stands. It wakes whoever has something to do, so that nobody else asks while there is nothing.
//!
//! Where enqueues are announced (`queue.notify_trigger`) an announcement wakes at once, and the looks, which make it
//! certain, are fewer.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, broadcast, broadcast::error::RecvError};
use tokio_util::sync::CancellationToken;

use super::{
    Database, Drain, Shutdown,
    heartbeat::{Heartbeat, database_patience},
    limits::Limits,
    reload::Live,
    status::{QueueFigures, Status},
};
use crate::{
    config::Settings,
    postgres::{Event, Telling},
    sysdb::{Asked, ClaimScope, INTERNAL_QUEUE, Outlook, QUEUES, SysdbError, SystemDatabase},
};

/// Longest pause between looks: delays and deadlines are noticed within this time, and changes of limits. Also the pause
/// where enqueues are announced.
const LONGEST: Duration = Duration::from_secs(1);
/// Announcements carry so many characters of a queue's name.
const ANNOUNCED: usize = 200;

/// Slots of a process, over all its queues.
pub(super) fn slots(settings: &Settings) -> u32 {
    settings.worker.concurrency.unwrap_or_else(|| settings.queue.worker_concurrency())
}

/// Tells one dispatch loop that there may be something to claim. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Work {
    wake: Arc<Notify>,
    internal: Arc<AtomicBool>,
    plenty: Arc<AtomicBool>,
}

impl Work {
    /// Completes when there may be something, also if that was said before.
    pub async fn arrived(&self) {
        self.wake.notified().await;
    }

    /// Whether it may be on the internal queue; asked once.
    pub fn take_internal(&self) -> bool {
        self.internal.swap(false, Relaxed)
    }

    /// The last claim filled all slots: it need not be asked whether there is something.
    pub fn is_plenty(&self, plenty: bool) {
        self.plenty.store(plenty, Relaxed);
    }

    fn is_there(&self) {
        self.wake.notify_one();
    }
}

/// One queue of the worker.
pub(super) struct Lane {
    pub limits: Limits,
    pub work: Work,
}

/// Looks for all queues of the worker.
pub(super) struct Lookout {
    pub sysdb: SystemDatabase,
    pub scope: ClaimScope,
    /// Lives of this process, this one and those before it.
    pub lives: Vec<uuid::Uuid>,
    /// The first one also serves the internal queue.
    pub lanes: Vec<Lane>,
    pub announcements: broadcast::Receiver<Event>,
    pub status: Arc<Status>,
    pub database: Database,
    /// Begun when an operator asks for it.
    pub shutdown: Shutdown,
    pub live: Live,
    pub heartbeat: Heartbeat,
}

impl Lookout {
    /// Until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let names: Vec<String> =
            self.lanes.iter().map(|lane| lane.limits.name().to_owned()).chain([INTERNAL_QUEUE.to_owned()]).collect();
        let heard: HashMap<String, usize> =
            names.iter().enumerate().map(|(place, name)| (name.chars().take(ANNOUNCED).collect(), place)).collect();
        let (mut listening, mut deaf, mut announced) = (false, false, false);
        let mut told = Telling::default();
        let mut changes = self.live.changes();
        changes.mark_changed(); // perhaps since this life began
        loop {
            if changes.has_changed().unwrap_or(false) {
                self.configure(&changes.borrow_and_update().clone());
            }
            let look = tokio::select! {
                look = self.look(&names) => look,
                () = stop.cancelled() => return,
            };
            match look {
                Ok(now) => (announced, told) = (now, Telling::default()),
                Err(error) => {
                    if told.is_due() {
                        tracing::warn!(%error, "can't look for work; trying again");
                    }
                    self.judge(&error);
                }
            }
            let asked = self.lanes.iter().map(|lane| lane.limits.polling_interval()).min();
            let asked = asked.unwrap_or(LONGEST).min(LONGEST);
            let pause = if announced && listening { LONGEST } else { asked };
            // Jitter, or a fleet that started together looks together.
            let pause = tokio::time::sleep(pause.mul_f64(rand::random_range(0.9..1.1)));
            let mut pause = std::pin::pin!(pause);
            let looked = Instant::now();
            loop {
                self.heartbeat.beat("waiting for the next look");
                tokio::select! {
                    Ok(()) = changes.changed() => {
                        changes.mark_changed();
                        break;
                    }
                    () = &mut pause => {
                        if looked.elapsed() >= LONGEST || !self.lanes.iter().all(|lane| lane.work.plenty.load(Relaxed)) {
                            break;
                        }
                        pause.as_mut().reset(tokio::time::Instant::now() + asked);
                    }
                    () = stop.cancelled() => return,
                    event = self.announcements.recv(), if !deaf => match event {
                        Ok(Event::Notified(told)) if &*told.channel == QUEUES => {
                            if let Some(&place) = heard.get(&*told.payload) {
                                tracing::debug!(queue = &*told.payload, "told of work");
                                self.wake(place);
                            }
                        }
                        Ok(Event::Notified(_)) => {}
                        // Something may have been missed.
                        Ok(Event::Listening) => {
                            tracing::debug!("announcements are heard");
                            listening = true;
                            break;
                        }
                        Err(RecvError::Lagged(_)) => break,
                        Ok(Event::Lost) => listening = false,
                        Err(RecvError::Closed) => (deaf, listening) = (true, false),
                    },
                }
            }
        }
    }

    /// One look, and what follows from it. Whether enqueues are announced.
    async fn look(&mut self, names: &[String]) -> Result<bool, SysdbError> {
        let patience = database_patience(&self.live.settings());
        let ask = async || {
            match self.sysdb.outlook(&self.scope, names, &self.lives).await {
                Ok(outlook) => Ok(outlook),
                // Perhaps it was composed for another level.
                Err(error) if !error.is_away() && self.sysdb.look_again().await? => {
                    tracing::debug!(%error, "the schema has changed");
                    self.sysdb.outlook(&self.scope, names, &self.lives).await
                }
                Err(error) => Err(error),
            }
        };
        let outlook = self.heartbeat.within(patience, "looking for work", ask()).await?;
        let Outlook { queues, delayed, expired, read_only, announced, moved, drain } = outlook;
        if read_only {
            self.database.forget_connections();
            self.status.database_fails(&"the server takes no writes: it would be in a read-only transaction");
            return Ok(announced);
        }
        self.status.database_answers();
        if let Some(asked) = drain {
            self.drain(&asked);
        }
        let paused = self.lanes.iter().zip(&queues).filter(|(_, queue)| queue.paused);
        self.status.paused(paused.map(|(lane, _)| lane.limits.name().to_owned()).collect());
        let mut figures = Vec::new();
        for (place, queue) in queues.into_iter().enumerate() {
            if let Some(lane) = self.lanes.get_mut(place) {
                lane.limits.enforce(queue.registered, queue.paused);
                let (busy, slots) = lane.limits.slots();
                figures.push(QueueFigures { name: lane.limits.name().to_owned(), queued: queue.queued, busy, slots });
            }
            if queue.queued {
                self.wake(place);
            }
        }
        self.status.queues_seen(figures);
        if moved {
            self.heartbeat.within(patience, "looking at the schema", self.sysdb.look_again()).await?;
        }
        // Statement after statement, as long as there are rows.
        let application = &self.scope.application;
        if delayed {
            let release = self.sysdb.release_delayed(application);
            let released = self.heartbeat.wait("releasing what was delayed", release).await?;
            tracing::debug!(released, "delayed workflows are due");
            self.lanes.iter().for_each(|lane| lane.work.is_there());
        }
        if expired {
            let cancel = self.sysdb.cancel_expired(application);
            let cancelled = self.heartbeat.wait("cancelling what is past its deadline", cancel).await?;
            if cancelled > 0 {
                tracing::info!(cancelled, "workflows past their deadline were cancelled");
            }
        }
        Ok(announced)
    }

    /// As a signal would.
    fn drain(&self, asked: &Asked) {
        let by = asked.by.as_deref().unwrap_or_default();
        if !self.shutdown.is_draining() {
            tracing::info!(by, "draining, as an operator asked through the database: no new executions");
            self.shutdown.begin(Drain::Graceful);
        }
        if asked.at_once && !self.shutdown.is_at_once() {
            tracing::warn!(by, "an operator asked for it at once: giving running executions back");
            self.shutdown.begin(Drain::AtOnce);
        }
    }

    /// Take over what was configured anew.
    fn configure(&mut self, settings: &Settings) {
        for lane in &mut self.lanes {
            if let Some(queue) = settings.queue.iter().find(|queue| queue.name == lane.limits.name()) {
                lane.limits.configure(queue.clone());
            }
        }
        if let Some(lane) = self.lanes.first() {
            let weights: Vec<u32> = settings.queue.iter().map(|queue| queue.weight).collect();
            lane.limits.share(slots(settings), &weights);
        }
    }

    /// There is something on the queue of this place.
    fn wake(&self, place: usize) {
        match self.lanes.get(place) {
            Some(lane) => lane.work.is_there(),
            None => {
                if let Some(first) = self.lanes.first() {
                    first.work.internal.store(true, Relaxed);
                    first.work.is_there();
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
}
