//! Ids that must not be mistaken for each other.

use std::{fmt, sync::Arc};

/// Id of a workflow: the row's key in `workflow_status`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkflowId(Arc<str>);

impl WorkflowId {
    /// From text; any text is one.
    pub fn new(text: impl Into<Arc<str>>) -> WorkflowId {
        WorkflowId(text.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The fencing token that a claim wrote into `owner_xid`. It is never read back from a row: that one may be a later claim's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerToken(Arc<str>);

impl OwnerToken {
    /// A fresh one.
    pub fn fresh() -> OwnerToken {
        OwnerToken(uuid::Uuid::new_v4().to_string().into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A workflow and the claim under which this process owns it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Which workflow.
    pub id: WorkflowId,
    /// The claim's token.
    pub token: OwnerToken,
    /// When it was claimed, as the row says in `started_at_epoch_ms`. SDKs of the earlier generation leave our token in a row
    /// that they cancel, resume and claim; but every claim writes its time.
    pub since: i64,
}
