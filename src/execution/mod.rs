//! `executeFireFlow`, the execution store and the flow store (SQL on the application tables).

mod children;
mod events;
mod executor;
mod failure;
mod flows;
mod patience;
mod store;
mod task;

pub use executor::{Executor, Limits};
pub use failure::Failed;
pub use flows::{FlowRow, FlowStore, FlowSummary, FlowsError, StoredFlow};
pub use store::{ExecutionRow, ExecutionStore};
pub use task::{Task, TaskError};
