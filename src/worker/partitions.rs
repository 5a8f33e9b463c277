//! Claims on a queue with partitions, and how many executions of each run here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::dispatch::{Dispatcher, Round, wanted};
use crate::{
    durable::Slot,
    sysdb::{Claim, ClaimScope, PartitionLimits, QueueLimits, Rows, SysdbError},
};

/// Most partitions in a round, a claim each: a round is short, so that a shutdown isn't kept waiting.
const KEYS: u32 = 64;

/// How many executions of each partition run in this process. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Partitions(Arc<Mutex<HashMap<String, u32>>>);

/// An execution's place in its partition; left on drop.
pub(super) struct InPartition {
    partitions: Partitions,
    key: String,
}

impl Partitions {
    /// One more runs.
    pub fn enter(&self, key: Option<&str>) -> Option<InPartition> {
        let key = key?.to_owned();
        *self.lock().entry(key.clone()).or_default() += 1;
        Some(InPartition { partitions: self.clone(), key })
    }

    fn running(&self, key: &str) -> u32 {
        self.lock().get(key).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InPartition {
    fn drop(&mut self) {
        let mut running = self.partitions.lock();
        if let Some(count) = running.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.key);
            }
        }
    }
}

impl Dispatcher {
    /// A round on a queue with partitions.
    pub(super) async fn partitioned(
        &self,
        scope: &ClaimScope,
        slots: &mut Vec<Slot>,
        limits: &QueueLimits,
        own: &PartitionLimits,
    ) -> Result<Round, SysdbError> {
        let mut contended = false;
        let QueueLimits { concurrency, rate, .. } = *limits;
        let claim = Claim { queue: &self.queue, rows: Rows::Keyless, limit: wanted(slots), concurrency, rate };
        match self.ask(self.sysdb.claim(scope, &claim)).await? {
            Ok(claimed) => self.start(claimed, slots),
            Err(_) => contended = true,
        }
        if slots.is_empty() {
            return Ok(Round::Full);
        }
        let one_each = own.concurrency == Some(1) && own.rate.is_none() && concurrency.is_none() && rate.is_none();
        if one_each {
            let claimed = self.ask(self.sysdb.claim_heads(scope, &self.queue, wanted(slots))).await?;
            self.start(claimed, slots);
            return Ok(if slots.is_empty() { Round::Full } else { Round::Drained });
        }
        let keys = self.ask(self.sysdb.partitions(scope, &self.queue, own.concurrency, KEYS)).await?;
        let free = slots.len();
        for key in &keys {
            let room =
                own.worker_concurrency.map_or(u32::MAX, |most| most.saturating_sub(self.partitions.running(key)));
            let limit = wanted(slots).min(room);
            if limit == 0 {
                continue;
            }
            let rows = Rows::Partition { key, limits: own };
            let claim = Claim { queue: &self.queue, rows, limit, concurrency, rate };
            match self.ask(self.sysdb.claim(scope, &claim)).await? {
                Ok(claimed) => self.start(claimed, slots),
                Err(_) => contended = true,
            }
            if slots.is_empty() {
                return Ok(Round::Full);
            }
        }
        let more = keys.len() >= KEYS as usize && slots.len() < free;
        Ok(match (more, contended) {
            (true, _) => Round::Full,
            (false, true) => Round::Contended,
            (false, false) => Round::Drained,
        })
    }
}
