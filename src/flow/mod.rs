//! Flows: values, the stored format, and the engine that runs them. Knows nothing of PostgreSQL or DBOS.

pub mod authoring;
pub mod cases;
mod diagnostic;
pub mod draw;
pub mod engine;
pub mod events;
mod file;
mod graph;
mod io;
mod json_spans;
pub mod model;
pub mod number;
pub mod ports;
mod problems;
mod snapshot;
mod source;
mod stored;
pub mod stream;
pub mod text;
pub mod validate;
pub mod value;

pub use diagnostic::{Diagnostic, Severity};
pub use events::{Creation, Event, EventKind};
pub use file::{FlowFile, syntax};
pub use io::{Input, UnknownInput};
pub use model::{Flow, Status};
pub use problems::{LoadError, Problem, ProblemKind};
pub use source::{Place, Source};
pub use stored::Loaded;
pub use value::{Object, Value};
