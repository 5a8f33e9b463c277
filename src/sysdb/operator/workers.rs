//! Workers, what they have, and asking them to drain.

use uuid::Uuid;

use super::{Operator, OperatorError};
use crate::postgres::Statements;

/// Workers that are shown.
const WORKERS: i64 = 1000;
/// Claimed rows that are looked at.
const ROWS: i64 = 20_000;

/// Where in its life a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It serves.
    Running,
    /// It finishes what runs, and ends.
    Draining,
    /// It has ended.
    Stopped,
    /// Its lease has ended, and it didn't say why.
    Expired,
    /// It never registered here: an executor of another SDK, of which only its claimed rows are known.
    Unregistered,
}

/// A worker. Times are milliseconds since the epoch, by the database's clock.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    /// Its id.
    pub id: String,
    /// Its life.
    pub incarnation: Option<Uuid>,
    /// Where in its life it is.
    pub state: WorkerState,
    /// Its machine.
    pub host: Option<String>,
    /// Its process there.
    pub pid: Option<i32>,
    /// Version of the program.
    pub version: Option<String>,
    /// Version of the application that it runs.
    pub application_version: Option<String>,
    /// Its queues, with commas between them.
    pub queues: Option<String>,
    /// Since when it lives.
    pub since: Option<i64>,
    /// When it renewed last.
    pub renewed_at: Option<i64>,
    /// When its lease ends, or ended.
    pub expires_at: Option<i64>,
    /// It was asked to drain, and when.
    pub drain_asked_at: Option<i64>,
    /// Claimed rows that it works on, as far as the database says.
    pub running: i64,
    /// Claimed rows that wait for their start, for their children, or in a pause.
    pub waiting: i64,
    /// Not all claimed rows were looked at, so it may have more.
    pub at_least: bool,
}

/// A worker that was asked to drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Its id.
    pub worker: String,
    /// The life that ends.
    pub incarnation: Uuid,
    /// It drains already.
    pub draining: bool,
    process: Process,
}

/// A process, as far as its machine tells it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    machine: Option<String>,
    pid: Option<i32>,
    started: Option<i64>,
}

/// $1 application, $2 most workers.
const LEASES: &str = "
SELECT k.id, k.incarnation, k.state, k.expires_at <= now(), k.host, k.pid, k.worker_version, k.application_version, k.queue_name,
       (extract(epoch FROM k.started_at) * 1000)::bigint, (extract(epoch FROM k.renewed_at) * 1000)::bigint,
       (extract(epoch FROM k.expires_at) * 1000)::bigint,
       (SELECT (extract(epoch FROM d.requested_at) * 1000)::bigint FROM {drains} d
         WHERE d.worker_id = k.id AND d.incarnation = k.incarnation)
  FROM {workers} k
 WHERE COALESCE(k.application_name, $1) = $1
 ORDER BY k.expires_at DESC LIMIT $2";

/// $1 application, $2 most rows. Rides `idx_workflow_status_pending`. A workflow waits whose work is recorded (for its children),
/// whose last step is the timer of its start, or whose row says paused.
const HELD: &str = "
SELECT h.executor_id, count(*), count(*) FILTER (WHERE h.waits)
  FROM (SELECT r.executor_id,
               COALESCE((SELECT e.status FROM {executions} e WHERE e.id = r.workflow_uuid) = 'paused', FALSE)
               OR COALESCE((SELECT o.function_name = 'DBOS.sleep' FROM {s}.operation_outputs o
                             WHERE o.workflow_uuid = r.workflow_uuid ORDER BY o.function_id DESC LIMIT 1), FALSE)
               OR (SELECT TRUE FROM {s}.operation_outputs o
                    WHERE o.workflow_uuid = r.workflow_uuid AND o.function_name = $3 LIMIT 1) IS NOT NULL AS waits
          FROM (SELECT w.workflow_uuid, COALESCE(w.executor_id, '') AS executor_id FROM {s}.workflow_status w
                 WHERE w.status = 'PENDING'
                   AND (w.application_name = $1 OR w.application_name IS NULL OR w.application_name = '')
                 ORDER BY w.created_at LIMIT $2) r) h
 GROUP BY h.executor_id ORDER BY h.executor_id";

/// $1 workers or NULL, $2 at once, $3 who, $4 application. Only who lives: a request is for one process, by its life, so that whoever
/// comes after it isn't meant.
const ASK: &str = "
WITH live AS (
  SELECT k.id, k.incarnation, k.state, k.process_identity, k.pid, k.process_started FROM {workers} k
   WHERE ($1::text[] IS NULL OR k.id = ANY($1)) AND COALESCE(k.application_name, $4) = $4
     AND k.expires_at > now() AND k.state <> 'stopped'
), asked AS (
  INSERT INTO {drains} AS d (worker_id, incarnation, at_once, requested_by) SELECT id, incarnation, $2, $3 FROM live
  ON CONFLICT (worker_id) DO UPDATE
     SET incarnation = EXCLUDED.incarnation, requested_at = now(), requested_by = EXCLUDED.requested_by,
         at_once = EXCLUDED.at_once OR d.at_once AND d.incarnation = EXCLUDED.incarnation
)
SELECT id, incarnation, state = 'draining', process_identity, pid, process_started FROM live ORDER BY id";

