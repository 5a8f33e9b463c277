//! One batch as one transaction of set-based statements.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::error::{Severity, SqlState};

use crate::failpoint::failpoint;
use crate::postgres::{Parameter, Parameters, Session, Statements, Transaction};
use crate::sysdb::{
    Append, ApplicationWrite, Checkpoint, ChildStart, CommitError, Consume, Finish, Message, Owner, Receive, Received,
    StepRecord, SysdbError, SystemDatabase, Write,
};

/// What became of one checkpoint of a batch that was committed.
pub(super) struct Outcome {
    pub result: Result<Received, CommitError>,
    /// Somebody else holds the row's lock, and it was ours when that began: nothing was written, and it is to be tried again.
    pub busy: bool,
    /// Streams that grew.
    pub streams: Vec<Arc<str>>,
}

/// Why a batch was rolled back.
pub(super) enum Failure {
    /// The connection or the server: try again.
    Transient(String),
    /// Somebody else holds a lock on something in the batch, or a statement took too long: the others must not wait for it.
    Busy(String),
    /// A table or column isn't there: what the statements were composed for may be out of date.
    Misfit(CommitError),
    /// Something in the batch.
    Refused(CommitError),
}

impl Failure {
    pub fn of(error: SysdbError) -> Failure {
        match error {
            SysdbError::Fenced => Failure::Refused(CommitError::Fenced),
            error if error.is_transient() => Failure::Transient(error.to_string()),
            error => Failure::Refused(CommitError::Refused(error.to_string())),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        let busy = matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::QUERY_CANCELED));
        let misfit = matches!(error.code(), Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN));
        let error = SysdbError::from(error);
        match Failure::of(error) {
            Failure::Transient(error) if busy => Failure::Busy(error),
            Failure::Refused(error) if misfit => Failure::Misfit(error),
            failure => failure,
        }
    }
}

/// Lock and compare: rows that lost their token, or were claimed again, drop out; the rest commit. FOR NO KEY UPDATE is held
/// to the commit, so no hand-over slips in between. A row that somebody else has locked is as it was when this began, and
/// told apart: that transaction may take a millisecond or an hour.
const OWNED: &str = "
WITH locked AS MATERIALIZED (
       SELECT w.workflow_uuid, w.owner_xid, w.started_at_epoch_ms FROM {s}.workflow_status w
        WHERE w.workflow_uuid = ANY($1) AND w.status = 'PENDING' ORDER BY w.workflow_uuid FOR NO KEY UPDATE SKIP LOCKED)
SELECT workflow_uuid, owner_xid, started_at_epoch_ms, FALSE AS busy, pg_current_xact_id()::text FROM locked
 UNION ALL
SELECT w.workflow_uuid, w.owner_xid, w.started_at_epoch_ms, TRUE, NULL FROM {s}.workflow_status w
 WHERE w.workflow_uuid = ANY($1) AND w.status = 'PENDING' AND w.workflow_uuid NOT IN (SELECT workflow_uuid FROM locked)";

/// $1 ids. Whether somebody holds the lock of one of these rows.
const LOCKED: &str = "
WITH free AS MATERIALIZED (
       SELECT w.workflow_uuid FROM {s}.workflow_status w WHERE w.workflow_uuid = ANY($1) FOR NO KEY UPDATE SKIP LOCKED)
SELECT EXISTS (SELECT FROM {s}.workflow_status w
                WHERE w.workflow_uuid = ANY($1) AND w.workflow_uuid NOT IN (SELECT workflow_uuid FROM free))";

/// Steps by their time of completion ($1 to $3), and values of streams by the transaction that wrote them ($4 to $7): either
/// is there if the batch was committed, and only then.
const WRITTEN: &str = "
SELECT EXISTS (SELECT FROM unnest($1::text[], $2::int[], $3::bigint[]) AS n(id, function_id, completed)
                 JOIN {s}.operation_outputs o ON o.workflow_uuid = n.id AND o.function_id = n.function_id
                  AND o.completed_at_epoch_ms = n.completed)
    OR EXISTS (SELECT FROM unnest($4::text[], $5::text[], $6::text[]) AS n(id, key, value)
                 JOIN {s}.streams x ON x.workflow_uuid = n.id AND x.key = n.key AND x.value = n.value
                WHERE x.xmin::text = $7)";

