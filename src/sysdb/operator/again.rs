//! Executions that didn't come to a good end, once more: with all their recorded steps (a resume, in DBOS's words), or from a step
//! on (a rewind), column by column as the newest DBOS clients do it.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use super::{
    BATCH, Changed, Operator, OperatorError, Outcome, Status,
    control::{Lock, in_order},
};
use crate::postgres::{Session, Statements, Transaction};

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

/// An execution that is to run again.
#[derive(Clone, Debug)]
pub struct Again {
    /// Which.
    pub id: String,
    /// Its stored status when that was decided. In another one it stays as it is.
    pub was: String,
    /// Steps from this number on are forgotten, and so are the outcome, the events since then, and the messages that were consumed
    /// since then or not at all; the stream stays, and is continued. `None` forgets nothing, for one that has no outcome.
    pub step: Option<i32>,
    /// On this queue.
    pub queue: String,
    /// In this partition. With all its steps it stays in its own.
    pub partition: Option<String>,
}

/// Where an execution stands, and its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its id.
    pub id: String,
    /// Its stored status.
    pub status: String,
    /// The queue that it is on, or was on when it ended; one that was cancelled or parked is on none.
    pub queue: Option<String>,
    /// Its partition.
    pub partition: Option<String>,
    /// Its parent, and the parent's stored status.
    pub parent: Option<(String, String)>,
}

/// A recorded step: its number, its name, whether it has a result, and whether it failed.
pub type StepMark = (i32, String, bool, bool);

/// $1 ids.
const STANDINGS: &str = "
SELECT w.workflow_uuid, w.status, NULLIF(w.queue_name, ''), w.queue_partition_key, p.workflow_uuid, p.status
  FROM {s}.workflow_status w LEFT JOIN {s}.workflow_status p ON p.workflow_uuid = w.parent_workflow_id
 WHERE w.workflow_uuid = ANY($1)";

/// $1 ids, $2 names. The first step of each kind.
const MARKS: &str = "
SELECT DISTINCT ON (workflow_uuid, function_name, output IS NOT NULL, error IS NOT NULL)
       workflow_uuid, function_id, function_name, output IS NOT NULL, error IS NOT NULL
  FROM {s}.operation_outputs WHERE workflow_uuid = ANY($1) AND function_name = ANY($2)
 ORDER BY workflow_uuid, function_name, output IS NOT NULL, error IS NOT NULL, function_id";

/// $1 ids. Who is skipped is locked by somebody.
const LOCKED: &str = "
WITH was AS MATERIALIZED (
  SELECT w.workflow_uuid AS id, w.status FROM {s}.workflow_status w
   WHERE w.workflow_uuid = ANY($1) ORDER BY w.workflow_uuid {lock}
)
SELECT w.workflow_uuid, COALESCE(was.status, w.status), was.id IS NOT NULL
  FROM {s}.workflow_status w LEFT JOIN was ON was.id = w.workflow_uuid WHERE w.workflow_uuid = ANY($1)";

/// $1 ids, $2 the step of each from which on is forgotten.
const CUT: &str = "WITH cut AS MATERIALIZED (SELECT c.id, c.step FROM unnest($1::text[], $2::int[]) AS c(id, step)) ";

/// Events go back to the last value from before the cut; then what came after it goes.
const EVENTS: [&str; 3] = [
    "DELETE FROM {s}.workflow_events e USING cut
      WHERE e.workflow_uuid = cut.id
        AND EXISTS (SELECT FROM {s}.workflow_events_history d
                     WHERE d.workflow_uuid = cut.id AND d.key = e.key AND d.function_id >= cut.step)",
    "INSERT INTO {s}.workflow_events (workflow_uuid, key, value, serialization)
     SELECT DISTINCT ON (h.workflow_uuid, h.key) h.workflow_uuid, h.key, h.value, h.serialization
       FROM cut JOIN {s}.workflow_events_history h ON h.workflow_uuid = cut.id AND h.function_id < cut.step
      WHERE EXISTS (SELECT FROM {s}.workflow_events_history d
                     WHERE d.workflow_uuid = cut.id AND d.key = h.key AND d.function_id >= cut.step)
      ORDER BY h.workflow_uuid, h.key, h.function_id DESC",
    "DELETE FROM {s}.workflow_events_history h USING cut WHERE h.workflow_uuid = cut.id AND h.function_id >= cut.step",
];

