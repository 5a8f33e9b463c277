//! What is asked for at the moment of a scrape.

use std::time::Duration;

/// The worker's state at one moment.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// Where in its life it is, of all that there are.
    pub phase: &'static str,
    /// All phases.
    pub phases: &'static [&'static str],
    /// Since when, in seconds since 1970.
    pub since: f64,
    /// Whether it takes executions.
    pub ready: bool,
    /// Whether the database answers.
    pub database: bool,
    /// Executions in this process.
    pub running: u64,
    /// Those that wait, without a slot.
    pub waiting: u64,
    /// Longest time of a drain, by the settings in force.
    pub drain_timeout: Duration,
    /// How long the lease still holds.
    pub lease: Duration,
    /// The worker's queues.
    pub queues: Vec<QueueState>,
    /// Slots by queue.
    pub slots: Vec<SlotUse>,
    /// What waits, by queue; empty while it isn't known.
    pub backlog: Vec<Backlog>,
    /// Pools of connections.
    pub pools: Vec<PoolUse>,
}

/// A queue, as operators have it.
#[derive(Clone, Debug)]
pub struct QueueState {
    /// Its name.
    pub name: String,
    /// Whether nothing is claimed from it, by an operator's wish.
    pub paused: bool,
}

/// A queue's slots.
#[derive(Clone, Debug)]
pub struct SlotUse {
    /// The queue.
    pub queue: String,
    /// How many there may be.
    pub limit: u32,
    /// How many are taken.
    pub in_use: u32,
    /// How many it could take now.
    pub free: u32,
    /// Who waits for one.
    pub waiting: usize,
}

/// What waits on a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Backlog {
    /// The queue.
    pub queue: String,
    /// Executions, up to the number that is counted.
    pub depth: u64,
    /// Since when the oldest one waits.
    pub oldest: Duration,
}

/// A pool of connections.
#[derive(Clone, Debug)]
pub struct PoolUse {
    /// What for.
    pub purpose: &'static str,
    /// Most connections.
    pub limit: usize,
    /// Connections that somebody uses.
    pub in_use: usize,
    /// Connections that nobody uses.
    pub idle: usize,
    /// Who waits for one.
    pub waiting: usize,
}
