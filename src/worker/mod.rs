//! The daemon: lifecycle, lease, dispatch loop, recovery sweep, drain.

mod backlog;
mod chores;
mod database;
mod dispatch;
mod drain;
mod embed;
mod heartbeat;
mod identity;
mod lease;
mod life;
mod lifecycle;
mod limits;
mod lookout;
mod monitor;
mod partitions;
mod recovery;
mod reload;
mod report;
mod running;
mod signals;
mod starter;
mod status;
mod suspects;
mod wiring;

pub use database::{ConnectError, Database, Migrated, SchemaError};
pub use embed::{RunningWorker, Worker};
pub use heartbeat::Silence;
pub use identity::Identity;
pub use lease::{LeaseError, Stuck};
pub use lifecycle::StartError;
pub use reload::{Change, ReloadError, Reloaded, Reloader};
pub use signals::{Drain, Hangups, Shutdown};
pub use status::{Phase, QueueFigures, Snapshot, Status};