/// $3 the value that closes a stream. What was written to streams stays.
const REOPEN_STREAMS: &str = "
DELETE FROM {s}.streams s USING cut
 WHERE s.workflow_uuid = cut.id AND s.function_id >= cut.step AND s.value = $3 AND s.serialization = 'portable_json'";

/// Who had received something.
const FORGET: &str = ", gone AS (
  DELETE FROM {s}.operation_outputs o USING cut WHERE o.workflow_uuid = cut.id AND o.function_id >= cut.step
  RETURNING o.workflow_uuid, o.function_name
)
SELECT DISTINCT workflow_uuid FROM gone WHERE function_name = 'DBOS.recv'";

/// Where it isn't recorded who consumed a message, those that nobody did. Where no step is forgotten, what came stays.
const MESSAGES: &str = "
DELETE FROM {s}.notifications n USING cut
 WHERE n.destination_uuid = cut.id AND cut.step < 2147483647 AND ({consumed_from} NOT consumed)";

/// $1 ids, $2 topic, $3 message.
const SEND: &str = "
INSERT INTO {s}.notifications (destination_uuid, topic, message, serialization)
SELECT id, $2, $3, 'portable_json' FROM unnest($1::text[]) AS r(id)";

/// $1 ids, $2 queues, $3 partitions, $4 whether steps were forgotten. The rows are locked.
const AGAIN: &str = "
WITH again AS (
  UPDATE {s}.workflow_status w
     SET status = 'ENQUEUED', owner_xid = NULL, queue_name = a.queue, recovery_attempts = 0, workflow_deadline_epoch_ms = NULL,
         deduplication_id = NULL, started_at_epoch_ms = NULL, completed_at = NULL, updated_at = {now},
         queue_partition_key = CASE WHEN a.cut THEN a.partition ELSE w.queue_partition_key END,
         output = CASE WHEN NOT a.cut THEN w.output END, error = CASE WHEN NOT a.cut THEN w.error END
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[]) AS a(id, queue, partition, cut)
   WHERE w.workflow_uuid = a.id
  RETURNING w.workflow_uuid
), forgiven AS (
  DELETE FROM {crashes} c WHERE c.workflow_id = ANY (ARRAY(SELECT workflow_uuid FROM again))
)
SELECT count(*) FROM again";

