//! Worker slots. Holding a [`Slot`] is the permission to run; it is given back however the task ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The slots of one worker.
#[derive(Clone)]
pub struct Slots {
    permits: Arc<Semaphore>,
    size: Arc<Mutex<Size>>,
}

struct Size {
    wanted: u32,
    /// Slots beyond the wanted number that are taken: they vanish when they are given back.
    surplus: u32,
}

impl Slots {
    /// So many.
    pub fn new(size: u32) -> Slots {
        let permits = Arc::new(Semaphore::new(size as usize));
        Slots { permits, size: Arc::new(Mutex::new(Size { wanted: size, surplus: 0 })) }
    }

    /// Have another number of them from now on. Nobody loses a slot: with fewer, the next ones to be given back vanish.
    pub fn resize(&self, wanted: u32) {
        let mut size = self.size();
        let (more, fewer) = (wanted.saturating_sub(size.wanted), size.wanted.saturating_sub(wanted));
        size.wanted = wanted;
        let kept = more.min(size.surplus);
        size.surplus -= kept;
        self.permits.add_permits((more - kept) as usize);
        let gone = self.permits.forget_permits(fewer as usize);
        size.surplus += fewer - u32::try_from(gone).unwrap_or(fewer).min(fewer);
    }

    /// Wait for a free slot, and take with it all others that are free at that moment.
    pub async fn take_free(&self) -> Vec<Slot> {
        let Ok(first) = self.permits.clone().acquire_owned().await else { return Vec::new() };
        let more = std::iter::from_fn(|| self.permits.clone().try_acquire_owned().ok());
        std::iter::once(first).chain(more).map(|permit| Slot { slots: self.clone(), permit: Some(permit) }).collect()
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
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
        let Some(permit) = self.permit.take() else { return };
        let mut size = self.slots.size();
        if size.surplus > 0 {
            size.surplus -= 1;
            permit.forget();
        }
    }

    /// Wait for a slot again. First come, first served, together with the dispatcher.
    pub async fn resume(&mut self) {
        if self.permit.is_none() {
            let permit: Result<_, AcquireError> = self.slots.permits.clone().acquire_owned().await;
            self.permit = permit.ok(); // never closed, so always one
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.suspend();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fewer_slots_take_nobody_s_and_more_are_there_at_once() {
        let slots = Slots::new(4);
        let mut taken = slots.take_free().await;
        assert_eq!(taken.len(), 4);
        slots.resize(2);
        slots.resize(1);
        slots.resize(3); // one beyond is taken
        drop(taken.pop());
        assert_eq!(slots.permits.available_permits(), 0, "the surplus vanishes");
        drop(taken.pop());
        assert_eq!(slots.take_free().await.len(), 1);
        slots.resize(5);
        assert_eq!(slots.take_free().await.len(), 3, "two are still taken");
        drop(taken);
        assert_eq!(slots.take_free().await.len(), 5);
    }
}
