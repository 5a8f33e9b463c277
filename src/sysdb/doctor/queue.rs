//! What waits, what runs, and what does neither.

use super::{Examiner, Seen, SysdbError};
use crate::sysdb::INTERNAL_QUEUE;

/// Rows that wait on a queue of ours and that nobody of our kind takes, by what they ask for.
#[derive(Clone, Debug)]
pub struct Group {
    /// The queue.
    pub queue: String,
    /// Their application, empty for none.
    pub application: String,
    /// The version that they ask for, empty for none.
    pub version: String,
    /// Name of the workflow.
    pub name: String,
    /// Class of the workflow, empty for none.
    pub class: String,
    /// Name of a configured instance, empty for none.
    pub config: String,
    /// Serialisation of the inputs; `None` where it isn't named.
    pub serialization: Option<String>,
    /// How many.
    pub count: i64,
    /// Age of the oldest, in seconds.
    pub oldest: f64,
    /// One of them.
    pub example: String,
}

/// Executions that are PENDING for an executor that holds no lease.
#[derive(Clone, Debug)]
pub struct Held {
    /// The executor.
    pub executor: String,
    /// Whether it is a worker that once registered.
    pub registered: bool,
    /// How many.
    pub count: i64,
    /// Seconds since the oldest was claimed.
    pub oldest: f64,
    /// One of them.
    pub example: String,
}

/// A queue on which our executions wait.
#[derive(Clone, Debug)]
pub struct Unserved {
    /// The queue.
    pub queue: String,
    /// How many wait, up to a thousand.
    pub count: i64,
}

/// $1 application, $2 queues, $3 workflow, $4 class, $5 formats, $6 versions that somebody runs. As a claim has it.
const TAKEN: &str = "
   {ours} AND w.name = $3 AND COALESCE(w.class_name, '') IN ('', $4) AND COALESCE(w.config_name, '') = ''
   AND (w.serialization IS NULL OR w.serialization = ANY($5)) AND COALESCE(w.application_version, '') = ANY($6)";

/// As $1 to $6 above, and $7 milliseconds. Rides `idx_workflow_status_in_flight_v2`. One that was delayed, resumed or handed back
/// waits since then.
const WAITING: &str = "
SELECT w.workflow_uuid, (({now} - GREATEST(w.created_at, w.updated_at)) / 1000.0)::float8
  FROM {s}.workflow_status w
 WHERE w.status = 'ENQUEUED' AND w.queue_name = ANY($2) AND w.created_at <= {now} - $7::bigint
   AND w.updated_at <= {now} - $7::bigint AND {taken}";

/// As $1 to $6 above. Of what is on the internal queue for other applications, nothing concerns us.
const STRANGERS: &str = "
SELECT queue_name, COALESCE(application_name, ''), COALESCE(application_version, ''), COALESCE(name, ''),
       COALESCE(class_name, '')::text, COALESCE(config_name, '')::text, serialization, count(*),
       (({now} - min(created_at)) / 1000.0)::float8, min(workflow_uuid)
  FROM (SELECT * FROM {s}.workflow_status WHERE status = 'ENQUEUED' AND queue_name = ANY($2) LIMIT {cap}) w
 WHERE NOT COALESCE({taken}, FALSE)
   AND (queue_name <> '{internal}' OR application_name = $1)
 GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 8 DESC LIMIT 50";

/// $1 queues. As many as [`STRANGERS`] looks at.
const LOOKED_AT: &str = "
SELECT count(*) FROM (SELECT FROM {s}.workflow_status WHERE status = 'ENQUEUED' AND queue_name = ANY($1) LIMIT {cap}) w";

/// $1 application. Rides `idx_workflow_status_delayed`. A worker releases what is due within a second.
const DELAYED: &str = "
SELECT w.workflow_uuid, (({now} - w.delay_until_epoch_ms) / 1000.0)::float8
  FROM {s}.workflow_status w
 WHERE w.status = 'DELAYED' AND w.delay_until_epoch_ms < {now} - 60000 AND {ours}";

/// $1 application. Rides `idx_workflow_status_deadline`. A worker cancels what is due within a second.
const EXPIRED: &str = "
SELECT w.workflow_uuid, (({now} - w.workflow_deadline_epoch_ms) / 1000.0)::float8
  FROM {s}.workflow_status w
 WHERE w.status IN ('ENQUEUED', 'PENDING', 'DELAYED') AND w.workflow_deadline_epoch_ms IS NOT NULL
   AND w.workflow_deadline_epoch_ms < {now} - 60000 AND {ours}";

/// $1 application. Rides `idx_workflow_status_pending`.
const HELD: &str = "
SELECT w.executor, k.id IS NOT NULL, count(*), (({now} - min(w.since)) / 1000.0)::float8, min(w.workflow_uuid)
  FROM (SELECT workflow_uuid, COALESCE(executor_id, '') AS executor,
               COALESCE(started_at_epoch_ms, updated_at, created_at) AS since
          FROM {s}.workflow_status w WHERE status = 'PENDING' AND {ours} ORDER BY created_at LIMIT {cap}) w
  LEFT JOIN {workers} k ON k.id = w.executor
 WHERE k.id IS NULL OR k.expires_at <= now()
 GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 50";

