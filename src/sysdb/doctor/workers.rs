//! Workers as they registered, versions, and queues as they are registered.

use super::{Examiner, Seen, SysdbError};
use crate::sysdb::query::TOKENLESS;
use crate::sysdb::{QueueLimits, queues};

/// A worker's row.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    /// Its id.
    pub id: String,
    /// Its host.
    pub host: String,
    /// Its application.
    pub application: String,
    /// Its application version.
    pub version: String,
    /// Its queues.
    pub queues: Vec<String>,
    /// The program's version.
    pub program: String,
    /// `running`, `draining` or `stopped`.
    pub state: String,
    /// Whether it holds its lease.
    pub live: bool,
    /// Seconds since its lease ended, less than 0 while it holds.
    pub ended: f64,
    /// Seconds since it started.
    pub age: f64,
}

/// An application version as it is registered.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// How many seconds after now it claims to be made: a version of the future stays the newest.
    pub ahead: f64,
}

/// A queue of ours that an operator has paused.
#[derive(Clone, Debug)]
pub struct PausedQueue {
    /// Its name.
    pub name: String,
    /// By whom; empty where that isn't known.
    pub by: String,
    /// Why; empty where nobody said.
    pub reason: String,
    /// Seconds since then.
    pub age: f64,
}

/// A queue of ours as it is registered.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its name.
    pub name: String,
    /// The application that owns it; `None` for nobody.
    pub owner: Option<String>,
    /// Its limits.
    pub limits: QueueLimits,
}

const WORKERS: &str = "
SELECT id, COALESCE(host, ''), COALESCE(application_name, ''), COALESCE(application_version, ''), COALESCE(queue_name, ''),
       COALESCE(worker_version, ''), state, expires_at > now(), EXTRACT(epoch FROM now() - expires_at)::float8,
       EXTRACT(epoch FROM now() - started_at)::float8
  FROM {workers} ORDER BY expires_at DESC LIMIT {cap}";

/// $1 application. Where versions have no owners yet, they are there for all.
const LATEST: &str = "
SELECT v.version_name, (v.version_timestamp / 1000.0 - EXTRACT(epoch FROM now()))::float8
  FROM {s}.application_versions v
 WHERE COALESCE(to_jsonb(v) ->> 'application_name', '') IN ('', $1)
 ORDER BY v.version_timestamp DESC LIMIT 1";

/// $1 queues.
const REGISTERED: &str = "
SELECT name, NULLIF(to_jsonb(q) ->> 'application_name', '') AS owner, concurrency, worker_concurrency, rate_limit_max,
       rate_limit_period_sec, polling_interval_sec, {partition_limits}, {by_flag} AS by_flag
  FROM {s}.queues q WHERE name = ANY($1) ORDER BY name";

/// $1 queues.
const PAUSED: &str = "
SELECT queue_name, COALESCE(paused_by, ''), COALESCE(reason, ''), EXTRACT(epoch FROM now() - paused_at)::float8
  FROM {queue_pauses} WHERE queue_name = ANY($1) ORDER BY queue_name";

const CRASHES: &str = "
SELECT workflow_id || ' (' || crashes || ' times, last on ' || worker_id || ': ' || reason || ')',
       EXTRACT(epoch FROM now() - crashed_at)::float8 FROM {crashes} WHERE crashes >= $1";

impl Examiner {
    /// All registered workers, the live ones first.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, SysdbError> {
        let rows = self.ask(WORKERS, &[]).await?;
        let worker = |row: &tokio_postgres::Row| {
            let queues: String = row.try_get(4)?;
            Ok(WorkerRow {
                id: row.try_get(0)?,
                host: row.try_get(1)?,
                application: row.try_get(2)?,
                version: row.try_get(3)?,
                queues: queues.split(", ").map(str::to_owned).collect(),
                program: row.try_get(5)?,
                state: row.try_get(6)?,
                live: row.try_get(7)?,
                ended: row.try_get(8)?,
                age: row.try_get(9)?,
            })
        };
        rows.iter().map(worker).collect()
    }

    /// The newest version that is registered for our application: only its workers take what asks for none.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn latest_version(&self) -> Result<Option<Version>, SysdbError> {
        let rows = self.ask(LATEST, &[&self.subject.application]).await?;
        rows.first().map(|row| Ok(Version { name: row.try_get(0)?, ahead: row.try_get(1)? })).transpose()
    }

    /// Our queues, as far as they are registered.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn registered(&self) -> Result<Vec<Registered>, SysdbError> {
        let rows = self.ask(REGISTERED, &[&self.subject.queues]).await?;
        let registered = |row: &tokio_postgres::Row| {
            Ok(Registered { name: row.try_get(0)?, owner: row.try_get(1)?, limits: queues::read(row)? })
        };
        rows.iter().map(registered).collect()
    }

    /// Our queues, as far as operators have paused them.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn paused(&self) -> Result<Vec<PausedQueue>, SysdbError> {
        let rows = self.ask(PAUSED, &[&self.subject.queues]).await?;
        let paused = |row: &tokio_postgres::Row| {
            Ok(PausedQueue {
                name: row.try_get(0)?,
                by: row.try_get(1)?,
                reason: row.try_get(2)?,
                age: row.try_get(3)?,
            })
        };
        rows.iter().map(paused).collect()
    }

    /// Executors of SDKs before the ownership tokens that took from this queue lately.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn tokenless_executors(&self, queue: &str) -> Result<Vec<String>, SysdbError> {
        let rows = self.ask(TOKENLESS, &[&queue]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Executions that were at work when their worker died, so many times in a row at least.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn crashed(&self, times: i32) -> Result<Seen, SysdbError> {
        self.seen(CRASHES, &[&times]).await
    }
}
