//! The limits in force: those under which the queue is registered in the database, or those of the configuration.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{LimitSource, Queue},
    durable::Slots,
    sysdb::{QueueLimits, SysdbError, SystemDatabase},
};

/// Changes in the database are noticed within this time.
const EVERY: Duration = Duration::from_secs(1);

/// The limits in force, as the dispatch loop sees them; `None` until they are known.
pub(super) type InForce = watch::Receiver<Option<QueueLimits>>;

/// Keeps them up to date.
pub(super) struct Limits {
    pub sysdb: SystemDatabase,
    pub application: String,
    pub queue: Queue,
    /// Their number follows the limit for one process.
    pub slots: Slots,
}

impl Limits {
    /// Until `stop`. What can't be read stays as it was; at first, that is unknown, and nothing is claimed.
    pub async fn run(self, in_force: watch::Sender<Option<QueueLimits>>, stop: CancellationToken) {
        loop {
            match self.read().await {
                Ok((limits, source)) => self.enforce(&in_force, limits, source),
                Err(error) => tracing::debug!(%error, "can't read the limits of the queue; they stay as they are"),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn read(&self) -> Result<(QueueLimits, &'static str), SysdbError> {
        let registered = match self.queue.limits {
            LimitSource::Registered => self.sysdb.registered_limits(&self.queue.name, &self.application).await?,
            LimitSource::Configured => None,
        };
        Ok(match registered {
            Some(limits) => (limits, "registered"),
            None => (configured(&self.queue), "configured"),
        })
    }

    fn enforce(&self, in_force: &watch::Sender<Option<QueueLimits>>, limits: QueueLimits, source: &str) {
        let own = self.queue.worker_concurrency;
        in_force.send_if_modified(|now| {
            if now.as_ref() == Some(&limits) {
                return false;
            }
            // With 0, nothing is claimed, and what runs here still ends as fast as it can.
            self.slots.resize(limits.worker_concurrency.filter(|&limit| limit > 0).map_or(own, |limit| limit.min(own)));
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
