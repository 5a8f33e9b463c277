//! The states of a workflow, as DBOS stores them and as people call them.

use std::{fmt, str::FromStr};

/// A workflow's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// ENQUEUED.
    Queued,
    /// DELAYED.
    Delayed,
    /// PENDING: claimed, also while it waits.
    Running,
    /// SUCCESS.
    Completed,
    /// ERROR.
    Failed,
    /// CANCELLED.
    Cancelled,
    /// MAX_RECOVERY_ATTEMPTS_EXCEEDED.
    Parked,
}

/// A word is no status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no status; it is one of queued, delayed, running, completed, failed, cancelled, parked, or one of DBOS's own: \
     ENQUEUED, DELAYED, PENDING, SUCCESS, ERROR, CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED"
)]
pub struct StatusError(String);

impl Status {
    /// All of them.
    pub const ALL: [Status; 7] = [
        Status::Queued,
        Status::Delayed,
        Status::Running,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::Parked,
    ];
    /// Those from which a workflow goes on by itself.
    pub const ACTIVE: [Status; 3] = [Status::Queued, Status::Delayed, Status::Running];

    /// As it is stored.
    pub const fn stored(self) -> &'static str {
        match self {
            Status::Queued => "ENQUEUED",
            Status::Delayed => "DELAYED",
            Status::Running => "PENDING",
            Status::Completed => "SUCCESS",
            Status::Failed => "ERROR",
            Status::Cancelled => "CANCELLED",
            Status::Parked => "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
        }
    }

    /// As people call it.
    pub const fn word(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Delayed => "delayed",
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Parked => "parked",
        }
    }

    /// Of a stored one; `None` for one that a newer SDK may have.
    pub fn of(stored: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.stored() == stored)
    }

    /// Whether it goes on by itself.
    pub fn is_active(self) -> bool {
        Status::ACTIVE.contains(&self)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Status, StatusError> {
        Status::ALL
            .into_iter()
            .find(|status| status.word().eq_ignore_ascii_case(text) || status.stored().eq_ignore_ascii_case(text))
            .ok_or_else(|| StatusError(text.into()))
    }
}
