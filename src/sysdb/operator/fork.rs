//! Fork: a new execution that begins with another one's first steps, column by column as the newest DBOS clients do it.

use tokio_postgres::error::SqlState;

use super::super::{INTERNAL_QUEUE, WorkflowId};
use super::{Operator, OperatorError, Signal};
use crate::postgres::Statements;

/// What to fork, and how.
#[derive(Clone, Debug)]
pub struct Fork<'a> {
    /// Id of the new execution.
    pub id: &'a WorkflowId,
    /// Steps below this number are taken along.
    pub step: i32,
    /// On this queue; DBOS's internal one where there is none.
    pub queue: Option<&'a str>,
    /// In this partition.
    pub partition: Option<&'a str>,
    /// For this version of the application; the source's where there is none.
    pub version: Option<&'a str>,
    /// Start-to-end budget in milliseconds.
    pub timeout_ms: Option<i64>,
    /// Sent to the fork, where the source received it in a step that isn't taken along.
    pub signal: Option<Signal<'a>>,
}

/// What a fork took along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forked {
    /// Steps.
    pub steps: u64,
}

/// $1 source, $2 fork, $3 queue, $4 partition, $5 version, $6 our application, $7 budget. JSON's null is none, as for the
/// TypeScript client.
const MAKE: &str = "
WITH source AS (
  SELECT w.*, {inputs} AS all_inputs FROM {s}.workflow_status w {join_inputs} WHERE w.workflow_uuid = $1
), made AS (
  INSERT INTO {s}.workflow_status
         (workflow_uuid, status, name, class_name, config_name, queue_name, authenticated_user, assumed_role,
          authenticated_roles, application_version, application_id, inputs, queue_partition_key, forked_from, serialization,
          attributes, application_name, workflow_timeout_ms)
  SELECT $2, 'ENQUEUED', name, class_name, config_name, $3, authenticated_user, assumed_role,
         authenticated_roles, COALESCE($5, application_version), application_id, {fork_inputs}, $4, $1, serialization,
         CASE WHEN jsonb_typeof(attributes) <> 'null' THEN attributes END, COALESCE(application_name, $6), $7
    FROM source
  RETURNING workflow_uuid
){store_fork_inputs}
SELECT workflow_uuid FROM made";

/// $1 source, $2 fork, $3 step. A step belongs to the application of its workflow, `w`.
const COPY: [&str; 4] = [
    "INSERT INTO {s}.operation_outputs
            (workflow_uuid, function_id, output, error, serialization, function_name, child_workflow_id,
             started_at_epoch_ms, completed_at_epoch_ms{step_owner})
     SELECT w.workflow_uuid, o.function_id, o.output, o.error, o.serialization, o.function_name, o.child_workflow_id,
            o.started_at_epoch_ms, o.completed_at_epoch_ms{step_owner_value}
       FROM {s}.workflow_status w JOIN {s}.operation_outputs o ON o.workflow_uuid = $1 AND o.function_id < $3
      WHERE w.workflow_uuid = $2",
    "INSERT INTO {s}.streams (workflow_uuid, key, value, serialization, \"offset\", function_id)
     SELECT $2, key, value, serialization, \"offset\", function_id FROM {s}.streams
      WHERE workflow_uuid = $1 AND function_id < $3",
    "INSERT INTO {s}.workflow_events_history (workflow_uuid, function_id, key, value, serialization)
     SELECT $2, function_id, key, value, serialization FROM {s}.workflow_events_history
      WHERE workflow_uuid = $1 AND function_id < $3",
    "INSERT INTO {s}.workflow_events (workflow_uuid, key, value, serialization)
     SELECT DISTINCT ON (key) $2, key, value, serialization FROM {s}.workflow_events_history
      WHERE workflow_uuid = $1 AND function_id < $3 ORDER BY key, function_id DESC",
];

impl Operator {
    /// Make a new execution of the same task, with the steps, streams and events from below a number. The source stays as it
    /// is, whatever its state.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`], [`OperatorError::Taken`], and those of the database. Nothing is done then.
    pub async fn fork(&self, source: &WorkflowId, fork: &Fork<'_>) -> Result<Forked, OperatorError> {
        let mut client = self.sysdb.client().await?;
        let transaction = client.transaction().await?;
        let (from, to, step) = (&source.as_str(), &fork.id.as_str(), &fork.step);
        let queue = fork.queue.unwrap_or(INTERNAL_QUEUE);
        let made = transaction
            .query_opt(
                &self.sql(MAKE),
                &[from, to, &queue, &fork.partition, &fork.version, &self.application, &fork.timeout_ms],
            )
            .await;
        let made = made.map_err(|error| match error.code() {
            Some(code) if *code == SqlState::UNIQUE_VIOLATION => OperatorError::Taken(fork.id.clone()),
            _ => error.into(),
        })?;
        if made.is_none() {
            return Err(OperatorError::Unknown(source.clone()));
        }
        let sql = self.sql("UPDATE {s}.workflow_status SET was_forked_from = TRUE WHERE workflow_uuid = $1");
        transaction.execute(&sql, &[from]).await?;
        let mut steps = 0;
        if fork.step > 0 {
            for (place, statement) in COPY.into_iter().enumerate() {
                let copied = transaction.execute(&self.sql(statement), &[from, to, step]).await?;
                steps = if place == 0 { copied } else { steps };
            }
        }
        if let Some(signal) = &fork.signal {
            let sql = self.sql(
                "INSERT INTO {s}.notifications (destination_uuid, topic, message, serialization)
                 SELECT $1, $2, $3, 'portable_json'
                  WHERE EXISTS (SELECT FROM {s}.operation_outputs
                                 WHERE workflow_uuid = $4 AND function_id >= $5 AND function_name = 'DBOS.recv')",
            );
            transaction.execute(&sql, &[to, &signal.topic, &signal.message.to_string(), from, step]).await?;
        }
        transaction.commit().await?;
        Ok(Forked { steps })
    }

    /// The number that the next step would have: one more than the last recorded one.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`], and those of the database.
    pub async fn next_step(&self, id: &WorkflowId) -> Result<i32, OperatorError> {
        let client = self.sysdb.client().await?;
        let sql = self.sql(
            "SELECT (SELECT max(function_id) FROM {s}.operation_outputs WHERE workflow_uuid = $1)
               FROM {s}.workflow_status WHERE workflow_uuid = $1",
        );
        let row = client.query_opt(&sql, &[&id.as_str()]).await?.ok_or_else(|| OperatorError::Unknown(id.clone()))?;
        Ok(row.try_get::<_, Option<i32>>(0)?.map_or(0, |last| last.saturating_add(1)))
    }

    /// Whether there is such an execution.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn exists(&self, id: &WorkflowId) -> Result<bool, OperatorError> {
        let client = self.sysdb.client().await?;
        let sql = self.sql("SELECT EXISTS (SELECT FROM {s}.workflow_status WHERE workflow_uuid = $1)");
        Ok(client.query_one(&sql, &[&id.as_str()]).await?.try_get(0)?)
    }
}
