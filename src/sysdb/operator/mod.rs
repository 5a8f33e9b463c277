//! What an operator asks and does: lists of executions, one in all its parts, cancel, resume, rewind and fork as DBOS's clients
//! do them, queues and their pauses, workers and their drains.
//!
//! Nothing here needs a lease, and nothing of it is on the way of an execution. Each statement reads a bounded number of
//! rows by an index, whatever the tables hold.

mod control;
mod details;
mod follow;
mod fork;
mod list;
mod pauses;
mod queues;
mod rewind;
mod status;
mod workers;

pub use control::{Changed, Outcome, State};
pub use details::{Crash, Details, Row, Step};
pub use follow::{Happened, Moment, News};
pub use fork::{Fork, Forked};
pub use list::{Filter, Page, Summary};
pub use pauses::{Pause, Paused, Unpaused};
pub use queues::{Partition, QueueReport, Registered};
pub use rewind::{Rewind, Signal};
pub use status::{Status, StatusError};
pub use workers::{Drain, WorkerRow, WorkerState};

use super::{SysdbError, SystemDatabase, WorkflowId, schema::Prefix};

/// Ids that one statement is about, at most.
pub const BATCH: usize = 500;

/// An operator's access to the system database and the tables beside it. Cheap to clone.
#[derive(Clone)]
pub struct Operator {
    sysdb: SystemDatabase,
    tables: Tables,
    /// Rows of this application, or of none, are in its lists.
    application: String,
}

/// The application's tables that operators look at.
#[derive(Clone)]
struct Tables {
    executions: String,
    workers: String,
    crashes: String,
    pauses: String,
    drains: String,
}

/// What an operator asked for can't be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// There is no such execution.
    #[error("there is no execution \"{0}\"; `fireflow-worker executions list` shows the ones there are")]
    Unknown(WorkflowId),
    /// It is in a state in which this can't be done.
    #[error("execution \"{id}\" is {state}: {why}")]
    State {
        /// Which.
        id: WorkflowId,
        /// Its status, as people call it.
        state: String,
        /// Why not, and what can be done.
        why: String,
    },
    /// The id of a fork is taken.
    #[error("there is already an execution \"{0}\"; choose another id for the fork")]
    Taken(WorkflowId),
    /// There is no such worker, or it doesn't live.
    #[error("there is no live worker \"{0}\"; `fireflow-worker workers` shows the ones there are")]
    NoWorker(String),
    /// The database.
    #[error(transparent)]
    Database(#[from] SysdbError),
}

impl From<tokio_postgres::Error> for OperatorError {
    fn from(error: tokio_postgres::Error) -> OperatorError {
        SysdbError::from(error).into()
    }
}

impl Operator {
    /// For the rows of this application, and the tables with this prefix.
    pub fn new(sysdb: &SystemDatabase, prefix: &Prefix, application: &str) -> Operator {
        let tables = Tables {
            executions: prefix.table("executions"),
            workers: prefix.table("workers"),
            crashes: prefix.table("crashes"),
            pauses: prefix.table("queue_pauses"),
            drains: prefix.table("drain_requests"),
        };
        Operator { sysdb: sysdb.clone(), tables, application: application.into() }
    }

    /// The system database.
    pub fn database(&self) -> &SystemDatabase {
        &self.sysdb
    }

    /// A statement for the schema's layout, with the names of the application's tables.
    fn sql(&self, template: &str) -> String {
        let statement = self.sysdb.sql(template);
        let tables = [
            ("{executions}", &self.tables.executions),
            ("{workers}", &self.tables.workers),
            ("{crashes}", &self.tables.crashes),
            ("{pauses}", &self.tables.pauses),
            ("{drains}", &self.tables.drains),
        ];
        tables.iter().fold(statement.to_string(), |statement, (name, table)| statement.replace(name, table))
    }
}
