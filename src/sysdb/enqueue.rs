//! Enqueueing as a DBOS client does, in portable JSON.

use tokio_postgres::error::SqlState;

use super::{SysdbError, SystemDatabase, WorkflowId};
use crate::postgres::Statements;

/// A workflow to enqueue.
#[derive(Clone, Debug)]
pub struct NewWorkflow<'a> {
    /// Its id; an id that exists keeps its first inputs.
    pub id: WorkflowId,
    /// Name of the workflow.
    pub name: &'a str,
    /// Its class.
    pub class: &'a str,
    /// The queue.
    pub queue: &'a str,
    /// The application that it belongs to.
    pub application: &'a str,
    /// The inputs as portable JSON: `{"positionalArgs": [...]}`.
    pub inputs: String,
    /// Start-to-end budget in milliseconds.
    pub timeout_ms: Option<i64>,
    /// Key that blocks a second one on the same queue until this one has ended.
    pub deduplication_id: Option<&'a str>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// A new row.
    New,
    /// The id was there already, with the same name and class.
    Known,
}

/// Why it was not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The id belongs to another workflow.
    #[error("workflow id \"{id}\" already exists and belongs to the workflow \"{name}\"; choose another id")]
    Conflict {
        /// The id.
        id: WorkflowId,
        /// Name of the workflow that has it.
        name: String,
    },
    /// Another active workflow on that queue has the deduplication id.
    #[error("the queue already holds an active workflow with deduplication id \"{0}\"")]
    Duplicate(String),
    /// The database.
    #[error(transparent)]
    Database(#[from] SysdbError),
}

/// The no-op update makes RETURNING yield a row that was there before; the creator's token then shows that it isn't ours.
/// $9 are the inputs. A row that was there keeps its own, wherever they are.
const INSERT: &str = "
WITH made AS (
  INSERT INTO {s}.workflow_status AS w
         (workflow_uuid, status, name, class_name, queue_name, application_name, serialization, {creator},
          recovery_attempts, workflow_timeout_ms, deduplication_id, inputs)
  VALUES ($1, 'ENQUEUED', $2, $3, $4, $5, 'portable_json', $6, 0, $7, $8, {own_inputs})
  ON CONFLICT (workflow_uuid) DO UPDATE SET {creator} = w.{creator}
  RETURNING w.workflow_uuid, w.name, w.class_name, w.{creator} AS creator
){store_inputs}
SELECT name, class_name, creator FROM made";

impl SystemDatabase {
    /// Enqueue a workflow: its status row and its inputs in one transaction.
    pub async fn enqueue(&self, new: &NewWorkflow<'_>) -> Result<Enqueued, EnqueueError> {
        let creator = uuid::Uuid::new_v4().to_string();
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(SysdbError::from)?;
        let insert = self.sql(INSERT);
        let row = transaction
            .query_one(
                &insert,
                &[
                    &new.id.as_str(),
                    &new.name,
                    &new.class,
                    &new.queue,
                    &new.application,
                    &creator,
                    &new.timeout_ms,
                    &new.deduplication_id,
                    &new.inputs,
                ],
            )
            .await
            .map_err(|error| match (error.code(), new.deduplication_id) {
                (Some(code), Some(key)) if *code == SqlState::UNIQUE_VIOLATION => EnqueueError::Duplicate(key.into()),
                _ => SysdbError::from(error).into(),
            })?;
        let name: Option<String> = row.get(0);
        let class: Option<String> = row.get(1);
        let by: Option<String> = row.get(2);
        let name = name.unwrap_or_default();
        if name != new.name || class.unwrap_or_default() != new.class {
            return Err(EnqueueError::Conflict { id: new.id.clone(), name });
        }
        transaction.commit().await.map_err(SysdbError::from)?;
        Ok(if by.as_deref() == Some(&creator) { Enqueued::New } else { Enqueued::Known })
    }
}