/// $1 application, $2 milliseconds. Rides `idx_workflow_status_failed`.
const PARKED: &str = "
SELECT w.workflow_uuid, (({now} - w.updated_at) / 1000.0)::float8
  FROM {s}.workflow_status w
 WHERE w.status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' AND {ours}";

/// $1 application, $2 workflow. From name to name along `idx_workflow_status_in_flight_v2`, without reading what is between.
const QUEUES: &str = "
WITH RECURSIVE names(queue) AS (
  (SELECT min(queue_name) FROM {s}.workflow_status WHERE status IN ('ENQUEUED', 'PENDING'))
  UNION ALL
  SELECT (SELECT min(queue_name) FROM {s}.workflow_status WHERE status IN ('ENQUEUED', 'PENDING') AND queue_name > names.queue)
    FROM names WHERE names.queue IS NOT NULL)
SELECT queue, waiting FROM (SELECT queue FROM names WHERE queue IS NOT NULL LIMIT 1000) known, LATERAL (
       SELECT count(*) AS waiting FROM (
              SELECT FROM {s}.workflow_status w
               WHERE w.status = 'ENQUEUED' AND w.queue_name = known.queue AND w.name = $2 AND {ours} LIMIT 1000) found) counted
 WHERE waiting > 0";

impl Examiner {
    /// Our queues, and the internal one.
    pub fn looked_at(&self) -> Vec<String> {
        self.subject.queues.iter().cloned().chain([INTERNAL_QUEUE.to_owned()]).collect()
    }

    /// What waits beyond the patience on one of our queues, or on the internal one, and is for workers of these versions to take.
    /// Without a version is the empty one.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn waiting(&self, queue: &str, versions: &[String]) -> Result<Seen, SysdbError> {
        let subject = &self.subject;
        let (queues, patience) = (vec![queue], self.patience_ms());
        let rows = WAITING.replace("{taken}", TAKEN);
        let who: [&dyn crate::postgres::Parameter; 7] =
            [&subject.application, &queues, &subject.workflow, &subject.class, &subject.formats, &versions, &patience];
        self.seen(&rows, &who).await
    }

    /// What waits on our queues and isn't for workers of these versions to take; and at how many rows it looked, if there may be
    /// more.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn strangers(&self, versions: &[String]) -> Result<(Vec<Group>, Option<i64>), SysdbError> {
        let subject = &self.subject;
        let queues = self.looked_at();
        let sql = STRANGERS.replace("{taken}", TAKEN).replace("{internal}", INTERNAL_QUEUE);
        let who: [&dyn crate::postgres::Parameter; 6] =
            [&subject.application, &queues, &subject.workflow, &subject.class, &subject.formats, &versions];
        let group = |row: &tokio_postgres::Row| {
            Ok(Group {
                queue: row.try_get(0)?,
                application: row.try_get(1)?,
                version: row.try_get(2)?,
                name: row.try_get(3)?,
                class: row.try_get(4)?,
                config: row.try_get(5)?,
                serialization: row.try_get(6)?,
                count: row.try_get(7)?,
                oldest: row.try_get(8)?,
                example: row.try_get(9)?,
            })
        };
        let groups = self.ask(&sql, &who).await?.iter().map(group).collect::<Result<_, SysdbError>>()?;
        let looked: i64 = self.ask_one(LOOKED_AT, &[&queues]).await?.try_get(0)?;
        Ok((groups, (looked >= self.cap).then_some(looked)))
    }

    /// DELAYED rows whose delay is over for more than a minute.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn overdue(&self) -> Result<Seen, SysdbError> {
        self.seen(DELAYED, &[&self.subject.application]).await
    }

    /// Active rows whose deadline has passed more than a minute ago.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn expired_deadlines(&self) -> Result<Seen, SysdbError> {
        self.seen(EXPIRED, &[&self.subject.application]).await
    }

    /// PENDING rows of executors that hold no lease, by executor.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn held(&self) -> Result<Vec<Held>, SysdbError> {
        let held = |row: &tokio_postgres::Row| {
            let (executor, registered) = (row.try_get(0)?, row.try_get(1)?);
            let (count, oldest) = (row.try_get(2)?, row.try_get(3)?);
            Ok(Held { executor, registered, count, oldest, example: row.try_get(4)? })
        };
        self.ask(HELD, &[&self.subject.application]).await?.iter().map(held).collect()
    }

    /// Parked executions.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn parked(&self) -> Result<Seen, SysdbError> {
        self.seen(PARKED, &[&self.subject.application]).await
    }

    /// Queues on which executions of ours wait.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn queues_in_use(&self) -> Result<Vec<Unserved>, SysdbError> {
        let rows = self.ask(QUEUES, &[&self.subject.application, &self.subject.workflow]).await?;
        rows.iter().map(|row| Ok(Unserved { queue: row.try_get(0)?, count: row.try_get(1)? })).collect()
    }
}