const STEPS: &str = "
INSERT INTO {s}.operation_outputs AS o (workflow_uuid, function_id, function_name, output, error, serialization,
       child_workflow_id, started_at_epoch_ms, completed_at_epoch_ms{step_owner})
SELECT n.id, n.function_id, n.name, n.output, n.error, n.serialization, n.child, n.started, n.completed{step_owner_value}
  FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[])
       AS n(id, function_id, name, output, error, serialization, child, started, completed)
  JOIN {s}.workflow_status w ON w.workflow_uuid = n.id
ON CONFLICT (workflow_uuid, function_id) DO UPDATE SET completed_at_epoch_ms = o.completed_at_epoch_ms
RETURNING workflow_uuid, function_id, completed_at_epoch_ms";

/// Gap-free offsets: the stream's last one, plus the place among what this batch appends to it.
const APPEND: &str = r#"
WITH new AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::int[], $6::text[])
               AS n(id, key, value, place, function_id, serialization)),
     base AS (SELECT s.id, s.key, COALESCE((SELECT max("offset") FROM {s}.streams x
                                             WHERE x.workflow_uuid = s.id AND x.key = s.key), -1) AS last
                FROM (SELECT DISTINCT id, key FROM new) s)
INSERT INTO {s}.streams (workflow_uuid, key, value, "offset", function_id, serialization)
SELECT new.id, new.key, new.value, base.last + new.place, new.function_id, new.serialization
  FROM new JOIN base USING (id, key)"#;

/// The oldest message of the topic, consumed and recorded as a step with its own value and format.
const RECEIVE: &str = "
WITH want AS (SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[])
                AS n(id, topic, function_id, started, completed)),
     taken AS (UPDATE {s}.notifications n SET consumed = TRUE{consumer}
                 FROM want, LATERAL (SELECT m.message_uuid FROM {s}.notifications m
                                      WHERE m.destination_uuid = want.id AND m.topic = want.topic AND NOT m.consumed
                                      ORDER BY m.created_at_epoch_ms LIMIT 1) oldest
                WHERE n.message_uuid = oldest.message_uuid AND NOT n.consumed
            RETURNING want.*, n.message, n.serialization)
INSERT INTO {s}.operation_outputs (workflow_uuid, function_id, function_name, output, serialization,
       started_at_epoch_ms, completed_at_epoch_ms{step_owner})
SELECT taken.id, taken.function_id, 'DBOS.recv', taken.message, taken.serialization, taken.started,
       taken.completed{step_owner_value}
  FROM taken JOIN {s}.workflow_status w ON w.workflow_uuid = taken.id
RETURNING workflow_uuid, function_id, output, serialization";

/// By their keys; only messages to the workflow itself.
const CONSUME: &str = "
UPDATE {s}.notifications n SET consumed = TRUE, consumed_by_function_id = read.function_id
  FROM unnest($1::text[], $2::text[], $3::int[]) AS read(destination, id, function_id)
 WHERE n.message_uuid = read.id AND n.destination_uuid = read.destination AND NOT n.consumed";

/// A child exists from the moment that its parent's step says so, and a re-run meets its own rows.
const START: &str = "
WITH new AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[])
               AS n(parent, id, queue, inputs, serialization, legacy)),
     child AS (INSERT INTO {s}.workflow_status (workflow_uuid, status, name, class_name, config_name, queue_name,
                      application_name, application_version, application_id, authenticated_user, assumed_role,
                      authenticated_roles, request, serialization, inputs, recovery_attempts,
                      workflow_deadline_epoch_ms, deduplication_id, parent_workflow_id)
               SELECT new.id, 'ENQUEUED', p.name, p.class_name, p.config_name, new.queue, p.application_name,
                      p.application_version, p.application_id, p.authenticated_user, p.assumed_role,
                      p.authenticated_roles, p.request, new.serialization, {child_inputs}, 0,
                      p.workflow_deadline_epoch_ms, new.id, new.parent
                 FROM new JOIN {s}.workflow_status p ON p.workflow_uuid = new.parent
               ON CONFLICT (workflow_uuid) DO NOTHING RETURNING workflow_uuid)
{store_children}";

