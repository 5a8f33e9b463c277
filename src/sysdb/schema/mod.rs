//! The tables: what a database holds, whether we can work with it, and making them where there are none.
//!
//! The system schema belongs to DBOS. We make it when there is none, and use it when it has what we need; one that exists
//! is only altered by [`advance`], when somebody asks for that. The application tables belong to Fireflow, and one to us.

mod announce;
pub mod app;
mod error;
mod forward;
pub mod grants;
mod inspect;
mod levels;
mod lock;
mod low;
mod migrate;
mod name;
mod shape;

pub use announce::{announce, is_announced};
pub use error::Error;
pub use forward::{Advanced, Task, advance, plan_forward, recent_executors};
pub(super) use inspect::columns_at;
pub use inspect::{State, inspect};
pub use low::Step;
pub use migrate::{BASELINE_LEVEL, Ready, ensure, lacking_to_make, plan};
pub use name::{NameError, Prefix, SchemaName};
