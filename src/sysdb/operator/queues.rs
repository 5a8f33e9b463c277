//! What stands on a queue.

use std::collections::{BTreeSet, HashMap};

use super::super::{QueueLimits, queues};
use super::{Operator, OperatorError, Pause};
use crate::postgres::{Session, Statements};

/// Rows that are counted; a count of so many means "at least".
pub(super) const COUNTED: i64 = 100_000;
/// Different priorities that are looked at for the oldest.
const PRIORITIES: i64 = 1000;
/// Partitions that are named.
const PARTITIONS: i64 = 20;
/// Partitions that are counted.
const KEYS: i64 = 1000;
/// Queues that are shown.
const QUEUES: i64 = 200;
/// Workers that are named.
const WORKERS: i64 = 100;

/// A queue. Counts that reach a hundred thousand mean "at least", and those of `at_least` do in any case. Times are milliseconds
/// since the epoch.
#[derive(Clone, Debug)]
pub struct QueueReport {
    /// Its name.
    pub name: String,
    /// As it is registered for our application.
    pub registered: Option<Registered>,
    /// Its pause.
    pub pause: Option<Pause>,
    /// Rows that wait.
    pub queued: i64,
    /// Rows whose delay isn't over.
    pub delayed: i64,
    /// Rows that are claimed.
    pub running: i64,
    /// When the oldest row that waits was enqueued.
    pub oldest: Option<i64>,
    /// Claims in the last minute.
    pub started: i64,
    /// Ends in the last minute. One that was cancelled or parked is on no queue any more, and not among them.
    pub ended: i64,
    /// Not all rows of all queues were looked at for what is delayed, started or ended, in this order: there may be more.
    pub at_least: [bool; 3],
    /// Claimed rows by who has them.
    pub workers: Vec<(String, i64)>,
    /// Partitions with rows that wait: the first twenty.
    pub partitions: Vec<Partition>,
    /// How many there are, as far as a thousand.
    pub partition_count: i64,
}

/// A queue's registration.
#[derive(Clone, Debug)]
pub struct Registered {
    /// What its columns mean.
    pub limits: QueueLimits,
    /// When it was changed last.
    pub updated_at: i64,
}

/// A partition of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its key.
    pub key: String,
    /// Rows that wait.
    pub queued: i64,
    /// Rows that are claimed.
    pub running: i64,
}

/// $1 queue, $2 application, $3 most rows, $4 most priorities. Counts ride `idx_workflow_status_in_flight_v2`; the oldest is the first of each priority,
/// by a loose scan of the same index.
const STATE: &str = "
WITH RECURSIVE priorities AS (
  (SELECT priority, created_at, 1 AS place FROM {s}.workflow_status
    WHERE queue_name = $1 AND status = 'ENQUEUED' AND {mine} ORDER BY priority, created_at LIMIT 1)
  UNION ALL
  SELECT next.priority, next.created_at, p.place + 1
    FROM priorities p CROSS JOIN LATERAL (
         SELECT priority, created_at FROM {s}.workflow_status
          WHERE queue_name = $1 AND status = 'ENQUEUED' AND priority > p.priority AND {mine}
          ORDER BY priority, created_at LIMIT 1) next
   WHERE p.place < $4
)
SELECT (SELECT count(*) FROM (SELECT FROM {s}.workflow_status
                               WHERE queue_name = $1 AND status = 'ENQUEUED' AND {mine} LIMIT $3) q),
       (SELECT count(*) FROM (SELECT FROM {s}.workflow_status
                               WHERE queue_name = $1 AND status = 'PENDING' AND {mine} LIMIT $3) r),
       (SELECT min(created_at) FROM priorities), {now}";

