//! How an execution fails.

use crate::{durable::DurableError, wire::Failure};

/// An execution didn't come to its end.
#[derive(Debug)]
pub enum Failed {
    /// It has to stop here; nothing more may be written for it.
    Stopped(crate::durable::Stop),
    /// It failed: the row becomes `failed`, the workflow ERROR.
    Error(Box<Failure>),
}

impl Failed {
    /// A failure of this kind and text.
    pub(super) fn error(name: &str, message: impl Into<String>) -> Failed {
        Failed::Error(Box::new(Failure::new(name, message)))
    }
}

impl From<DurableError> for Failed {
    fn from(error: DurableError) -> Failed {
        match error {
            DurableError::Stopped(stop) => Failed::Stopped(stop),
            other => Failed::error("WorkflowError", other.to_string()),
        }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed::Error(Box::new(failure))
    }
}
