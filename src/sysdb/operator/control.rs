//! Cancel and resume, column by column as the newest DBOS clients do them; and beside it what our own tables say.
//!
//! What is to be changed may have changed since it was looked for: `only` says in which states it still is meant. A row that
//! another session has locked is waited for, as long as the session's settings allow; then the others are changed without it.

use std::collections::HashMap;

use tokio_postgres::{Row, error::SqlState};

use super::{BATCH, Operator, OperatorError, Status};
use crate::{
    postgres::{Session, Statements},
    sysdb::INTERNAL_QUEUE,
};

/// What became of one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub id: String,
    /// Its stored status before; `None` where there is no such execution.
    pub was: Option<String>,
    /// How it went.
    pub outcome: Outcome,
}

/// How it went with one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// Nothing was done: it has ended, and its outcome stands.
    Final,
    /// Nothing was done: it is in another state than those that were meant.
    Changed,
    /// Nothing was done: another session has its row locked.
    Locked,
    /// There is no such execution.
    Unknown,
}

/// How it went with many.
#[derive(Debug, Default)]
pub struct Bulk {
    /// What became of those that were got to.
    pub changed: Vec<Changed>,
    /// Why the others were not.
    pub failed: Option<OperatorError>,
}

/// How rows are locked: what doesn't come in time is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Wait,
    Skip,
}

impl Lock {
    pub(super) const BOTH: [Lock; 2] = [Lock::Wait, Lock::Skip];

    /// A statement that locks in this way.
    pub(super) fn sql(self, template: &str) -> String {
        template.replace("{lock}", if self == Lock::Wait { "FOR UPDATE" } else { "FOR UPDATE SKIP LOCKED" })
    }

    /// Whether it is to be tried in the other way.
    pub(super) fn failed(self, error: &OperatorError) -> bool {
        self == Lock::Wait && error.code() == Some(SqlState::LOCK_NOT_AVAILABLE.code())
    }
}

/// $1 ids. What the old row said comes from the lock, so that it is what the update found.
const LOCKED: &str = "
WITH was AS MATERIALIZED (
  SELECT w.workflow_uuid AS id, w.status FROM {s}.workflow_status w
   WHERE w.workflow_uuid = ANY($1) ORDER BY w.workflow_uuid {lock}
)";

/// $1 ids, $2 states or NULL. A running execution's worker is refused its next write, and looks every second; the execution's row
/// says at once that it was stopped, also where no worker has it.
const CANCEL: &str = ", done AS (
  UPDATE {s}.workflow_status w
     SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL, deduplication_id = NULL, started_at_epoch_ms = NULL,
         updated_at = {now}, completed_at = {now}
    FROM was
   WHERE w.workflow_uuid = was.id AND was.status NOT IN ('SUCCESS', 'ERROR') AND ($2::text[] IS NULL OR was.status = ANY($2))
  RETURNING w.workflow_uuid AS id
), stopped AS (
  UPDATE {executions} e
     SET status = 'stopped', error_message = 'the workflow was cancelled', completed_at = now() AT TIME ZONE 'utc',
         updated_at = now() AT TIME ZONE 'utc'
   WHERE e.id = ANY (ARRAY(SELECT id FROM done)) AND e.status NOT IN ('completed', 'failed', 'stopped')
)";

/// $1 ids, $2 states or NULL, $3 queue. The account of crashes is closed: it begins anew.
const RESUME: &str = ", done AS (
  UPDATE {s}.workflow_status w
     SET status = 'ENQUEUED', owner_xid = NULL, queue_name = $3, recovery_attempts = 0, workflow_deadline_epoch_ms = NULL,
         deduplication_id = NULL, started_at_epoch_ms = NULL, updated_at = {now}, completed_at = NULL
    FROM was
   WHERE w.workflow_uuid = was.id AND was.status NOT IN ('SUCCESS', 'ERROR') AND ($2::text[] IS NULL OR was.status = ANY($2))
  RETURNING w.workflow_uuid AS id
), forgiven AS (
  DELETE FROM {crashes} c WHERE c.workflow_id = ANY (ARRAY(SELECT id FROM done))
)";

/// Each with its status, whether it could be locked, and whether it was changed.
const TOLD: &str = "
SELECT w.workflow_uuid, COALESCE(was.status, w.status), was.id IS NOT NULL, done.id IS NOT NULL
  FROM {s}.workflow_status w LEFT JOIN was ON was.id = w.workflow_uuid LEFT JOIN done ON done.id = w.workflow_uuid
 WHERE w.workflow_uuid = ANY($1)";