const FINISH: &str = "
WITH ended AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[])
                 AS n(id, status, output, error, legacy)),
     done AS (UPDATE {s}.workflow_status w
                 SET status = ended.status, owner_xid = NULL, deduplication_id = NULL,
                     {own_outcome}, updated_at = {now}, completed_at = {now}
                FROM ended WHERE w.workflow_uuid = ended.id
           RETURNING w.workflow_uuid, ended.output AS result, ended.error AS failure)
{store_outcomes}";

/// Token and time of the claim of each workflow that runs, and whether its row is locked by somebody else.
type Owned = HashMap<String, (String, i64, bool)>;

/// Messages received, by workflow and step.
type Mail = HashMap<(String, i32), Message>;

type Committed = (String, Vec<Outcome>, Result<(), tokio_postgres::Error>);

/// What is remembered of a batch whose COMMIT was never answered.
pub(super) struct Unsure {
    pub xid: String,
    pub outcomes: Vec<Outcome>,
}

/// Whether a batch was committed whose COMMIT was never answered; `None` while its transaction may still be under way.
///
/// By what it wrote, not by the number of its transaction: after a failover the new primary may have given that number to
/// somebody else's transaction, when the old one never got its own across.
pub(super) async fn was_committed(
    sysdb: &SystemDatabase,
    client: &Session,
    batch: &[&Checkpoint],
    unsure: &Unsure,
) -> Result<Option<bool>, Failure> {
    let Ok(xid) = unsure.xid.parse::<u64>() else { return Ok(Some(false)) }; // no row was ours, so nothing was written
    let status = match client.query_one("SELECT pg_xact_status($1::text::xid8)", &[&unsure.xid]).await {
        Ok(row) => row.try_get::<_, Option<String>>(0)?,
        // "... is in the future": another server, which hasn't got so far.
        Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => None,
        Err(error) => return Err(error.into()),
    };
    let (mut ids, mut steps, mut numbers, mut completed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut streams, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (checkpoint, _) in batch.iter().zip(&unsure.outcomes).filter(|(_, outcome)| outcome.result.is_ok()) {
        let id = checkpoint.owner.id.as_str();
        ids.push(id);
        for write in &checkpoint.writes {
            let step = match write {
                Write::Step(step) => Some((step.function_id, step.completed_at)),
                Write::Receive(receive) => Some((receive.function_id, receive.completed_at)),
                _ => None,
            };
            if let Some((function_id, at)) = step {
                steps.push(id);
                numbers.push(function_id);
                completed.push(at);
            }
            if let Write::Append(Append { key, values: appended, .. }) = write
                && let Some(last) = appended.last()
            {
                streams.push(id);
                keys.push(key.as_ref());
                values.push(last.as_str());
            }
        }
    }
    if status.as_deref() == Some("in progress") {
        // Ours still holds its locks. If nobody does, it is somebody else's transaction, on another server.
        let locked: bool = client.query_one(&sysdb.sql(LOCKED), &[&ids]).await?.try_get(0)?;
        if locked {
            return Ok(None);
        }
    }
    // What leaves neither steps nor values may be written again without harm.
    let writer = (xid & u64::from(u32::MAX)).to_string();
    let row = client
        .query_one(&sysdb.sql(WRITTEN), &[&steps, &numbers, &completed, &streams, &keys, &values, &writer])
        .await?;
    Ok(Some(row.try_get(0)?))
}

/// Write a batch: transaction id, what became of each checkpoint, and the answer to COMMIT.
pub(super) async fn write(
    sysdb: &SystemDatabase,
    client: &mut Session,
    batch: &[&Checkpoint],
) -> Result<Committed, Failure> {
    let transaction = client.transaction().await?;
    failpoint!(CheckpointBegun);
    let (xid, mut owned) = owned(sysdb, &transaction, batch).await?;
    failpoint!(CheckpointLocked);
    let mut mine = Vec::with_capacity(batch.len()); // whether it is ours, and whether its row is locked by somebody else
    let mut writes = Columns::default();
    for checkpoint in batch {
        let id = checkpoint.owner.id.as_str();
        let Owner { token, since, .. } = &checkpoint.owner;
        let found = owned.get(id).filter(|(owner, claimed, _)| owner == token.as_str() && claimed == since);
        let (live, busy) = (found.is_some(), found.is_some_and(|(_, _, busy)| *busy));
        mine.push((live, busy));
        if live && !busy {
            writes.add(checkpoint);
            // An outcome ends the ownership, also for what follows in the same batch.
            if checkpoint.writes.iter().any(|write| matches!(write, Write::Finish(_))) {
                owned.remove(id);
            }
        }
    }
    let mut mail = writes.run(sysdb, &transaction).await?;
    // The process may have stood still since the batch began.
    sysdb.fence.check().map_err(Failure::of)?;
    failpoint!(CheckpointWritten);
    let committed = transaction.commit().await;
    failpoint!(CheckpointCommitted);
    failpoint!(MessageCommitted, when = !writes.receives.is_empty() && !mail.is_empty());
    failpoint!(ChildCommitted, when = !writes.starts.is_empty());
    failpoint!(OutcomeCommitted, when = !writes.finishes.is_empty());

    let outcomes = batch
        .iter()
        .zip(mine)
        .map(|(checkpoint, mine)| match mine {
            (true, false) => {
                Outcome { result: Ok(received(checkpoint, &mut mail)), busy: false, streams: grown(checkpoint) }
            }
            (_, busy) => Outcome { result: Err(CommitError::OwnershipLost), busy, streams: Vec::new() },
        })
        .collect();
    match committed {
        Err(error) if error.as_db_error().is_some_and(|error| rolls_back(error.parsed_severity())) => Err(error.into()),
        committed => Ok((xid, outcomes, committed)),
    }
}

/// Whether an error of this severity, in answer to COMMIT, says that nothing was committed. One that ends the connection
/// doesn't: a server sends it that is shut down while it waits for its standby, and a pooler that lost the server. PgBouncer's
/// own errors lack the field that the severity is known by.
fn rolls_back(severity: Option<Severity>) -> bool {
    severity.is_some_and(|severity| !matches!(severity, Severity::Fatal | Severity::Panic))
}

async fn owned(
    sysdb: &SystemDatabase,
    transaction: &Transaction<'_>,
    batch: &[&Checkpoint],
) -> Result<(String, Owned), Failure> {
    let ids: Vec<&str> = batch.iter().map(|checkpoint| checkpoint.owner.id.as_str()).collect();
    let statement = sysdb.sql(OWNED);
    let mut xid = String::new();
    let mut owned = HashMap::new();
    for row in transaction.query(&statement, &[&ids]).await? {
        xid = row.try_get::<_, Option<String>>(4)?.unwrap_or(xid);
        // Without a token or a time it is nobody's of ours.
        if let (Some(token), Some(since)) = (row.try_get(1)?, row.try_get(2)?) {
            owned.insert(row.try_get(0)?, (token, since, row.try_get(3)?));
        }
    }
    Ok((xid, owned))
}

/// What this checkpoint received: others of the same workflow may be in the batch.
fn received(checkpoint: &Checkpoint, mail: &mut Mail) -> Received {
    checkpoint.writes.iter().find_map(|write| match write {
        Write::Receive(receive) => mail.remove(&(checkpoint.owner.id.as_str().to_owned(), receive.function_id)),
        _ => None,
    })
}

fn grown(checkpoint: &Checkpoint) -> Vec<Arc<str>> {
    checkpoint
        .writes
        .iter()
        .filter_map(|write| match write {
            Write::Append(append) => Some(append.key.clone()),
            _ => None,
        })
        .collect()
}

/// The batch's writes by kind.
#[derive(Default)]
struct Columns<'a> {
    steps: Vec<(&'a str, &'a StepRecord)>,
    appends: Vec<(&'a str, &'a Append)>,
    receives: Vec<(&'a str, &'a Receive)>,
    consumes: Vec<(&'a str, &'a Consume)>,
    application: Vec<(&'a str, Vec<&'a serde_json::Value>)>,
    starts: Vec<(&'a str, &'a ChildStart)>,
    finishes: Vec<(&'a str, &'a Finish)>,
}