/// Requests that nobody can obey any more.
const OLD: &str = "
DELETE FROM {drains} d
 WHERE d.requested_at < now() - interval '1 day'
   AND NOT EXISTS (SELECT FROM {workers} k WHERE k.id = d.worker_id AND k.incarnation = d.incarnation AND k.expires_at > now())";

impl Operator {
    /// Workers of our application, whose lease ends last first, and the executors that never registered but have claimed rows.
    /// `worked` is the step that is recorded when a workflow's own work is done. And the time.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn workers(&self, worked: &str) -> Result<(Vec<WorkerRow>, i64), OperatorError> {
        let client = self.sysdb.client().await?;
        let now = client.query_one(&self.sql("SELECT {now}"), &[]).await?.try_get(0)?;
        let mut workers = Vec::new();
        for row in client.query(&self.sql(LEASES), &[&self.application, &WORKERS]).await? {
            let (state, expired): (String, bool) = (row.try_get(2)?, row.try_get(3)?);
            workers.push(WorkerRow {
                id: row.try_get(0)?,
                incarnation: row.try_get(1)?,
                state: match (state.as_str(), expired) {
                    ("stopped", _) => WorkerState::Stopped,
                    (_, true) => WorkerState::Expired,
                    ("draining", false) => WorkerState::Draining,
                    _ => WorkerState::Running,
                },
                host: row.try_get(4)?,
                pid: row.try_get(5)?,
                version: row.try_get(6)?,
                application_version: row.try_get(7)?,
                queues: row.try_get(8)?,
                since: row.try_get(9)?,
                renewed_at: row.try_get(10)?,
                expires_at: row.try_get(11)?,
                drain_asked_at: row.try_get(12)?,
                running: 0,
                waiting: 0,
                at_least: false,
            });
        }
        let mut looked = 0;
        for row in client.query(&self.sql(HELD), &[&self.application, &ROWS, &worked]).await? {
            let (id, held, waiting): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            looked += held;
            match workers.iter_mut().find(|worker| worker.id == id) {
                Some(worker) => (worker.running, worker.waiting) = (held - waiting, waiting),
                None => workers.push(WorkerRow {
                    id,
                    incarnation: None,
                    state: WorkerState::Unregistered,
                    host: None,
                    pid: None,
                    version: None,
                    application_version: None,
                    queues: None,
                    since: None,
                    renewed_at: None,
                    expires_at: None,
                    drain_asked_at: None,
                    running: held - waiting,
                    waiting,
                    at_least: false,
                }),
            }
        }
        workers.iter_mut().for_each(|worker| worker.at_least = looked >= ROWS);
        Ok((workers, now))
    }

    /// Ask live workers of our application to drain and end as at SIGTERM, or at once as at the second one: this one, or all.
    /// Those that were asked.
    ///
    /// # Errors
    /// [`OperatorError::NoWorker`] for one that doesn't live, and those of the database.
    pub async fn drain(&self, worker: Option<&str>, at_once: bool, by: &str) -> Result<Vec<Drain>, OperatorError> {
        let client = self.sysdb.client().await?;
        client.execute(&self.sql(OLD), &[]).await?;
        let ids = worker.map(|worker| vec![worker]);
        let mut asked = Vec::new();
        for row in client.query(&self.sql(ASK), &[&ids, &at_once, &by, &self.application]).await? {
            let process = Process { machine: row.try_get(3)?, pid: row.try_get(4)?, started: row.try_get(5)? };
            asked.push(Drain {
                worker: row.try_get(0)?,
                incarnation: row.try_get(1)?,
                draining: row.try_get(2)?,
                process,
            });
        }
        match worker {
            Some(worker) if asked.is_empty() => Err(OperatorError::NoWorker(worker.to_owned())),
            _ => Ok(asked),
        }
    }

    /// Where this life of a worker is, or a later one of the same process; `None` when another process has begun, or its row is gone.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn life(&self, drain: &Drain) -> Result<Option<WorkerState>, OperatorError> {
        let client = self.sysdb.client().await?;
        // A process whose lease ends goes on with another life, and the request with it.
        let sql = self.sql(
            "SELECT state, expires_at <= now() FROM {workers}
              WHERE id = $1 AND (incarnation = $2 OR process_identity = $3 AND pid = $4 AND process_started = $5)",
        );
        let Process { machine, pid, started } = &drain.process;
        let row = client.query_opt(&sql, &[&drain.worker, &drain.incarnation, machine, pid, started]).await?;
        let Some(row) = row else { return Ok(None) };
        let (state, expired): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Some(match (state.as_str(), expired) {
            ("stopped", _) => WorkerState::Stopped,
            (_, true) => WorkerState::Expired,
            ("draining", false) => WorkerState::Draining,
            _ => WorkerState::Running,
        }))
    }
}
