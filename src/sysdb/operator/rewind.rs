//! Rewind: the same execution again from a step on, column by column as the newest DBOS clients do it.

use serde_json::Value as Json;

use super::super::{INTERNAL_QUEUE, WorkflowId};
use super::{Operator, OperatorError, Status, status};
use crate::postgres::Statements;

/// The value that closes a stream, as the SDKs write it.
const CLOSED: &str = "\"__DBOS_STREAM_CLOSED__\"";

/// A message that an execution waits for before it begins. It is sent again where the step that received it is cut.
#[derive(Clone, Debug)]
pub struct Signal<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// What it says.
    pub message: &'a Json,
}

/// What to rewind to, and where it goes on.
#[derive(Clone, Debug)]
pub struct Rewind<'a> {
    /// Steps from this number on are forgotten.
    pub step: i32,
    /// On this queue; DBOS's internal one where there is none.
    pub queue: Option<&'a str>,
    /// In this partition.
    pub partition: Option<&'a str>,
    /// Sent again, where it was received.
    pub signal: Option<Signal<'a>>,
}

/// $1 id, $2 step. Events go back to the last value from before the cut; then what came after it goes.
const EVENTS: [&str; 3] = [
    "DELETE FROM {s}.workflow_events e
      WHERE e.workflow_uuid = $1
        AND EXISTS (SELECT FROM {s}.workflow_events_history d
                     WHERE d.workflow_uuid = $1 AND d.key = e.key AND d.function_id >= $2)",
    "INSERT INTO {s}.workflow_events (workflow_uuid, key, value, serialization)
     SELECT DISTINCT ON (h.key) h.workflow_uuid, h.key, h.value, h.serialization FROM {s}.workflow_events_history h
      WHERE h.workflow_uuid = $1 AND h.function_id < $2
        AND EXISTS (SELECT FROM {s}.workflow_events_history d
                     WHERE d.workflow_uuid = $1 AND d.key = h.key AND d.function_id >= $2)
      ORDER BY h.key, h.function_id DESC",
    "DELETE FROM {s}.workflow_events_history WHERE workflow_uuid = $1 AND function_id >= $2",
];

/// $1 id, $2 step, $3 the value that closes a stream. What was written to streams stays.
const REOPEN_STREAMS: &str = "
DELETE FROM {s}.streams
 WHERE workflow_uuid = $1 AND function_id >= $2 AND value = $3 AND serialization = 'portable_json'";

/// $1 id, $2 step. Whether a receive is among them.
const FORGET: &str = "
WITH gone AS (DELETE FROM {s}.operation_outputs WHERE workflow_uuid = $1 AND function_id >= $2 RETURNING function_name)
SELECT COALESCE(bool_or(function_name = 'DBOS.recv'), FALSE) FROM gone";

/// $1 id, $2 step. Where it isn't recorded who consumed a message, those that nobody did.
const MESSAGES: &str = "
DELETE FROM {s}.notifications WHERE destination_uuid = $1 AND ({consumed_from} NOT consumed) AND $2::int IS NOT NULL";

/// $1 id, $2 queue, $3 partition, $4 the status that was read.
const AGAIN: &str = "
WITH again AS (
  UPDATE {s}.workflow_status
     SET status = 'ENQUEUED', owner_xid = NULL, queue_name = $2, queue_partition_key = $3, recovery_attempts = 0,
         workflow_deadline_epoch_ms = NULL, deduplication_id = NULL, started_at_epoch_ms = NULL, completed_at = NULL,
         output = NULL, error = NULL, updated_at = {now}
   WHERE workflow_uuid = $1 AND status = $4
  RETURNING workflow_uuid
), forgiven AS (
  DELETE FROM {crashes} c WHERE c.workflow_id = ANY (ARRAY(SELECT workflow_uuid FROM again))
)
SELECT count(*) FROM again";

impl Operator {
    /// Forget an ended execution's steps from a number on, and put it back on a queue under its own id. Its events since then,
    /// the messages that it consumed since then or not at all, and its outcome go; its stream stays, and is continued.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`], [`OperatorError::State`] for one that hasn't ended, and those of the database. Nothing is
    /// done then.
    pub async fn rewind(&self, id: &WorkflowId, rewind: &Rewind<'_>) -> Result<(), OperatorError> {
        let mut client = self.sysdb.client().await?;
        let has_outputs = self.sysdb.standing.get().is_none_or(|standing| standing.has_payload_tables());
        let transaction = client.transaction().await?;
        let (key, step) = (&id.as_str(), &rewind.step);
        let sql = self.sql("SELECT status FROM {s}.workflow_status WHERE workflow_uuid = $1");
        let row = transaction.query_opt(&sql, &[key]).await?;
        let row = row.ok_or_else(|| OperatorError::Unknown(id.clone()))?;
        let was = row.try_get::<_, Option<String>>(0)?.unwrap_or_default();
        if Status::of(&was).is_none_or(Status::is_active) {
            return Err(OperatorError::State {
                id: id.clone(),
                state: status::word(&was),
                why: "only one that has ended can run again from a step on; cancel it first".into(),
            });
        }
        for statement in EVENTS {
            transaction.execute(&self.sql(statement), &[key, step]).await?;
        }
        transaction.execute(&self.sql(REOPEN_STREAMS), &[key, step, &CLOSED]).await?;
        let received: bool = transaction.query_one(&self.sql(FORGET), &[key, step]).await?.try_get(0)?;
        transaction.execute(&self.sql(MESSAGES), &[key, step]).await?;
        if has_outputs {
            let sql = self.sql("DELETE FROM {s}.workflow_output WHERE workflow_uuid = $1");
            transaction.execute(&sql, &[key]).await?;
        }
        if let Some(signal) = rewind.signal.as_ref().filter(|_| received) {
            let sql = self.sql(
                "INSERT INTO {s}.notifications (destination_uuid, topic, message, serialization)
                 VALUES ($1, $2, $3, 'portable_json')",
            );
            transaction.execute(&sql, &[key, &signal.topic, &signal.message.to_string()]).await?;
        }
        let queue = rewind.queue.unwrap_or(INTERNAL_QUEUE);
        let again: i64 =
            transaction.query_one(&self.sql(AGAIN), &[key, &queue, &rewind.partition, &was]).await?.try_get(0)?;
        if again != 1 {
            return Err(OperatorError::State {
                id: id.clone(),
                state: "changing".into(),
                why: "its status changed in this moment; look, and try again".into(),
            });
        }
        Ok(transaction.commit().await?)
    }
}