impl Operator {
    /// Where these stand; those that there are.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn standings(&self, ids: &[String]) -> Result<HashMap<String, Standing>, OperatorError> {
        let client = self.sysdb.client().await?;
        let mut standings = HashMap::new();
        for ids in ids.chunks(BATCH) {
            for row in client.query(&self.sql(STANDINGS), &[&ids]).await? {
                let (id, parent): (String, Option<String>) = (row.try_get(0)?, row.try_get(4)?);
                let status =
                    |place| Ok::<_, OperatorError>(row.try_get::<_, Option<String>>(place)?.unwrap_or_default());
                let standing = Standing {
                    id: id.clone(),
                    status: status(1)?,
                    queue: row.try_get(2)?,
                    partition: row.try_get(3)?,
                    parent: parent.map(|parent| Ok::<_, OperatorError>((parent, status(5)?))).transpose()?,
                };
                standings.insert(id, standing);
            }
        }
        Ok(standings)
    }

    /// Of these, the first step of each of these names with a result, without one, failed and not, in order.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn marks(&self, ids: &[String], names: &[&str]) -> Result<HashMap<String, Vec<StepMark>>, OperatorError> {
        let client = self.sysdb.client().await?;
        let mut marks: HashMap<String, Vec<StepMark>> = HashMap::new();
        for ids in ids.chunks(BATCH) {
            for row in client.query(&self.sql(MARKS), &[&ids, &names]).await? {
                let mark = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
                marks.entry(row.try_get(0)?).or_default().push(mark);
            }
        }
        marks.values_mut().for_each(|marks| marks.sort());
        Ok(marks)
    }

    /// Put ended executions back on queues under their own ids. Where a step is forgotten that received `signal`, it is sent again.
    /// In the order of the executions.
    ///
    /// All in one transaction: parents and children go on together, as in a [`resume`](Operator::resume).
    ///
    /// # Errors
    /// Only those of the database. Nothing is done then.
    pub async fn run_again(&self, all: &[Again], signal: &Signal<'_>) -> Result<Vec<Changed>, OperatorError> {
        let mut client = self.sysdb.client().await?;
        for lock in Lock::BOTH {
            match self.run_all_again(&mut client, all, signal, lock).await {
                Err(error) if lock.failed(&error) => {}
                done => return done,
            }
        }
        Ok(Vec::new()) // the second way of locking gives its own errors
    }

    async fn run_all_again(
        &self,
        client: &mut Session,
        all: &[Again],
        signal: &Signal<'_>,
        lock: Lock,
    ) -> Result<Vec<Changed>, OperatorError> {
        let locked = self.sql(&lock.sql(LOCKED));
        // As `in_batches` for the ids alone.
        let mut sorted: Vec<&Again> = all.iter().collect();
        sorted.sort_by(|one, other| one.id.cmp(&other.id));
        let transaction = client.transaction().await?;
        let mut found = HashMap::new();
        for batch in sorted.chunks(BATCH) {
            let ids: Vec<&str> = batch.iter().map(|one| one.id.as_str()).collect();
            for row in transaction.query(&locked, &[&ids]).await? {
                let status = row.try_get::<_, Option<String>>(1)?.unwrap_or_default();
                let outcome = if row.try_get(2)? { Outcome::Done } else { Outcome::Locked };
                found.insert(row.try_get::<_, String>(0)?, (status, outcome));
            }
            let mut meant: Vec<&Again> = Vec::new();
            for one in batch {
                let Some((status, outcome)) = found.get_mut(&one.id) else { continue };
                if *outcome == Outcome::Done && (*status != one.was || Status::of(status).is_none_or(Status::is_active))
                {
                    *outcome = Outcome::Changed;
                }
                if *outcome == Outcome::Done {
                    meant.push(one);
                }
            }
            self.forget(&transaction, &meant, signal).await?;
            let of = |text: fn(&Again) -> &str| meant.iter().map(|one| text(one)).collect::<Vec<_>>();
            let (ids, queues) = (of(|one| &one.id), of(|one| &one.queue));
            let partitions: Vec<Option<&str>> = meant.iter().map(|one| one.partition.as_deref()).collect();
            let cut: Vec<bool> = meant.iter().map(|one| one.step.is_some()).collect();
            transaction.query_one(&self.sql(AGAIN), &[&ids, &queues, &partitions, &cut]).await?;
        }
        transaction.commit().await?;
        let ids: Vec<String> = all.iter().map(|one| one.id.clone()).collect();
        Ok(in_order(&ids, &found))
    }

    /// What they recorded from their steps on.
    async fn forget(
        &self,
        transaction: &Transaction<'_>,
        meant: &[&Again],
        signal: &Signal<'_>,
    ) -> Result<(), OperatorError> {
        let cut: Vec<(&str, i32)> = meant.iter().filter_map(|one| Some((one.id.as_str(), one.step?))).collect();
        if cut.is_empty() {
            return Ok(());
        }
        let (ids, steps): (Vec<&str>, Vec<i32>) = cut.into_iter().unzip();
        let sql = |statement: &str| self.sql(&[CUT, statement].concat());
        for statement in EVENTS {
            transaction.execute(&sql(statement), &[&ids, &steps]).await?;
        }
        transaction.execute(&sql(REOPEN_STREAMS), &[&ids, &steps, &CLOSED]).await?;
        let mut received = HashSet::new();
        for row in transaction.query(&sql(FORGET), &[&ids, &steps]).await? {
            received.insert(row.try_get::<_, String>(0)?);
        }
        transaction.execute(&sql(MESSAGES), &[&ids, &steps]).await?;
        if self.sysdb.standing.get().is_none_or(|standing| standing.has_payload_tables()) {
            let sql = self.sql("DELETE FROM {s}.workflow_output WHERE workflow_uuid = ANY($1)");
            transaction.execute(&sql, &[&ids]).await?;
        }
        if !received.is_empty() {
            let received: Vec<String> = received.into_iter().collect();
            let message = signal.message.to_string();
            transaction.execute(&self.sql(SEND), &[&received, &signal.topic, &message]).await?;
        }
        Ok(())
    }
}
