//! The tables: what a database holds, whether we can work with it, and making them where there are none.
//!
//! The system schema belongs to DBOS, whose SDKs bring it forward. We make it when there is none, use it when it has
//! what we need, and never alter one that exists. The application tables belong to Fireflow, and one to us.

pub mod app;
mod error;
mod inspect;
mod lock;
mod migrate;
mod name;
mod shape;

pub use error::Error;
pub use inspect::{Numbering, State, inspect};
pub use migrate::{BASELINE_LEVEL, Ready, ensure, plan};
pub use name::{NameError, Prefix, SchemaName};
