//! Flows: values, the stored format, and the engine that runs them. Knows nothing of PostgreSQL or DBOS.

pub mod cases;
pub mod engine;
pub mod events;
mod graph;
mod io;
pub mod model;
pub mod number;
pub mod ports;
mod problems;
mod snapshot;
mod stored;
pub mod stream;
pub mod text;
pub mod value;

pub use events::{Creation, Event, EventKind};
pub use io::{Input, UnknownInput};
pub use model::{Flow, Status};
pub use problems::{LoadError, Problem, ProblemKind};
pub use stored::Loaded;
pub use value::{Object, Value};
