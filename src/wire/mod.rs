//! The serialisations of DBOS clients, one file each, behind one enum.
//!
//! A workflow row names its format once, and that name governs its inputs, its output and its error; steps,
//! messages, events and stream items carry a name of their own. The worker answers a row in the row's own
//! format, because that is the only one that its client is sure to read, and so every format can be both
//! read and written.
//!
//! Inside the worker everything is plain JSON. Reading a richer format loses types (a date becomes its ISO
//! text, a set a list) and nothing else. All readers treat the text as hostile: they bound what they build,
//! execute nothing, and fail with an error that says where.

mod arguments;
mod error;
mod failure;
mod format;
mod json;
mod pickle;
mod portable;
mod rust_serde;
mod superjson;

pub use arguments::Arguments;
pub use error::{DecodeError, UnknownFormat};
pub use failure::{Failure, FailureCode};
pub use format::Format;
pub use pickle::PickleError;

/// The longest payload that is read, in bytes of column text. PostgreSQL would allow 1 GB in one field, and a
/// few such rows would take the worker down; a flow that needs more passes a reference instead.
pub const MAX_PAYLOAD_BYTES: usize = 32 << 20;
