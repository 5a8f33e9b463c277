//! What can go wrong in the system database.

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

/// A statement failed, or there was no connection to run it on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysdbError {
    /// The statement failed.
    #[error("system database: {}", describe(.0))]
    Query(#[from] tokio_postgres::Error),
    /// No connection could be had.
    #[error("no connection to the database: {}", describe_pool(.0))]
    Pool(#[from] PoolError),
    /// It was not sent: the fence is closed.
    #[error("the worker's lease has ended, so nothing is sent any more")]
    Fenced,
}

impl SysdbError {
    /// Whether the same call may succeed later, because the connection or the server was at fault.
    pub fn is_transient(&self) -> bool {
        match self {
            SysdbError::Query(error) => crate::postgres::is_transient(error),
            // Whatever keeps us from connecting is not the fault of the work that waits for it.
            SysdbError::Pool(_) => true,
            SysdbError::Fenced => false,
        }
    }

    /// The server's code for what went wrong, where it was the server that said so.
    pub fn code(&self) -> Option<&str> {
        match self {
            SysdbError::Query(error) => error.code().map(SqlState::code),
            SysdbError::Pool(PoolError::Backend(error)) => error.code().map(SqlState::code),
            SysdbError::Pool(_) | SysdbError::Fenced => None,
        }
    }

    /// Whether the session can't write, while another may reach a server that can.
    pub fn is_read_only(&self) -> bool {
        matches!(self, SysdbError::Query(error) if crate::postgres::is_read_only(error))
    }

    /// Whether the database as a whole can't be used. Not so for a lock that somebody holds, a statement that took too long,
    /// or a deadlock; nor for want of a free connection, which the work itself may cause.
    pub fn is_away(&self) -> bool {
        match self {
            SysdbError::Query(error) => {
                self.is_transient()
                    && !matches!(error.code().map(SqlState::code), Some("40001" | "40P01" | "55P03" | "57014"))
            }
            SysdbError::Pool(error) => !matches!(error, PoolError::Timeout(TimeoutType::Wait)),
            SysdbError::Fenced => false,
        }
    }
}

/// Why a checkpoint was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The row is no longer ours: cancelled, deleted, handed to someone else. Write nothing more for it.
    #[error("the workflow is no longer owned by this execution")]
    OwnershipLost,
    /// The worker's lease has ended, so nothing was sent, and nothing more will be.
    #[error("the worker's lease has ended")]
    Fenced,
    /// The step's id is already recorded differently: the code or the flow changed since.
    #[error("step {function_id} is already recorded with another outcome; the flow or the worker changed in mid-run")]
    Nondeterminism {
        /// The step.
        function_id: i32,
    },
    /// The database refused it.
    #[error("{0}")]
    Refused(String),
    /// The worker is shutting down.
    #[error("the worker is shutting down")]
    Closed,
}

impl CommitError {
    /// Whether it is about this checkpoint, and not about a worker that has ended or lost its lease.
    pub fn is_refusal(&self) -> bool {
        match self {
            CommitError::OwnershipLost | CommitError::Nondeterminism { .. } | CommitError::Refused(_) => true,
            CommitError::Fenced | CommitError::Closed => false,
        }
    }
}

/// An error with the server's message, which the driver's own text leaves out.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            let next = match *db.code() {
                SqlState::INSUFFICIENT_PRIVILEGE => "; fireflow-worker check names all rights that are missing",
                _ => "",
            };
            format!("{}{detail} [{}]{next}", db.message(), db.code().code())
        }
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        }
    }
}

fn describe_pool(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => describe(error),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lost_lease_or_the_end_keeps_from_being_written_is_not_refused() {
        for (error, refusal) in [
            (CommitError::OwnershipLost, true),
            (CommitError::Nondeterminism { function_id: 1 }, true),
            (CommitError::Refused("too large".into()), true),
            (CommitError::Fenced, false),
            (CommitError::Closed, false),
        ] {
            assert_eq!(error.is_refusal(), refusal, "{error}");
        }
    }
}
