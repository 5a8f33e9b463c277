//! Debugging a run from outside: orders go in, where it stands comes out.
//!
//! Orders are merged until the run looks at them, so any number of them takes no room, and giving one never waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugState {
    /// Whether nodes are held before their transfers.
    pub paused: bool,
    /// Ids of the nodes that are held, in the order in which they came.
    pub held: Vec<Arc<str>>,
    /// Nodes at work, without those that are held.
    pub at_work: usize,
    /// So many orders were obeyed.
    pub orders: u64,
}

impl DebugState {
    /// Whether nothing happens until somebody orders it.
    pub fn is_at_rest(&self) -> bool {
        self.paused && self.at_work == 0 && !self.held.is_empty()
    }
}

/// Pauses a run, lets it go on, or stops it. Clones are for the same run.
///
/// A run with a debugger stops by itself at the breakpoints of its options; one that never gets an order and has no
/// breakpoints runs as without.
#[derive(Clone, Debug, Default)]
pub struct Debugger {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    orders: Mutex<Orders>,
    given: Notify,
    state: watch::Sender<DebugState>,
}

/// Orders that the run has not looked at yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// All orders so far.
    pub count: u64,
    /// Pause or don't.
    pub paused: Option<bool>,
    /// Who is held goes on.
    pub release: bool,
    /// End the run, for this reason.
    pub stop: Option<String>,
}

impl Debugger {
    /// For one run.
    pub fn new() -> Debugger {
        Debugger::default()
    }

    /// For a run that begins paused: its first nodes are held.
    pub fn paused() -> Debugger {
        let debugger = Debugger::new();
        debugger.pause();
        debugger
    }

    /// Hold every node that comes to its transfers from now on. Nodes at work go on.
    pub fn pause(&self) {
        self.order(|orders| orders.paused = Some(true));
    }

    /// All held nodes go on, and the pause ends.
    pub fn resume(&self) {
        self.order(|orders| (orders.paused, orders.release) = (Some(false), true));
    }

    /// All held nodes go on; those that come next are held.
    pub fn step(&self) {
        self.order(|orders| orders.release = true);
    }

    /// End the run: held nodes fail, and the flow is cancelled.
    pub fn stop(&self, reason: &str) {
        self.order(|orders| {
            orders.stop.get_or_insert_with(|| reason.to_owned());
        });
    }

    /// How many orders were given.
    pub fn orders(&self) -> u64 {
        self.lock().count
    }

    /// Where the run stands. Changes are seen at the latest when the run has nothing to do.
    pub fn state(&self) -> watch::Receiver<DebugState> {
        self.shared.state.subscribe()
    }

    fn order(&self, give: impl FnOnce(&mut Orders)) {
        {
            let mut orders = self.lock();
            orders.count += 1;
            give(&mut orders);
        }
        self.shared.given.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner) // orders are whole after each change
    }

    /// What was ordered since the last look.
    pub(super) fn take(&self) -> Orders {
        let mut orders = self.lock();
        let count = orders.count;
        std::mem::replace(&mut *orders, Orders { count, ..Orders::default() })
    }

    /// Completes when there may be orders.
    pub(super) async fn given(&self) {
        self.shared.given.notified().await;
    }

    /// Tell where the run stands.
    pub(super) fn show(&self, state: DebugState) {
        self.shared.state.send_if_modified(|shown| {
            let differs = *shown != state;
            *shown = state;
            differs
        });
    }
}
