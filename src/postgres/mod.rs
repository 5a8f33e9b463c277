//! Pool, TLS, listener, and the embedded server for `dev` and the tests.

pub mod embedded;

/// Whether the same call may succeed later (stub until the room is filled).
pub fn is_transient(error: &tokio_postgres::Error) -> bool {
    error.is_closed()
}
