//! Cancel and resume, column by column as the newest DBOS clients do them; and beside it what our own tables say.

use std::collections::{HashMap, HashSet};

use super::super::WorkflowId;
use super::{BATCH, Operator, OperatorError};
use crate::postgres::Statements;

/// Executions that one cancel of a tree reaches, at most.
const TREE: usize = 100_000;

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

/// Where an execution stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its stored status.
    pub status: String,
    /// The queue that it is on, or was on when it ended; one that was cancelled or parked is on none.
    pub queue: Option<String>,
    /// Its partition.
    pub partition: Option<String>,
}

/// How it went with one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// Nothing was done: it has ended, and its outcome stands.
    Final,
    /// There is no such execution.
    Unknown,
}

/// $1 ids. What the old row said comes from the lock, so that it is what the update found.
const LOCKED: &str = "
WITH was AS MATERIALIZED (
  SELECT w.workflow_uuid AS id, w.status FROM {s}.workflow_status w
   WHERE w.workflow_uuid = ANY($1) ORDER BY w.workflow_uuid FOR UPDATE
)";

/// A running execution's worker is refused its next write, and looks every second; the execution's row says at once that it was
/// stopped, also where no worker has it.
const CANCEL: &str = ", done AS (
  UPDATE {s}.workflow_status w
     SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL, deduplication_id = NULL, started_at_epoch_ms = NULL,
         updated_at = {now}, completed_at = {now}
    FROM was WHERE w.workflow_uuid = was.id AND was.status NOT IN ('SUCCESS', 'ERROR')
  RETURNING w.workflow_uuid AS id
), stopped AS (
  UPDATE {executions} e
     SET status = 'stopped', error_message = 'the workflow was cancelled', completed_at = now() AT TIME ZONE 'utc',
         updated_at = now() AT TIME ZONE 'utc'
   WHERE e.id = ANY (ARRAY(SELECT id FROM done)) AND e.status NOT IN ('completed', 'failed', 'stopped')
)
SELECT was.id, was.status, done.id IS NOT NULL FROM was LEFT JOIN done ON done.id = was.id";

/// $2 queue. The account of crashes is closed: it begins anew.
const RESUME: &str = ", done AS (
  UPDATE {s}.workflow_status w
     SET status = 'ENQUEUED', owner_xid = NULL, queue_name = $2, recovery_attempts = 0, workflow_deadline_epoch_ms = NULL,
         deduplication_id = NULL, started_at_epoch_ms = NULL, updated_at = {now}, completed_at = NULL
    FROM was WHERE w.workflow_uuid = was.id AND was.status NOT IN ('SUCCESS', 'ERROR')
  RETURNING w.workflow_uuid AS id
), forgiven AS (
  DELETE FROM {crashes} c WHERE c.workflow_id = ANY (ARRAY(SELECT id FROM done))
)
SELECT was.id, was.status, done.id IS NOT NULL FROM was LEFT JOIN done ON done.id = was.id";

impl Operator {
    /// Cancel these executions, as DBOS's clients do: one that runs is stopped, and its slot is free; one that waits is not
    /// begun. What has completed or failed stays as it is. In the order of the ids.
    ///
    /// # Errors
    /// Only those of the database; batches before it are done.
    pub async fn cancel(&self, ids: &[String]) -> Result<Vec<Changed>, OperatorError> {
        let mut changed = Vec::new();
        for ids in ids.chunks(BATCH) {
            let client = self.sysdb.client().await?;
            let rows = client.query(&self.sql(&[LOCKED, CANCEL].concat()), &[&ids]).await?;
            changed.extend(outcomes(ids, &rows)?);
        }
        Ok(changed)
    }

    /// As [`cancel`](Operator::cancel), and all that descend from them, level by level, as DBOS's clients do. Children that their
    /// parents start meanwhile are found, since a parent is cancelled before it is asked for its children.
    ///
    /// # Errors
    /// Only those of the database; levels before it are done.
    pub async fn cancel_trees(&self, ids: &[String]) -> Result<Vec<Changed>, OperatorError> {
        let mut seen: HashSet<String> = ids.iter().cloned().collect();
        let mut level = ids.to_vec();
        let mut changed = Vec::new();
        while !level.is_empty() && seen.len() <= TREE {
            changed.extend(self.cancel(&level).await?);
            let mut below = Vec::new();
            for parents in level.chunks(BATCH) {
                let client = self.sysdb.client().await?;
                let sql = "SELECT w.workflow_uuid FROM unnest($1::text[]) AS p(id)
                             JOIN {s}.workflow_status w ON w.parent_workflow_id = p.id ORDER BY 1";
                for row in client.query(&self.sql(sql), &[&parents]).await? {
                    let id: String = row.try_get(0)?;
                    if seen.insert(id.clone()) {
                        below.push(id);
                    }
                }
            }
            level = below;
        }
        Ok(changed)
    }

    /// Put these executions back on a queue with their recorded steps, as DBOS's clients do; on DBOS's internal one where none
    /// is named, which every worker serves. What has completed or failed stays as it is. In the order of the ids.
    ///
    /// # Errors
    /// Only those of the database; batches before it are done.
    pub async fn resume(&self, ids: &[String], queue: Option<&str>) -> Result<Vec<Changed>, OperatorError> {
        let queue = queue.unwrap_or(super::super::INTERNAL_QUEUE);
        let mut changed = Vec::new();
        for ids in ids.chunks(BATCH) {
            let client = self.sysdb.client().await?;
            let rows = client.query(&self.sql(&[LOCKED, RESUME].concat()), &[&ids, &queue]).await?;
            changed.extend(outcomes(ids, &rows)?);
        }
        Ok(changed)
    }

    /// Where an execution stands; `None` where there is none.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn state(&self, id: &WorkflowId) -> Result<Option<State>, OperatorError> {
        let client = self.sysdb.client().await?;
        let sql = self.sql(
            "SELECT status, NULLIF(queue_name, ''), queue_partition_key FROM {s}.workflow_status WHERE workflow_uuid = $1",
        );
        let Some(row) = client.query_opt(&sql, &[&id.as_str()]).await? else { return Ok(None) };
        let status = row.try_get::<_, Option<String>>(0)?.unwrap_or_default();
        Ok(Some(State { status, queue: row.try_get(1)?, partition: row.try_get(2)? }))
    }
}

fn outcomes(ids: &[String], rows: &[tokio_postgres::Row]) -> Result<Vec<Changed>, OperatorError> {
    let mut found = HashMap::new();
    for row in rows {
        let (status, done): (Option<String>, bool) = (row.try_get(1)?, row.try_get(2)?);
        found.insert(row.try_get::<_, String>(0)?, (status.unwrap_or_default(), done));
    }
    let changed = ids.iter().map(|id| match found.get(id) {
        Some((was, done)) => {
            let outcome = if *done { Outcome::Done } else { Outcome::Final };
            Changed { id: id.clone(), was: Some(was.clone()), outcome }
        }
        None => Changed { id: id.clone(), was: None, outcome: Outcome::Unknown },
    });
    Ok(changed.collect())
}