impl Operator {
    /// Cancel these executions, as DBOS's clients do: one that runs is stopped, and its slot is free; one that waits is not
    /// begun. What has completed or failed stays as it is, and so does what is in none of the states `only`, if there are some. In
    /// the order of the ids. A batch is a transaction.
    pub async fn cancel(&self, ids: &[String], only: &[Status]) -> Bulk {
        let mut bulk = Bulk::default();
        for ids in ids.chunks(BATCH) {
            match self.cancel_batch(ids, only).await {
                Ok(changed) => bulk.changed.extend(changed),
                Err(error) => {
                    bulk.failed = Some(error);
                    break;
                }
            }
        }
        bulk
    }

    pub(super) async fn cancel_batch(&self, ids: &[String], only: &[Status]) -> Result<Vec<Changed>, OperatorError> {
        let only = stored(only);
        let mut found = HashMap::new();
        for lock in Lock::BOTH {
            let client = self.sysdb.client().await?;
            let sql = self.sql(&lock.sql(&[LOCKED, CANCEL, TOLD].concat()));
            match client.query(&sql, &[&ids, &only]).await.map_err(OperatorError::from) {
                Err(error) if lock.failed(&error) => {}
                rows => {
                    read(&mut found, &rows?, only.as_deref())?;
                    break;
                }
            }
        }
        Ok(in_order(ids, &found))
    }

    /// Put these executions back on a queue with their recorded steps, as DBOS's clients do; on DBOS's internal one where none
    /// is named, which every worker serves. What has completed or failed stays as it is, and so does what is in none of the
    /// states `only`, if there are some. In the order of the ids.
    ///
    /// All in one transaction: parents and children go on together. A child that came first would be stopped, since its parent
    /// has ended; a parent that came first would take its children's state for their outcome.
    ///
    /// # Errors
    /// Only those of the database. Nothing is done then.
    pub async fn resume(
        &self,
        ids: &[String],
        only: &[Status],
        queue: Option<&str>,
    ) -> Result<Vec<Changed>, OperatorError> {
        let mut client = self.sysdb.client().await?;
        let only = stored(only);
        let queue = queue.unwrap_or(INTERNAL_QUEUE);
        for lock in Lock::BOTH {
            match self.resume_all(&mut client, ids, only.as_deref(), queue, lock).await {
                Err(error) if lock.failed(&error) => {}
                resumed => return resumed,
            }
        }
        Ok(Vec::new()) // the second way of locking gives its own errors
    }

    async fn resume_all(
        &self,
        client: &mut Session,
        ids: &[String],
        only: Option<&[&str]>,
        queue: &str,
        lock: Lock,
    ) -> Result<Vec<Changed>, OperatorError> {
        let sql = self.sql(&lock.sql(&[LOCKED, RESUME, TOLD].concat()));
        let transaction = client.transaction().await?;
        let mut found = HashMap::new();
        for ids in in_batches(ids) {
            read(&mut found, &transaction.query(&sql, &[&ids, &only, &queue]).await?, only)?;
        }
        transaction.commit().await?;
        Ok(in_order(ids, &found))
    }
}

/// Sorted: who locks more than one batch in a transaction takes the rows in the same order as anybody else.
pub(super) fn in_batches(ids: &[String]) -> Vec<Vec<String>> {
    let mut sorted = ids.to_vec();
    sorted.sort();
    sorted.chunks(BATCH).map(<[String]>::to_vec).collect()
}

fn stored(only: &[Status]) -> Option<Vec<&'static str>> {
    (!only.is_empty()).then(|| only.iter().map(|status| status.stored()).collect())
}

type Found = HashMap<String, (String, Outcome)>;

/// Rows of [`TOLD`].
fn read(found: &mut Found, rows: &[Row], only: Option<&[&str]>) -> Result<(), tokio_postgres::Error> {
    for row in rows {
        let status = row.try_get::<_, Option<String>>(1)?.unwrap_or_default();
        let (locked, done): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
        let outcome = match only {
            _ if done => Outcome::Done,
            _ if !locked => Outcome::Locked,
            Some(only) if !only.contains(&status.as_str()) => Outcome::Changed,
            _ => Outcome::Final,
        };
        found.insert(row.try_get(0)?, (status, outcome));
    }
    Ok(())
}

/// What became of each, in the order in which they were asked for.
pub(super) fn in_order(ids: &[String], found: &Found) -> Vec<Changed> {
    let changed = ids.iter().map(|id| match found.get(id) {
        Some((was, outcome)) => Changed { id: id.clone(), was: Some(was.clone()), outcome: *outcome },
        None => Changed { id: id.clone(), was: None, outcome: Outcome::Unknown },
    });
    changed.collect()
}
