//! Reading: recorded steps for a replay, ownership of what runs here, and what a client would see.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::{Owner, StepRecord, SysdbError, SystemDatabase, WorkflowId};
use crate::postgres::Statements;

/// A workflow that runs here and shouldn't any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Astray {
    /// The workflow.
    pub owner: Owner,
    /// Why.
    pub cause: Cause,
}

/// Why a workflow shouldn't run here any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This process no longer owns it: its status now; `None` when the row is gone.
    Lost(Option<String>),
    /// Its parent ended without success, with this status.
    ParentEnded(String),
}

/// A workflow as its client sees it.
#[derive(Clone, Debug)]
pub struct WorkflowView {
    /// Its status, as stored.
    pub status: String,
    /// Format of output and error.
    pub serialization: Option<String>,
    /// Its result.
    pub output: Option<String>,
    /// Its error.
    pub error: Option<String>,
}

impl WorkflowView {
    /// Whether a wait for it ends.
    pub fn has_ended(&self) -> bool {
        !matches!(self.status.as_str(), "ENQUEUED" | "DELAYED" | "PENDING")
    }
}

/// $1 queue. Of the newest 10,000 of the last hour, along `workflow_status_created_at_index`. Who writes tokens has one on every
/// PENDING row; who knows of them also says when a workflow ended.
pub(super) const TOKENLESS: &str = "
SELECT DISTINCT executor_id
  FROM (SELECT executor_id, queue_name, owner_xid, status, completed_at FROM {s}.workflow_status
         WHERE created_at > {now} - 3600000 ORDER BY created_at DESC LIMIT 10000) w
 WHERE queue_name = $1 AND executor_id <> '' AND owner_xid IS NULL
   AND (status = 'PENDING' OR status IN ('SUCCESS', 'ERROR') AND completed_at IS NULL)
 ORDER BY executor_id LIMIT 10";

