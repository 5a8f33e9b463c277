//! Executions that were at work at several crashes in a row. A process runs one of them at a time, so that the next crash
//! says which of them it was.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::Semaphore;

use crate::durable::Seat;

/// What a process knows of suspects. Cheap to clone.
#[derive(Clone)]
pub(super) struct Suspects {
    /// There are some in the database, as far as is known.
    there: Arc<AtomicBool>,
    seats: Arc<Semaphore>,
}

impl Default for Suspects {
    fn default() -> Suspects {
        Suspects { there: Arc::default(), seats: Arc::new(Semaphore::new(1)) }
    }
}

impl Suspects {
    /// Say whether there are some.
    pub fn are_there(&self, there: bool) {
        self.there.store(there, Relaxed);
    }

    /// A seat for one, if there may be one to take.
    pub fn seat(&self) -> Option<Seat> {
        self.there.load(Relaxed).then(|| Seat::try_take(&self.seats)).flatten()
    }
}
