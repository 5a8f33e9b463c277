//! The database isn't there, goes away, is silent, refuses, fails over, or is locked by others: executions wait and go on,
//! nothing is lost and nothing happens twice, and the worker neither exits nor spins.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "outages/away.rs"]
mod away;
#[path = "outages/cluster.rs"]
mod cluster;
#[path = "outages/commit.rs"]
mod commit;
#[path = "outages/failover.rs"]
mod failover;
#[path = "outages/locks.rs"]
mod locks;
#[path = "outages/refusals.rs"]
mod refusals;
#[path = "outages/server.rs"]
mod server;
#[path = "outages/silence.rs"]
mod silence;
mod support;
#[path = "outages/wire.rs"]
mod wire;
