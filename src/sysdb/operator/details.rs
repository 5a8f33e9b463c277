//! One execution in all its parts.

use serde_json::Value as Json;

use super::super::{WorkflowId, WorkflowView};
use super::{Operator, OperatorError, Summary};
use crate::postgres::Statements;

/// Steps that are read.
const STEPS: i64 = 500;
/// Children that are named.
const CHILDREN: i64 = 100;
/// Children, and unread messages, that are counted.
const COUNTED: i64 = 10_000;
/// Results and errors up to this size are read, in bytes.
const OUTCOME: i32 = 1 << 20;
/// Outcomes of steps, and events, up to this size are read, in bytes.
const PART: i32 = 16 << 10;

/// An execution. Times are milliseconds since the epoch.
#[derive(Clone, Debug)]
pub struct Details {
    /// In a line.
    pub summary: Summary,
    /// The rest of the workflow's row: its columns by their names in DBOS.
    pub columns: Json,
    /// The execution's row, if there is one.
    pub row: Option<Row>,
    /// Its outcome; texts of more than a megabyte are left out.
    pub view: WorkflowView,
    /// Size of its result in bytes.
    pub output_size: Option<i64>,
    /// Recorded steps, in order: the first five hundred.
    pub steps: Vec<Step>,
    /// How many there are.
    pub step_count: i64,
    /// Children, oldest first, and their status: the first hundred.
    pub children: Vec<(String, String)>,
    /// How many there are, as far as ten thousand.
    pub child_count: i64,
    /// How many values its stream `events` has.
    pub event_count: i64,
    /// The last of them, as stored; `None` for a large one.
    pub events: Vec<(i32, Option<String>)>,
    /// Messages that it hasn't consumed, by topic, as far as ten thousand are counted.
    pub unread: Vec<(String, i64)>,
    /// What is held against it.
    pub crash: Option<Crash>,
    /// The time now, by the database's clock.
    pub now: i64,
}

/// An execution's row in the application's table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its columns by their names, without its payloads.
    pub columns: Json,
    /// created, running, paused, completed, failed or stopped.
    pub status: String,
}

/// A recorded step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number.
    pub number: i32,
    /// Its name.
    pub name: String,
    /// When it began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub completed_at: Option<i64>,
    /// The child that it started.
    pub child: Option<String>,
    /// It has a result.
    pub has_output: bool,
    /// It failed.
    pub has_error: bool,
    /// Its error, as stored, unless it is large.
    pub error: Option<String>,
    /// Format of the error.
    pub serialization: Option<String>,
}

/// The account of an execution's crashes.
#[derive(Clone, Debug)]
pub struct Crash {
    /// In a row, without a step in between.
    pub crashes: i32,
    /// Who died last.
    pub worker: String,
    /// How.
    pub reason: String,
    /// When, milliseconds since the epoch.
    pub at: i64,
}

/// $1 id, $2 largest outcome. Times and payloads are told elsewhere.
const WORKFLOW: &str = "
SELECT jsonb_strip_nulls(jsonb_build_object(
         'class_name', w.class_name, 'config_name', w.config_name, 'application_name', w.application_name,
         'application_version', w.application_version, 'priority', w.priority, 'queue_partition_key', w.queue_partition_key,
         'deduplication_id', w.deduplication_id, 'forked_from', w.forked_from, 'was_forked_from', w.was_forked_from,
         'workflow_timeout_ms', w.workflow_timeout_ms, 'authenticated_user', NULLIF(w.authenticated_user, ''),
         'attributes', w.attributes, 'serialization', w.serialization, 'updated_at', w.updated_at,
         'workflow_deadline_epoch_ms', w.workflow_deadline_epoch_ms, 'delay_until_epoch_ms', w.delay_until_epoch_ms)),
       CASE WHEN octet_length({output}) <= $2 THEN {output} END, CASE WHEN octet_length({failure}) <= $2 THEN {failure} END,
       octet_length({output})::bigint
  FROM {s}.workflow_status w {join_outcome}
 WHERE w.workflow_uuid = $1";

