//! Whether anything may be sent at all: a fence on this side of the network.
//!
//! The database's own fence is the token in each row. This one spares it the writes of a worker that knows, by its clock,
//! that it may be dead to the others, whatever its tasks are doing at that moment.

use std::{fmt, sync::Arc};

use super::{SysdbError, SystemDatabase};

/// Asked before each statement. Clones are the same fence.
#[derive(Clone)]
pub struct Fence(Arc<dyn Fn() -> bool + Send + Sync>);

impl Fence {
    /// Open while this says so. It is asked often, and must not wait.
    pub fn new(open: impl Fn() -> bool + Send + Sync + 'static) -> Fence {
        Fence(Arc::new(open))
    }

    /// Whether statements may be sent now.
    pub fn is_open(&self) -> bool {
        (self.0)()
    }

    pub(super) fn check(&self) -> Result<(), SysdbError> {
        if self.is_open() { Ok(()) } else { Err(SysdbError::Fenced) }
    }
}

impl Default for Fence {
    /// One that never closes.
    fn default() -> Fence {
        Fence::new(|| true)
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fence").field(&self.is_open()).finish()
    }
}

impl SystemDatabase {
    /// The same database, for work that ends with this fence: nothing of it is sent once it is closed.
    #[must_use]
    pub fn fenced(&self, fence: Fence) -> SystemDatabase {
        SystemDatabase { fence, ..self.clone() }
    }

    /// Whether statements may be sent now.
    pub fn is_open(&self) -> bool {
        self.fence.is_open()
    }
}
