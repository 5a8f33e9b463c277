//! What the doctor asks the database. Nothing here changes anything, and nothing takes long: each question is a read-only
//! transaction with a time limit of its own, counts stop at a cap, and tables that may be large are read along an index.

mod queue;
mod server;
mod sessions;
mod tables;
mod workers;

use std::time::Duration;

use tokio_postgres::Row;

pub use queue::{Group, Held, Unserved};
pub use server::{Server, Setting};
pub use sessions::{Slot, Standstill};
pub use tables::{Index, TableFigures};
pub use workers::{PausedQueue, Registered, Version, WorkerRow};

use super::grants::{self, Grant, Room};
use super::schema::{Prefix, SchemaName};
use super::{SysdbError, SystemDatabase};
use crate::postgres::{Parameters, Pool, Statements};

/// The limits of a question, set for its transaction alone, so that they hold behind a pooler as well. $1 milliseconds.
const BOUNDED: &str =
    "SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', $1, true)";

/// What the doctor looks at.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Our application.
    pub application: String,
    /// Our version.
    pub version: String,
    /// The workflow that we can run.
    pub workflow: String,
    /// Its class.
    pub class: String,
    /// Serialisations that we can read.
    pub formats: Vec<String>,
    /// Our queues.
    pub queues: Vec<String>,
    /// What waits, runs or is held for longer is worth a word.
    pub patience: Duration,
}

/// Asks one database's questions.
pub struct Examiner {
    sysdb: SystemDatabase,
    prefix: Prefix,
    subject: Subject,
    limit: Duration,
    cap: i64,
}

/// Rows of one kind: how many, as far as they were counted, and what they look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// How many.
    pub count: i64,
    /// There may be more: the count ended at its cap.
    pub capped: bool,
    /// Age of the oldest one, in seconds.
    pub oldest: f64,
    /// A few of them, the oldest first.
    pub examples: Vec<String>,
}

impl Seen {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Examiner {
    /// On this database. A question takes `limit` at most; counts end at `cap`.
    pub fn new(sysdb: SystemDatabase, prefix: Prefix, subject: Subject, limit: Duration, cap: i64) -> Examiner {
        Examiner { sysdb, prefix, subject, limit, cap }
    }

    /// What it looks at.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    fn schema(&self) -> &SchemaName {
        &self.sysdb.schema
    }

    /// A statement for the schema's layout, with the names of the application tables, the cap, and what an application's row
    /// is: `w` of application $1.
    fn compose(&self, template: &str) -> String {
        let mut template = template
            .replace("{ours}", "(w.application_name = $1 OR w.application_name IS NULL OR w.application_name = '')")
            .replace("{cap}", &self.cap.to_string());
        for table in ["workers", "crashes", "executions", "flow_pins", "flow_versions", "queue_pauses"] {
            template = template.replace(&format!("{{{table}}}"), &self.prefix.table(table));
        }
        self.sysdb.sql(&template).to_string()
    }

    async fn ask(&self, template: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>, SysdbError> {
        let sql = self.compose(template);
        let mut client = self.sysdb.pool.get().await?;
        let limit = self.limit.as_millis().to_string();
        let (transaction, _) = client.transaction_with(None, BOUNDED, &[&limit]).await?;
        let rows = transaction.query(&sql, parameters).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    async fn ask_one(&self, template: &str, parameters: &Parameters<'_>) -> Result<Row, SysdbError> {
        let mut rows = self.ask(template, parameters).await?;
        Ok(rows.swap_remove(0)) // these have one row, whatever there is
    }

    /// Of rows that have an `id` and an `age` in seconds, at most `{cap}`.
    async fn seen(&self, rows: &str, parameters: &Parameters<'_>) -> Result<Seen, SysdbError> {
        let template = format!(
            "SELECT count(*), COALESCE(max(age), 0)::float8, COALESCE((array_agg(id ORDER BY age DESC, id))[1:3], '{{}}')
               FROM ({rows} LIMIT {{cap}}) found(id, age)"
        );
        let row = self.ask_one(&template, parameters).await?;
        let count = row.try_get(0)?;
        Ok(Seen { count, capped: count >= self.cap, oldest: row.try_get(1)?, examples: row.try_get(2)? })
    }

    /// What the current role lacks of these rights in this database.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn lacking(&self, grants: &[Grant], rooms: &[Room]) -> Result<Vec<String>, SysdbError> {
        self.lacking_in(&self.sysdb.pool, grants, rooms).await
    }

    /// The same for another one.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn lacking_in(&self, pool: &Pool, grants: &[Grant], rooms: &[Room]) -> Result<Vec<String>, SysdbError> {
        grants::missing(&pool.get().await?, grants, rooms, self.schema(), &self.prefix).await
    }

    fn patience(&self) -> f64 {
        self.subject.patience.as_secs_f64()
    }

    fn patience_ms(&self) -> i64 {
        i64::try_from(self.subject.patience.as_millis()).unwrap_or(i64::MAX)
    }
}