/// $1 most rows, $2 application. What is delayed, and what started and ended in the last minute, has no index by its queue: so many rows
/// of all queues are looked at, once for all of them. The row without a queue's name says how many that were.
const RECENT: &str = "
WITH seen AS MATERIALIZED (
  (SELECT 0 AS kind, queue_name, application_name FROM {s}.workflow_status WHERE status = 'DELAYED' LIMIT $1)
  UNION ALL
  (SELECT 1, queue_name, application_name FROM {s}.workflow_status
    WHERE started_at_epoch_ms IS NOT NULL AND started_at_epoch_ms > {now} - 60000 LIMIT $1)
  UNION ALL
  (SELECT 2, queue_name, application_name FROM {s}.workflow_status
    WHERE completed_at IS NOT NULL AND completed_at > {now} - 60000 LIMIT $1)
)
SELECT kind, queue_name, count(*) FROM seen WHERE queue_name IS NOT NULL AND {mine} GROUP BY kind, queue_name
UNION ALL
SELECT kind, NULL, count(*) FROM seen GROUP BY kind";

/// $1 queue, $2 application, $3 most rows, $4 most workers.
const BY_WORKER: &str = "
SELECT COALESCE(executor_id, ''), count(*)
  FROM (SELECT executor_id FROM {s}.workflow_status WHERE queue_name = $1 AND status = 'PENDING' AND {mine} LIMIT $3) r
 GROUP BY executor_id ORDER BY 2 DESC, 1 LIMIT $4";

/// $1 queue, $2 application, $3 most keys. Distinct keys by a loose index scan, as in a claim.
const BY_PARTITION: &str = "
WITH RECURSIVE keys AS (
  (SELECT queue_partition_key AS key, 1 AS place FROM {s}.workflow_status
    WHERE queue_name = $1 AND status = 'ENQUEUED' AND queue_partition_key IS NOT NULL AND {mine}
    ORDER BY queue_partition_key LIMIT 1)
  UNION ALL
  SELECT next.queue_partition_key, keys.place + 1
    FROM keys CROSS JOIN LATERAL (
         SELECT queue_partition_key FROM {s}.workflow_status
          WHERE queue_name = $1 AND status = 'ENQUEUED' AND queue_partition_key > keys.key AND {mine}
          ORDER BY queue_partition_key LIMIT 1) next
   WHERE keys.place < $3
)
SELECT k.key, (SELECT count(*) FROM keys),
       (SELECT count(*) FROM (SELECT FROM {s}.workflow_status WHERE queue_name = $1 AND status = 'ENQUEUED'
                                 AND queue_partition_key = k.key AND {mine} LIMIT $4) q),
       (SELECT count(*) FROM (SELECT FROM {s}.workflow_status WHERE queue_name = $1 AND status = 'PENDING'
                                 AND queue_partition_key = k.key AND {mine} LIMIT $4) r)
  FROM (SELECT key FROM keys ORDER BY key LIMIT $5) k ORDER BY k.key";

/// Names of queues on which something is ENQUEUED or PENDING, by a loose index scan. $1 most.
const ACTIVE: &str = "
WITH RECURSIVE names AS (
  (SELECT queue_name AS name, 1 AS place FROM {s}.workflow_status
    WHERE status IN ('ENQUEUED', 'PENDING') AND queue_name IS NOT NULL ORDER BY queue_name LIMIT 1)
  UNION ALL
  SELECT next.queue_name, names.place + 1
    FROM names CROSS JOIN LATERAL (
         SELECT queue_name FROM {s}.workflow_status
          WHERE status IN ('ENQUEUED', 'PENDING') AND queue_name > names.name ORDER BY queue_name LIMIT 1) next
   WHERE names.place < $1
)
SELECT name FROM names";

/// As in a claim: our application's rows, and those of none.
const MINE: &str = "(application_name = $2 OR application_name IS NULL OR application_name = '')";

