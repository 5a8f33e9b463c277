//! The real DBOS clients for TypeScript and Python, unmodified, against the real program: none of them can tell that the
//! worker is not theirs. Those of the generation before as well: what holds for whom is shown as a table on stderr.
//!
//! Without Node, Python or their registries the tests say so and pass; with `CI=true` they fail instead.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "interop/cases/mod.rs"]
mod cases;
#[path = "interop/mod.rs"]
mod interop;
mod support;