const ROW: &str = "
SELECT jsonb_strip_nulls(jsonb_build_object(
         'flow_id', e.flow_id, 'owner_id', e.owner_id, 'status', e.status, 'root_execution_id', e.root_execution_id,
         'parent_execution_id', e.parent_execution_id, 'execution_depth', e.execution_depth,
         'created_at', to_char(e.created_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
         'updated_at', to_char(e.updated_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
         'started_at', to_char(e.started_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
         'completed_at', to_char(e.completed_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
         'error_message', left(e.error_message, $2), 'error_node_id', e.error_node_id, 'failure_count', e.failure_count)),
       e.status
  FROM {executions} e WHERE e.id = $1";

/// $1 id, $2 most, $3 largest error. Rides the primary key.
const STEPS_OF: &str = "
SELECT function_id, function_name, started_at_epoch_ms, completed_at_epoch_ms, child_workflow_id, output IS NOT NULL,
       error IS NOT NULL, CASE WHEN octet_length(error) <= $3 THEN error END, serialization,
       (SELECT count(*) FROM {s}.operation_outputs WHERE workflow_uuid = $1)
  FROM {s}.operation_outputs WHERE workflow_uuid = $1 ORDER BY function_id LIMIT $2";

impl Operator {
    /// How many events an execution's stream has.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn stream_length(&self, id: &WorkflowId) -> Result<i32, OperatorError> {
        let client = self.sysdb.client().await?;
        let sql = self.sql(
            "SELECT \"offset\" + 1 FROM {s}.streams WHERE workflow_uuid = $1 AND key = 'events'
              ORDER BY \"offset\" DESC LIMIT 1",
        );
        let row = client.query_opt(&sql, &[&id.as_str()]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    /// Everything about an execution; the last `tail` events of its stream.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`], and those of the database.
    pub async fn details(&self, id: &WorkflowId, tail: u32) -> Result<Details, OperatorError> {
        let (mut summaries, now) = self.named(&[id.as_str().to_owned()]).await?;
        let summary = summaries.pop().ok_or_else(|| OperatorError::Unknown(id.clone()))?;
        let client = self.sysdb.client().await?;
        let key = &id.as_str();
        let row = client.query_opt(&self.sql(WORKFLOW), &[key, &OUTCOME]).await?;
        let row = row.ok_or_else(|| OperatorError::Unknown(id.clone()))?; // deleted meanwhile
        let view = WorkflowView {
            status: summary.status.clone(),
            serialization: summary.serialization.clone(),
            output: row.try_get(1)?,
            error: row.try_get(2)?,
        };
        let (columns, output_size) = (row.try_get(0)?, row.try_get(3)?);
        let row = client.query_opt(&self.sql(ROW), &[key, &PART]).await?;
        let row = match row {
            Some(row) => Some(Row { columns: row.try_get(0)?, status: row.try_get(1)? }),
            None => None,
        };
        let (mut steps, mut step_count) = (Vec::new(), 0);
        for row in client.query(&self.sql(STEPS_OF), &[key, &STEPS, &PART]).await? {
            step_count = row.try_get(9)?;
            steps.push(Step {
                number: row.try_get(0)?,
                name: row.try_get(1)?,
                started_at: row.try_get(2)?,
                completed_at: row.try_get(3)?,
                child: row.try_get(4)?,
                has_output: row.try_get(5)?,
                has_error: row.try_get(6)?,
                error: row.try_get(7)?,
                serialization: row.try_get(8)?,
            });
        }
        let sql = self.sql(
            "SELECT workflow_uuid, status FROM {s}.workflow_status WHERE parent_workflow_id = $1
              ORDER BY created_at, workflow_uuid LIMIT $2",
        );
        let mut children = Vec::new();
        for row in client.query(&sql, &[key, &CHILDREN]).await? {
            children.push((row.try_get(0)?, row.try_get::<_, Option<String>>(1)?.unwrap_or_default()));
        }
        let sql = self.sql(
            "SELECT count(*) FROM (SELECT FROM {s}.workflow_status WHERE parent_workflow_id = $1 LIMIT $2) counted",
        );
        let child_count = client.query_one(&sql, &[key, &COUNTED]).await?.try_get(0)?;
        // Offsets have no gaps, so the last one tells how many there are. Rides the primary key.
        let sql = self.sql(
            "SELECT \"offset\", CASE WHEN octet_length(value) <= $3 THEN value END FROM {s}.streams
              WHERE workflow_uuid = $1 AND key = 'events' ORDER BY \"offset\" DESC LIMIT $2",
        );
        let mut events = Vec::new();
        for row in client.query(&sql, &[key, &i64::from(tail.max(1)), &PART]).await? {
            events.push((row.try_get::<_, i32>(0)?, row.try_get(1)?));
        }
        let event_count = events.first().map_or(0, |(offset, _)| i64::from(*offset) + 1);
        events.truncate(tail as usize);
        events.reverse();
        let sql = self.sql(
            "SELECT topic, count(*) FROM (SELECT COALESCE(topic, '') AS topic FROM {s}.notifications
                                           WHERE destination_uuid = $1 AND NOT consumed LIMIT $2) unread
              GROUP BY topic ORDER BY topic",
        );
        let mut unread = Vec::new();
        for row in client.query(&sql, &[key, &COUNTED]).await? {
            unread.push((row.try_get(0)?, row.try_get(1)?));
        }
        let sql = self.sql(
            "SELECT crashes, worker_id, reason, (extract(epoch FROM crashed_at) * 1000)::bigint FROM {crashes}
              WHERE workflow_id = $1",
        );
        let crash = match client.query_opt(&sql, &[key]).await? {
            Some(row) => Some(Crash {
                crashes: row.try_get(0)?,
                worker: row.try_get(1)?,
                reason: row.try_get(2)?,
                at: row.try_get(3)?,
            }),
            None => None,
        };
        Ok(Details {
            summary,
            columns,
            row,
            view,
            output_size,
            steps,
            step_count,
            children,
            child_count,
            event_count,
            events,
            unread,
            crash,
            now,
        })
    }
}