impl SystemDatabase {
    /// Executors of SDKs before the ownership tokens that took workflows of this queue among the newest of the last hour. They
    /// take whatever is on their queue, and don't find the inputs that newer clients wrote.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn tokenless_executors(&self, queue: &str) -> Result<Vec<String>, SysdbError> {
        let client = self.client().await?;
        Ok(client.query(&self.sql(TOKENLESS), &[&queue]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// The recorded steps of these workflows, in order.
    pub async fn history(&self, ids: &[WorkflowId]) -> Result<HashMap<WorkflowId, Vec<StepRecord>>, SysdbError> {
        let client = self.client().await?;
        let statement = self.sql(
            "SELECT workflow_uuid, function_id, function_name, output, error, serialization, child_workflow_id,
                        COALESCE(started_at_epoch_ms, 0) AS started, COALESCE(completed_at_epoch_ms, 0) AS completed
                   FROM {s}.operation_outputs WHERE workflow_uuid = ANY($1) ORDER BY workflow_uuid, function_id",
        );
        let ids: Vec<&str> = ids.iter().map(WorkflowId::as_str).collect();
        let mut found: HashMap<WorkflowId, Vec<StepRecord>> = HashMap::new();
        for row in client.query(&statement, &[&ids]).await? {
            found.entry(WorkflowId::new(row.try_get::<_, String>(0)?)).or_default().push(step(&row)?);
        }
        Ok(found)
    }

    /// Of these, the ones that are no longer ours, and those whose parent ended without success.
    pub async fn astray(&self, owners: &[Owner]) -> Result<Vec<Astray>, SysdbError> {
        let ids: Vec<&str> = owners.iter().map(|owner| owner.id.as_str()).collect();
        let tokens: Vec<&str> = owners.iter().map(|owner| owner.token.as_str()).collect();
        let since: Vec<i64> = owners.iter().map(|owner| owner.since).collect();
        let client = self.client().await?;
        let statement = self.sql(
                "SELECT mine.place::int, w.status,
                        w.status = 'PENDING' AND w.owner_xid = mine.token AND w.started_at_epoch_ms = mine.since, p.status
                   FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS mine(id, token, since, place)
                   LEFT JOIN {s}.workflow_status w ON w.workflow_uuid = mine.id
                   LEFT JOIN {s}.workflow_status p ON p.workflow_uuid = w.parent_workflow_id
                    AND p.status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
                  WHERE w.status IS DISTINCT FROM 'PENDING' OR w.owner_xid IS DISTINCT FROM mine.token
                     OR w.started_at_epoch_ms IS DISTINCT FROM mine.since OR p.status IS NOT NULL",
            );
        let mut astray = Vec::new();
        for row in client.query(&statement, &[&ids, &tokens, &since]).await? {
            let place: i32 = row.try_get(0)?;
            if let Some(owner) = usize::try_from(place - 1).ok().and_then(|place| owners.get(place)) {
                let ours = row.try_get::<_, Option<bool>>(2)?.unwrap_or(false);
                let cause = match row.try_get::<_, Option<String>>(3)? {
                    Some(parent) if ours => Cause::ParentEnded(parent),
                    _ => Cause::Lost(row.try_get(1)?),
                };
                astray.push(Astray { owner: owner.clone(), cause });
            }
        }
        Ok(astray)
    }

    /// Of these workflows, those that have ended or are gone.
    pub async fn ended(&self, ids: &[WorkflowId]) -> Result<Vec<WorkflowId>, SysdbError> {
        let client = self.client().await?;
        let statement = self.sql(
            "SELECT i.id FROM unnest($1::text[]) AS i(id) LEFT JOIN {s}.workflow_status w ON w.workflow_uuid = i.id
                  WHERE w.status IS NULL OR w.status NOT IN ('ENQUEUED', 'DELAYED', 'PENDING')",
        );
        let ids: Vec<&str> = ids.iter().map(WorkflowId::as_str).collect();
        let rows = client.query(&statement, &[&ids]).await?;
        rows.iter().map(|row| Ok(WorkflowId::new(row.try_get::<_, String>(0)?))).collect()
    }

    /// Of these workflows, those that never run again by a resume: they have succeeded, failed, or are gone. One that was
    /// cancelled or parked may be resumed.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn ended_for_good(&self, ids: &[WorkflowId]) -> Result<Vec<WorkflowId>, SysdbError> {
        let client = self.client().await?;
        let statement = self.sql(
            "SELECT i.id FROM unnest($1::text[]) AS i(id) LEFT JOIN {s}.workflow_status w ON w.workflow_uuid = i.id
                  WHERE w.status IS NULL OR w.status IN ('SUCCESS', 'ERROR')",
        );
        let ids: Vec<&str> = ids.iter().map(WorkflowId::as_str).collect();
        let rows = client.query(&statement, &[&ids]).await?;
        rows.iter().map(|row| Ok(WorkflowId::new(row.try_get::<_, String>(0)?))).collect()
    }

    /// A workflow's status and outcome; `None` when there is no such workflow.
    pub async fn workflow(&self, id: &WorkflowId) -> Result<Option<WorkflowView>, SysdbError> {
        let client = self.client().await?;
        let statement = self.sql(
            "SELECT w.status, w.serialization, {outcome} FROM {s}.workflow_status w {join_outcome}
                  WHERE w.workflow_uuid = $1",
        );
        let row = client.query_opt(&statement, &[&id.as_str()]).await?;
        row.map(|row| {
            Ok(WorkflowView {
                status: row.try_get::<_, Option<String>>(0)?.unwrap_or_default(),
                serialization: row.try_get(1)?,
                output: row.try_get(2)?,
                error: row.try_get(3)?,
            })
        })
        .transpose()
    }

    /// Values of a stream from an offset on, at most a thousand.
    pub async fn stream(&self, id: &WorkflowId, key: &str, from: i32) -> Result<Vec<String>, SysdbError> {
        let client = self.client().await?;
        let statement = self.sql(
            "SELECT value FROM {s}.streams WHERE workflow_uuid = $1 AND key = $2 AND \"offset\" >= $3
                  ORDER BY \"offset\" LIMIT 1000",
        );
        let rows = client.query(&statement, &[&id.as_str(), &key, &from]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

fn step(row: &Row) -> Result<StepRecord, tokio_postgres::Error> {
    Ok(StepRecord {
        function_id: row.try_get(1)?,
        name: row.try_get(2)?,
        output: row.try_get(3)?,
        error: row.try_get(4)?,
        serialization: row.try_get(5)?,
        child: row.try_get(6)?,
        started_at: row.try_get(7)?,
        completed_at: row.try_get(8)?,
    })
}
