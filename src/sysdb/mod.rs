//! All SQL on the `dbos` schema: migrate, claim, commit, recover, query; and what operators ask. One file an operation family.
//!
//! The invariant kept here: a row is advanced only by the executor that owns it. A claim writes a fresh token into
//! `owner_xid`; every later write of that execution holds only while the row is PENDING and still carries it.

mod backlog;
mod claim;
mod commit;
pub mod doctor;
mod enqueue;
mod error;
mod fence;
pub mod grants;
mod ids;
mod layout;
mod messages;
mod notify;
pub mod operator;
mod outlook;
mod query;
mod queues;
mod reconcile;
mod recover;
pub mod retention;
pub mod schema;
mod settle;
mod standing;
mod sweep;
mod version;
mod writer;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

pub use claim::{Claim, ClaimScope, Claimed, Contended, Rows};
pub use commit::{
    Append, ApplicationWrite, Checkpoint, ChildStart, Consume, Finish, Receive, Received, StepRecord, Write,
};
pub use enqueue::{EnqueueError, Enqueued, NewWorkflow};
pub use error::{CommitError, SysdbError};
pub use fence::Fence;
pub use ids::{Owner, OwnerToken, WorkflowId};
pub use messages::{CHANNEL as MESSAGES, Message, Unread};
pub use notify::{Notifier, QUEUES};
pub use outlook::{Asked, Outlook, QueueOutlook};
pub use query::{Astray, Cause, WorkflowView};
pub use queues::{PartitionLimits, QueueColumns, QueueLimits, RateLimit};
pub use reconcile::{Accounts, Dead, Expired, Leases, Predecessor, Reconcile, Recovered, Suspicion};
pub use settle::Taken;
pub use standing::Standing;
pub use version::Registration;
pub use writer::{Writer, WriterHandle};

use crate::{
    metrics::Metrics,
    postgres::{Pool, Session},
};

/// The queue without limits that every executor polls: resumed, forked and recovered direct starts land there.
pub const INTERNAL_QUEUE: &str = "_dbos_internal_queue";

/// The system database: a pool, and the name of the schema. Cheap to clone.
#[derive(Clone)]
pub struct SystemDatabase {
    pool: Pool,
    schema: schema::SchemaName,
    standing: Arc<standing::Known>,
    fence: Fence,
    composed: Arc<Mutex<Composed>>,
    metrics: Arc<Metrics>,
}

/// Statements by their templates, and the layout that each was composed for.
type Composed = HashMap<String, (layout::Layout, Arc<str>)>;

/// Statements that are kept as they were composed: more than there are.
const COMPOSED: usize = 256;

impl SystemDatabase {
    /// On this pool.
    pub fn new(pool: Pool, schema: schema::SchemaName) -> SystemDatabase {
        SystemDatabase {
            pool,
            schema,
            standing: Arc::default(),
            fence: Fence::default(),
            composed: Arc::default(),
            metrics: Arc::default(),
        }
    }

    /// The same, with claims and what is written counted here.
    #[must_use]
    pub fn counted(self, metrics: Arc<Metrics>) -> SystemDatabase {
        SystemDatabase { metrics, ..self }
    }

    /// Where claims and what is written are counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A connection, while the fence is open; the schema's layout is known from then on.
    async fn client(&self) -> Result<Session, SysdbError> {
        self.fence.check()?; // a connection may be long in coming
        let client = self.pool.get().await?;
        if self.standing.get().is_none() {
            self.look_by(&client).await?;
        }
        self.fence.check()?;
        Ok(client)
    }

    /// A statement for the schema's layout, see [`layout`]: with the schema for `{s}`, and the transaction's start in
    /// milliseconds for `{now}`.
    fn sql(&self, template: &str) -> Arc<str> {
        let layout = self.standing.get().map_or(layout::Layout::NEWEST, Standing::layout);
        let mut composed = self.composed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, statement)) = composed.get(template)
            && *of == layout
        {
            return statement.clone();
        }
        let statement: Arc<str> = layout.compose(template, self.schema.quoted()).into();
        if composed.len() >= COMPOSED {
            composed.clear();
        }
        composed.insert(template.to_owned(), (layout, statement.clone()));
        statement
    }
}