impl Operator {
    /// These queues; where none is named, those of the configuration, all that are registered for our application, those that
    /// are paused, and those on which something waits or runs, by name.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn queues(
        &self,
        named: &[String],
        configured: &[String],
    ) -> Result<(Vec<QueueReport>, i64), OperatorError> {
        let pauses = self.pauses().await?;
        let client = self.sysdb.client().await?;
        let mut names: BTreeSet<String> = named.iter().cloned().collect();
        if names.is_empty() {
            names.extend(configured.iter().cloned());
            names.extend(pauses.iter().map(|pause| pause.queue.clone()));
            let sql = "SELECT name FROM {s}.queues WHERE {queue_is_ours} AND $1::bigint > 0 ORDER BY name LIMIT $1";
            for row in client.query(&self.sql(sql), &[&QUEUES, &self.application]).await? {
                names.insert(row.try_get(0)?);
            }
            for row in client.query(&self.sql(ACTIVE), &[&QUEUES]).await? {
                names.insert(row.try_get(0)?);
            }
        }
        let (mut recent, mut at_least) = (HashMap::new(), [false; 3]);
        let sql = self.sql(&RECENT.replace("{mine}", MINE));
        for row in client.query(&sql, &[&COUNTED, &self.application]).await? {
            let (kind, queue, count): (i32, Option<String>, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let Ok(kind) = usize::try_from(kind) else { continue };
            match queue {
                Some(queue) => drop(recent.insert((queue, kind), count)),
                None => at_least[kind.min(2)] = count >= COUNTED,
            }
        }
        let (mut reports, mut now) = (Vec::new(), 0);
        for name in names {
            let (mut report, at) = self.queue(&client, &name).await?;
            let counts = [&mut report.delayed, &mut report.started, &mut report.ended];
            for (kind, count) in counts.into_iter().enumerate() {
                *count = recent.get(&(name.clone(), kind)).copied().unwrap_or(0);
            }
            report.at_least = at_least;
            report.pause = pauses.iter().find(|pause| pause.queue == name).cloned();
            now = at;
            // Another application's queue has nothing of ours on it.
            let ours = report.registered.is_some() || report.pause.is_some() || configured.contains(&name);
            if !named.is_empty() || ours || report.queued + report.running + report.delayed > 0 {
                reports.push(report);
            }
        }
        Ok((reports, now))
    }

    async fn queue(&self, client: &Session, name: &str) -> Result<(QueueReport, i64), OperatorError> {
        let mine = |template: &str| self.sql(&template.replace("{mine}", MINE));
        let sql = "SELECT concurrency, worker_concurrency, rate_limit_max, rate_limit_period_sec, polling_interval_sec,
                          {partition_limits}, {by_flag} AS by_flag, updated_at
                     FROM {s}.queues WHERE name = $1 AND {queue_is_ours}";
        let registered = match client.query_opt(&self.sql(sql), &[&name, &self.application]).await? {
            Some(row) => Some(Registered { limits: queues::read(&row)?, updated_at: row.try_get("updated_at")? }),
            None => None,
        };
        let row = client.query_one(&mine(STATE), &[&name, &self.application, &COUNTED, &PRIORITIES]).await?;
        let mut workers = Vec::new();
        for row in client.query(&mine(BY_WORKER), &[&name, &self.application, &COUNTED, &WORKERS]).await? {
            workers.push((row.try_get(0)?, row.try_get(1)?));
        }
        let (mut partitions, mut partition_count) = (Vec::new(), 0);
        let keys = client.query(&mine(BY_PARTITION), &[&name, &self.application, &KEYS, &COUNTED, &PARTITIONS]).await?;
        for row in keys {
            partition_count = row.try_get(1)?;
            partitions.push(Partition { key: row.try_get(0)?, queued: row.try_get(2)?, running: row.try_get(3)? });
        }
        let report = QueueReport {
            name: name.to_owned(),
            registered,
            pause: None,
            queued: row.try_get(0)?,
            delayed: 0,
            running: row.try_get(1)?,
            oldest: row.try_get(2)?,
            started: 0,
            ended: 0,
            at_least: [false; 3],
            workers,
            partitions,
            partition_count,
        };
        Ok((report, row.try_get(3)?))
    }

    /// How many executions of a queue are claimed; a hundred thousand mean "at least".
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn running(&self, queue: &str) -> Result<i64, OperatorError> {
        let client = self.sysdb.client().await?;
        let sql = "SELECT count(*) FROM (SELECT FROM {s}.workflow_status
                                          WHERE queue_name = $1 AND status = 'PENDING' AND {mine} LIMIT $3) r";
        let sql = self.sql(&sql.replace("{mine}", MINE));
        Ok(client.query_one(&sql, &[&queue, &self.application, &COUNTED]).await?.try_get(0)?)
    }
}
