//! `executeFireFlow`, the execution store and the flow store (SQL on the application tables).

mod cache;
mod children;
mod commands;
mod content;
mod events;
mod executor;
mod failure;
mod fault;
mod flows;
mod gather;
mod nodes;
mod patience;
mod store;
mod task;
mod versions;

pub use commands::Command;
pub use executor::{Executor, Limits, START_TOPIC, WORKED};
pub use failure::Failed;
pub use fault::{MARKS, step_at_fault};
pub use flows::{FlowRow, FlowStore, FlowSummary, FlowsError, StoredFlow};
pub use store::{ExecutionRow, ExecutionStore};
pub use task::{Task, TaskError};
pub use versions::{FlowVersions, Swept};
