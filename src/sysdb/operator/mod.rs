//! What an operator asks and does: lists of executions, one in all its parts, cancel, resume, rewind and fork as DBOS's clients
//! do them, queues and their pauses, workers and their drains.
//!
//! Nothing here needs a lease, and nothing of it is on the way of an execution. Each statement reads a bounded number of
//! rows by an index, whatever the tables hold; only rows of the same millisecond are put in order together, however many they are.

mod again;
mod control;
mod details;
mod follow;
mod fork;
mod list;
mod pauses;
mod places;
mod queues;
mod status;
mod trees;
mod workers;

pub use again::{Again, Signal, Standing, StepMark};
pub use control::{Bulk, Changed, Outcome};
pub use details::{Crash, Details, Row, Step};
pub use follow::{Happened, Moment, News};
pub use fork::{Fork, Forked};
pub use list::{Filter, Looked, Page, Summary};
pub use pauses::{Pause, Paused, Unpaused};
pub use queues::{Partition, QueueReport, Registered};
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
    /// Executions that one command about trees reaches.
    tree: usize,
    /// Rows that are looked through for one page.
    looked: i64,
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
    /// A tree has more executions than one command reaches.
    #[error(
        "more than {most} executions belong to these trees, and those beyond are as they were, the children of \"{below}\" \
         among them: name it, and go on from there"
    )]
    Deep {
        /// How many it reaches.
        most: usize,
        /// The first of which not all children were reached.
        below: String,
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

impl OperatorError {
    /// Whether the same may succeed later, because the connection or the server was at fault.
    pub fn is_transient(&self) -> bool {
        matches!(self, OperatorError::Database(error) if error.is_transient())
    }

    /// The server's code for what went wrong, where it was the server that said so.
    pub fn code(&self) -> Option<&str> {
        match self {
            OperatorError::Database(error) => error.code(),
            _ => None,
        }
    }
}

/// Executions that one command about trees reaches, at most.
const TREE: usize = 250_000;
/// Rows that are looked through for one page of a list, at most.
const LOOKED: i64 = 500_000;

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
        Operator { sysdb: sysdb.clone(), tables, application: application.into(), tree: TREE, looked: LOOKED }
    }

    /// Reaching so many executions of trees at once, instead of a quarter of a million.
    #[must_use]
    pub fn reaching(self, tree: usize) -> Operator {
        Operator { tree, ..self }
    }

    /// Looking through so many rows for one page of a list, instead of half a million.
    #[must_use]
    pub fn looking_through(self, looked: i64) -> Operator {
        Operator { looked, ..self }
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
