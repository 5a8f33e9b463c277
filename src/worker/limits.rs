//! The limits in force: those under which the queue is registered in the database, or those of the configuration.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    config::{LimitSource, Queue},
    durable::Slots,
    sysdb::QueueLimits,
};

/// The limits in force, as the dispatch loop sees them; `None` until they are known.
pub(super) type InForce = watch::Receiver<Option<QueueLimits>>;

/// Keeps them up to date.
pub(super) struct Limits {
    queue: Queue,
    /// Their number follows the limit for one process.
    slots: Slots,
    /// How many there are.
    own: Option<u32>,
    in_force: watch::Sender<Option<QueueLimits>>,
    paused: AtomicBool,
}

impl Limits {
    /// None are known yet, and nothing is claimed.
    pub fn new(queue: Queue, slots: Slots) -> (Limits, InForce) {
        let (in_force, watch) = watch::channel(None);
        (Limits { queue, slots, own: None, in_force, paused: AtomicBool::new(false) }, watch)
    }

    /// The queue is configured so from now on; takes effect with the next look.
    pub fn configure(&mut self, queue: Queue) {
        self.queue = queue;
    }

    /// The process has so many slots over all its queues from now on, and shares them by these weights.
    pub fn share(&self, total: u32, weights: &[u32]) {
        self.slots.share(total, weights);
    }

    /// Slots that are held, and that there are.
    pub fn slots(&self) -> (u32, u32) {
        let usage = self.slots.usage();
        (usage.taken, usage.limit)
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.queue.name
    }

    /// The pause between looks.
    pub fn polling_interval(&self) -> Duration {
        self.in_force.borrow().as_ref().map_or(self.queue.polling_interval, |limits| limits.polling_interval)
    }

    /// From now on these hold, if the configuration gives way to them.
    ///
    /// While the queue is `paused` nothing is claimed, whatever they are.
    pub fn enforce(&mut self, registered: Option<QueueLimits>, paused: bool) {
        let registered = registered.filter(|_| self.queue.limits == LimitSource::Registered);
        let (limits, source) = match registered {
            Some(limits) => (limits, "registered"),
            None => (configured(&self.queue), "configured"),
        };
        let limits = if paused { QueueLimits { concurrency: Some(0), ..limits } } else { limits };
        if self.paused.swap(paused, Relaxed) != paused {
            let queue = self.queue.name.as_str();
            match paused {
                true => tracing::warn!(
                    queue,
                    "the queue is paused by an operator: nothing is claimed from it; what runs goes on"
                ),
                false => tracing::info!(queue, "the queue is no longer paused"),
            }
        }
        let own = self.queue.worker_concurrency;
        // With 0, nothing is claimed, and what runs here still ends as fast as it can.
        let slots = limits.worker_concurrency.filter(|&limit| limit > 0).map_or(own, |limit| limit.min(own));
        let resized = self.own.replace(slots) != Some(slots);
        if resized {
            self.slots.resize(slots);
        }
        self.in_force.send_if_modified(|now| {
            if now.as_ref() == Some(&limits) && !resized {
                return false;
            }
            tracing::info!(
                source,
                concurrency = limits.concurrency,
                worker_concurrency = limits.worker_concurrency.map_or(own, |limit| limit.min(own)),
                rate_limit = limits.rate.map(tracing::field::display),
                partition_concurrency = limits.partition.as_ref().and_then(|own| own.concurrency),
                partition_worker_concurrency = limits.partition.as_ref().and_then(|own| own.worker_concurrency),
                partition_rate_limit =
                    limits.partition.as_ref().and_then(|own| own.rate).map(tracing::field::display),
                polling_interval = %humantime::format_duration(limits.polling_interval),
                paused,
                "limits in force"
            );
            *now = Some(limits);
            true
        });
    }
}

fn configured(queue: &Queue) -> QueueLimits {
    QueueLimits {
        concurrency: Some(queue.concurrency),
        worker_concurrency: Some(queue.worker_concurrency),
        rate: queue.rate_limit,
        partition: None,
        polling_interval: queue.polling_interval,
    }
}
