//! Flows: values, the stored format, and the engine that runs them. Knows nothing of PostgreSQL or DBOS.

pub mod model;
pub mod number;
pub mod stream;
pub mod text;
pub mod value;

pub use value::{Object, Value};
