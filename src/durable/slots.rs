//! Worker slots. Holding a [`Slot`] is the permission to run; it is given back however the task ends.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The slots of one worker.
#[derive(Clone)]
pub struct Slots {
    permits: Arc<Semaphore>,
    size: u32,
}

impl Slots {
    /// So many.
    pub fn new(size: u32) -> Slots {
        Slots { permits: Arc::new(Semaphore::new(size as usize)), size }
    }

    /// Wait for a free slot, and take with it all others that are free at that moment.
    pub async fn take_free(&self) -> Vec<Slot> {
        let Ok(first) = self.permits.clone().acquire_owned().await else { return Vec::new() };
        let more = std::iter::from_fn(|| self.permits.clone().try_acquire_owned().ok());
        std::iter::once(first).chain(more).map(|permit| Slot { slots: self.clone(), permit: Some(permit) }).collect()
    }

    /// How many are taken.
    pub fn in_use(&self) -> u32 {
        self.size - u32::try_from(self.permits.available_permits()).unwrap_or(self.size).min(self.size)
    }
}

/// One slot of a worker.
pub struct Slot {
    slots: Slots,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Give the slot back for the time of a wait.
    pub fn suspend(&mut self) {
        self.permit = None;
    }

    /// Wait for a slot again. First come, first served, together with the dispatcher.
    pub async fn resume(&mut self) {
        if self.permit.is_none() {
            let permit: Result<_, AcquireError> = self.slots.permits.clone().acquire_owned().await;
            self.permit = permit.ok(); // never closed, so always one
        }
    }
}