impl<'a> Columns<'a> {
    fn add(&mut self, checkpoint: &'a Checkpoint) {
        let id = checkpoint.owner.id.as_str();
        for write in &checkpoint.writes {
            match write {
                Write::Step(step) => self.steps.push((id, step)),
                Write::Append(append) => self.appends.push((id, append)),
                Write::Receive(receive) => self.receives.push((id, receive)),
                Write::Consume(consume) => self.consumes.push((id, consume)),
                Write::Application(ApplicationWrite { statement, row }) => {
                    match self.application.iter_mut().find(|(known, _)| *known == statement.as_ref()) {
                        Some((_, rows)) => rows.push(row),
                        None => self.application.push((statement, vec![row])),
                    }
                }
                Write::Start(start) => self.starts.push((id, start)),
                Write::Finish(finish) => self.finishes.push((id, finish)),
            }
        }
    }

    /// Run the statements, and give the messages received.
    async fn run(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<Mail, Failure> {
        self.steps(sysdb, transaction).await?;
        failpoint!(CheckpointSteps);
        let mail = self.receives(sysdb, transaction).await?;
        failpoint!(CheckpointReceives, when = !mail.is_empty());
        self.consumes(sysdb, transaction).await?;
        failpoint!(CheckpointConsumes, when = !self.consumes.is_empty());
        // These go out together: one round trip for all of them.
        tokio::try_join!(self.appends(sysdb, transaction), self.application(transaction))?;
        failpoint!(CheckpointAppends);
        self.starts(sysdb, transaction).await?;
        failpoint!(CheckpointStarts, when = !self.starts.is_empty());
        self.finishes(sysdb, transaction).await?;
        failpoint!(CheckpointFinishes, when = !self.finishes.is_empty());
        Ok(mail)
    }

    async fn steps(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<(), Failure> {
        if self.steps.is_empty() {
            return Ok(());
        }
        let column =
            |of: fn(&'a StepRecord) -> Option<&'a str>| self.steps.iter().map(|(_, step)| of(step)).collect::<Vec<_>>();
        let ids: Vec<&str> = self.steps.iter().map(|(id, _)| *id).collect();
        let numbers: Vec<i32> = self.steps.iter().map(|(_, step)| step.function_id).collect();
        let started: Vec<i64> = self.steps.iter().map(|(_, step)| step.started_at).collect();
        let completed: Vec<i64> = self.steps.iter().map(|(_, step)| step.completed_at).collect();
        let statement = sysdb.sql(STEPS);
        let rows = transaction
            .query(
                &statement,
                &[
                    &ids,
                    &numbers,
                    &column(|step| Some(&step.name)),
                    &column(|step| step.output.as_deref()),
                    &column(|step| step.error.as_deref()),
                    &column(|step| step.serialization.as_deref()),
                    &column(|step| step.child.as_deref()),
                    &started,
                    &completed,
                ],
            )
            .await?;
        let mut sent = HashSet::new();
        for (id, step) in &self.steps {
            sent.insert((*id, step.function_id, step.completed_at));
        }
        for row in &rows {
            let (id, function_id, completed): (&str, i32, Option<i64>) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if !completed.is_some_and(|completed| sent.contains(&(id, function_id, completed))) {
                return Err(Failure::Refused(CommitError::Nondeterminism { function_id }));
            }
        }
        Ok(())
    }

    async fn receives(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<Mail, Failure> {
        let mut mail = HashMap::new();
        if self.receives.is_empty() {
            return Ok(mail);
        }
        let ids: Vec<&str> = self.receives.iter().map(|(id, _)| *id).collect();
        let topics: Vec<&str> = self.receives.iter().map(|(_, receive)| receive.topic.as_str()).collect();
        let numbers: Vec<i32> = self.receives.iter().map(|(_, receive)| receive.function_id).collect();
        let started: Vec<i64> = self.receives.iter().map(|(_, receive)| receive.started_at).collect();
        let completed: Vec<i64> = self.receives.iter().map(|(_, receive)| receive.completed_at).collect();
        let statement = sysdb.sql(RECEIVE);
        for row in transaction.query(&statement, &[&ids, &topics, &numbers, &started, &completed]).await? {
            let message = Message {
                value: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
                serialization: row.try_get(3)?,
            };
            mail.insert((row.try_get(0)?, row.try_get(1)?), message);
        }
        Ok(mail)
    }

    async fn consumes(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<(), Failure> {
        if self.consumes.is_empty() {
            return Ok(());
        }
        let (mut ids, mut messages, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for (id, consume) in &self.consumes {
            for message in &consume.messages {
                ids.push(*id);
                messages.push(message.as_str());
                numbers.push(consume.function_id);
            }
        }
        let statement = sysdb.sql(CONSUME);
        transaction.execute(&statement, &[&ids, &messages, &numbers]).await?;
        Ok(())
    }

    /// Statements of the application, in the order of their first use.
    async fn application(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let rows: Vec<_> = self.application.iter().map(|(_, rows)| serde_json::json!(rows)).collect();
        let rows: Vec<[&dyn Parameter; 1]> = rows.iter().map(|rows| [rows as &dyn Parameter]).collect();
        let statements: Vec<(&str, &Parameters<'_>)> =
            self.application.iter().zip(&rows).map(|((statement, _), rows)| (&**statement, &rows[..])).collect();
        transaction.execute_all(&statements).await?;
        Ok(())
    }

    async fn appends(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<(), Failure> {
        if self.appends.is_empty() {
            return Ok(());
        }
        let mut last: HashMap<(&str, &str), i32> = HashMap::new();
        let (mut ids, mut keys, mut values, mut places, mut numbers, mut formats) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (id, append) in &self.appends {
            let place = last.entry((*id, append.key.as_ref())).or_default();
            for value in &append.values {
                *place += 1;
                ids.push(*id);
                keys.push(append.key.as_ref());
                values.push(value.as_str());
                places.push(*place);
                numbers.push(append.function_id);
                formats.push(append.serialization);
            }
        }
        let statement = sysdb.sql(APPEND);
        transaction.execute(&statement, &[&ids, &keys, &values, &places, &numbers, &formats]).await?;
        Ok(())
    }

    async fn starts(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<(), Failure> {
        if self.starts.is_empty() {
            return Ok(());
        }
        let column =
            |of: fn(&'a ChildStart) -> &'a str| self.starts.iter().map(|(_, start)| of(start)).collect::<Vec<_>>();
        let parents: Vec<&str> = self.starts.iter().map(|(parent, _)| *parent).collect();
        let legacy: Vec<bool> = self.starts.iter().map(|(_, start)| start.legacy).collect();
        let statement = sysdb.sql(START);
        transaction
            .execute(
                &statement,
                &[
                    &parents,
                    &column(|start| &start.id),
                    &column(|start| &start.queue),
                    &column(|start| &start.inputs),
                    &column(|start| start.serialization),
                    &legacy,
                ],
            )
            .await?;
        Ok(())
    }

    async fn finishes(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<(), Failure> {
        if self.finishes.is_empty() {
            return Ok(());
        }
        let ids: Vec<&str> = self.finishes.iter().map(|(id, _)| *id).collect();
        let statuses: Vec<&str> =
            self.finishes.iter().map(|(_, finish)| if finish.outcome.is_ok() { "SUCCESS" } else { "ERROR" }).collect();
        let outputs: Vec<Option<&str>> =
            self.finishes.iter().map(|(_, finish)| finish.outcome.as_ref().ok().map(String::as_str)).collect();
        let errors: Vec<Option<&str>> =
            self.finishes.iter().map(|(_, finish)| finish.outcome.as_ref().err().map(String::as_str)).collect();
        let legacy: Vec<bool> = self.finishes.iter().map(|(_, finish)| finish.legacy).collect();
        let statement = sysdb.sql(FINISH);
        transaction.execute(&statement, &[&ids, &statuses, &outputs, &errors, &legacy]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_ends_the_connection_leaves_the_commit_open() {
        assert!(rolls_back(Some(Severity::Error)));
        for severity in [Some(Severity::Fatal), Some(Severity::Panic), None] {
            assert!(!rolls_back(severity), "{severity:?}");
        }
    }
}
