//! The writes of a batch by their kinds, and the statements for them: one for all rows of a kind, sent in one go.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use futures_util::future::try_join_all;
use serde_json::Value as Json;
use tokio_postgres::types::Json as AsJson;

use crate::failpoint::failpoint;
use crate::postgres::{Parameter, Statements, Transaction};
use crate::sysdb::{
    Append, ApplicationWrite, Checkpoint, ChildStart, CommitError, Consume, Finish, Message, Receive, StepRecord,
    SystemDatabase, Write,
};

use super::transaction::Failure;

const STEPS: &str = "
INSERT INTO {s}.operation_outputs (workflow_uuid, function_id, function_name, output, error, serialization,
       child_workflow_id, started_at_epoch_ms, completed_at_epoch_ms{step_owner})
SELECT n.id, n.function_id, n.name, n.output, n.error, n.serialization, n.child, n.started, n.completed{step_owner_value}
  FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[])
       AS n(id, function_id, name, output, error, serialization, child, started, completed)
  JOIN {s}.workflow_status w ON w.workflow_uuid = n.id
ON CONFLICT (workflow_uuid, function_id) DO NOTHING";

/// Steps of $1 and $2 that are recorded with another time of completion than $3: somebody else's, or of another life.
const OTHERS: &str = "
SELECT n.function_id FROM unnest($1::text[], $2::int[], $3::bigint[]) AS n(id, function_id, completed)
  JOIN {s}.operation_outputs o ON o.workflow_uuid = n.id AND o.function_id = n.function_id
 WHERE o.completed_at_epoch_ms IS DISTINCT FROM n.completed LIMIT 1";

/// Gap-free offsets: the stream's last one plus the place among what this batch appends to it. No join of the values with
/// their streams, which would compare each with each; and with OFFSET 0 the last one is asked for once, before the first value
/// is written, not again for each.
const APPEND: &str = r#"
INSERT INTO {s}.streams (workflow_uuid, key, value, "offset", function_id, serialization)
SELECT id, key, value, first_value(last) OVER (PARTITION BY stream ORDER BY place) + place, function_id, serialization
  FROM (SELECT n.*, CASE WHEN place = 1 THEN COALESCE((SELECT max("offset") FROM {s}.streams x
                                                         WHERE x.workflow_uuid = n.id AND x.key = n.key), -1) END AS last
          FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::int[], $6::int[], $7::text[])
               AS n(id, key, value, stream, place, function_id, serialization) OFFSET 0) appended"#;

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
                FROM ended WHERE w.workflow_uuid = ended.id AND w.workflow_uuid = ANY($1)
           RETURNING w.workflow_uuid, ended.output AS result, ended.error AS failure)
{store_outcomes}";

/// Messages received, by workflow and step.
pub(super) type Mail = HashMap<(String, i32), Message>;

/// A statement with its values.
struct Planned<'a> {
    sql: Arc<str>,
    values: Vec<Box<dyn Parameter + Send + 'a>>,
    writes: Kind,
}

/// What a statement writes.
#[derive(Clone, Copy)]
enum Kind {
    Steps,
    Consumes,
    Appends,
    Rows,
    Starts,
    Finishes,
}

impl Kind {
    /// It is written, and not committed.
    #[cfg_attr(not(feature = "failpoints"), expect(clippy::unused_async, reason = "there is nothing to wait for"))]
    async fn is_written(self) {
        match self {
            Kind::Steps => {
                failpoint!(CheckpointSteps);
            }
            Kind::Consumes => {
                failpoint!(CheckpointConsumes);
            }
            Kind::Appends => {
                failpoint!(CheckpointAppends);
            }
            Kind::Rows => {
                failpoint!(CheckpointRows);
            }
            Kind::Starts => {
                failpoint!(CheckpointStarts);
            }
            Kind::Finishes => {
                failpoint!(CheckpointFinishes);
            }
        }
    }
}

/// Send statements in one go, to be run in this order. How many rows each has written.
async fn write_all(transaction: &Transaction<'_>, planned: &[Planned<'_>]) -> Result<Vec<u64>, Failure> {
    let mut ready = Vec::with_capacity(planned.len());
    for planned in planned {
        let values: Vec<&dyn Parameter> = planned.values.iter().map(|value| &**value as &dyn Parameter).collect();
        // First, so that none has to wait for its preparation while the next one is sent.
        transaction.prepare(&planned.sql, &values).await?;
        ready.push((planned, values));
    }
    let run = ready.iter().map(|(planned, values)| async move {
        let written = transaction.execute(&planned.sql, values).await?;
        planned.writes.is_written().await;
        Ok(written)
    });
    // Polled in order, so they are sent in order.
    try_join_all(run).await
}

/// Rows for one statement of the application.
struct Application<'a> {
    statement: &'a Arc<str>,
    merges: bool,
    rows: Vec<Cow<'a, Json>>,
    /// Where the row of an id is, if rows merge.
    places: HashMap<&'a str, usize>,
}

impl<'a> Application<'a> {
    fn add(&mut self, row: &'a Json) {
        let id = row.get("id").and_then(Json::as_str).filter(|_| self.merges);
        if let Some(id) = id {
            match self.places.entry(id) {
                Entry::Occupied(place) => {
                    let known = self.rows.get_mut(*place.get()).and_then(|known| known.to_mut().as_object_mut());
                    if let (Some(known), Some(row)) = (known, row.as_object()) {
                        known.extend(row.iter().map(|(name, value)| (name.clone(), value.clone())));
                    }
                    return;
                }
                Entry::Vacant(place) => _ = place.insert(self.rows.len()),
            }
        }
        self.rows.push(Cow::Borrowed(row));
    }
}

/// The batch's writes by kind.
#[derive(Default)]
pub(super) struct Columns<'a> {
    steps: Vec<(&'a str, &'a StepRecord)>,
    appends: Vec<(&'a str, &'a Append)>,
    receives: Vec<(&'a str, &'a Receive)>,
    consumes: Vec<(&'a str, &'a Consume)>,
    application: Vec<Application<'a>>,
    starts: Vec<(&'a str, &'a ChildStart)>,
    finishes: Vec<(&'a str, &'a Finish)>,
}

impl<'a> Columns<'a> {
    pub fn add(&mut self, checkpoint: &'a Checkpoint) {
        let id = checkpoint.owner.id.as_str();
        for write in checkpoint.writes.iter() {
            match write {
                Write::Step(step) => self.steps.push((id, step)),
                Write::Append(append) => self.appends.push((id, append)),
                Write::Receive(receive) => self.receives.push((id, receive)),
                Write::Consume(consume) => self.consumes.push((id, consume)),
                Write::Application(write) => self.add_row(write),
                Write::Start(start) => self.starts.push((id, start)),
                Write::Finish(finish) => self.finishes.push((id, finish)),
            }
        }
    }

    fn add_row(&mut self, ApplicationWrite { statement, row, merges }: &'a ApplicationWrite) {
        let known = self.application.iter_mut().find(|known| known.statement == statement);
        match known {
            Some(known) => known.add(row),
            None => {
                let (rows, places) = (Vec::new(), HashMap::new());
                let mut new = Application { statement, merges: *merges, rows, places };
                new.add(row);
                self.application.push(new);
            }
        }
    }

    #[cfg(feature = "failpoints")]
    pub fn has_starts(&self) -> bool {
        !self.starts.is_empty()
    }

    #[cfg(feature = "failpoints")]
    pub fn has_finishes(&self) -> bool {
        !self.finishes.is_empty()
    }

    /// Run the statements, and give the messages received.
    pub async fn run(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<Mail, Failure> {
        let mail = self.receive(sysdb, transaction).await?;
        failpoint!(CheckpointReceives, when = !mail.is_empty());
        let mut planned = Vec::new();
        planned.extend(self.steps(sysdb));
        planned.extend(self.consumes(sysdb));
        planned.extend(self.appends(sysdb));
        planned.extend(self.application());
        planned.extend(self.starts(sysdb));
        planned.extend(self.finishes(sysdb));
        let written = write_all(transaction, &planned).await?;
        // The steps are the first of them.
        if written.first().is_some_and(|written| *written < self.steps.len() as u64) && !self.steps.is_empty() {
            self.look_at_conflict(sysdb, transaction).await?;
        }
        Ok(mail)
    }

    fn steps(&self, sysdb: &SystemDatabase) -> Option<Planned<'a>> {
        if self.steps.is_empty() {
            return None;
        }
        let column = |of: fn(&'a StepRecord) -> Option<&'a str>| {
            Box::new(self.steps.iter().map(|(_, step)| of(step)).collect::<Vec<_>>())
        };
        let [ids, numbers, completed] = self.step_keys();
        Some(Planned {
            sql: sysdb.sql(STEPS),
            values: vec![
                ids,
                numbers,
                column(|step| Some(&step.name)),
                column(|step| step.output.as_deref()),
                column(|step| step.error.as_deref()),
                column(|step| step.serialization.as_deref()),
                column(|step| step.child.as_deref()),
                Box::new(self.steps.iter().map(|(_, step)| step.started_at).collect::<Vec<_>>()),
                completed,
            ],
            writes: Kind::Steps,
        })
    }

    fn step_keys(&self) -> [Box<dyn Parameter + Send + 'a>; 3] {
        [
            Box::new(self.steps.iter().map(|(id, _)| *id).collect::<Vec<_>>()),
            Box::new(self.steps.iter().map(|(_, step)| step.function_id).collect::<Vec<_>>()),
            Box::new(self.steps.iter().map(|(_, step)| step.completed_at).collect::<Vec<_>>()),
        ]
    }

    /// Some steps were recorded before. The same record again does no harm.
    async fn look_at_conflict(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let keys = self.step_keys();
        let keys: Vec<&dyn Parameter> = keys.iter().map(|key| &**key as &dyn Parameter).collect();
        match transaction.query_opt(&sysdb.sql(OTHERS), &keys).await? {
            Some(row) => Err(Failure::Refused(CommitError::Nondeterminism { function_id: row.try_get(0)? })),
            None => Ok(()),
        }
    }

    async fn receive(&self, sysdb: &SystemDatabase, transaction: &Transaction<'_>) -> Result<Mail, Failure> {
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

    fn consumes(&self, sysdb: &SystemDatabase) -> Option<Planned<'a>> {
        if self.consumes.is_empty() {
            return None;
        }
        let (mut ids, mut messages, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for (id, consume) in &self.consumes {
            for message in &consume.messages {
                ids.push(*id);
                messages.push(message.as_str());
                numbers.push(consume.function_id);
            }
        }
        Some(Planned {
            sql: sysdb.sql(CONSUME),
            values: vec![Box::new(ids), Box::new(messages), Box::new(numbers)],
            writes: Kind::Consumes,
        })
    }

    /// Statements of the application: those whose rows merge, then the others, in the order of their first use.
    fn application<'s>(&'s self) -> impl Iterator<Item = Planned<'s>> {
        let (first, others): (Vec<_>, Vec<_>) = self.application.iter().partition(|application| application.merges);
        first.into_iter().chain(others).map(|application| Planned {
            sql: application.statement.clone(),
            values: vec![Box::new(AsJson(&application.rows[..]))],
            writes: Kind::Rows,
        })
    }

    fn appends(&self, sysdb: &SystemDatabase) -> Option<Planned<'a>> {
        if self.appends.is_empty() {
            return None;
        }
        let mut known: HashMap<(&str, &str), (i32, i32)> = HashMap::new();
        let (mut ids, mut keys, mut values, mut streams, mut places, mut numbers, mut formats) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (id, append) in &self.appends {
            let next = i32::try_from(known.len()).unwrap_or(i32::MAX);
            let (stream, place) = known.entry((*id, append.key.as_ref())).or_insert((next, 0));
            for value in &append.values {
                *place += 1;
                ids.push(*id);
                keys.push(append.key.as_ref());
                values.push(value.as_str());
                streams.push(*stream);
                places.push(*place);
                numbers.push(append.function_id);
                formats.push(append.serialization);
            }
        }
        Some(Planned {
            sql: sysdb.sql(APPEND),
            values: vec![
                Box::new(ids),
                Box::new(keys),
                Box::new(values),
                Box::new(streams),
                Box::new(places),
                Box::new(numbers),
                Box::new(formats),
            ],
            writes: Kind::Appends,
        })
    }

    fn starts(&self, sysdb: &SystemDatabase) -> Option<Planned<'a>> {
        if self.starts.is_empty() {
            return None;
        }
        let column = |of: fn(&'a ChildStart) -> &'a str| {
            Box::new(self.starts.iter().map(|(_, start)| of(start)).collect::<Vec<_>>())
        };
        Some(Planned {
            sql: sysdb.sql(START),
            values: vec![
                Box::new(self.starts.iter().map(|(parent, _)| *parent).collect::<Vec<_>>()),
                column(|start| &start.id),
                column(|start| &start.queue),
                column(|start| &start.inputs),
                column(|start| start.serialization),
                Box::new(self.starts.iter().map(|(_, start)| start.legacy).collect::<Vec<_>>()),
            ],
            writes: Kind::Starts,
        })
    }

    fn finishes(&self, sysdb: &SystemDatabase) -> Option<Planned<'a>> {
        if self.finishes.is_empty() {
            return None;
        }
        let column = |of: fn(&'a Finish) -> Option<&'a str>| {
            Box::new(self.finishes.iter().map(|(_, end)| of(end)).collect::<Vec<_>>())
        };
        Some(Planned {
            sql: sysdb.sql(FINISH),
            values: vec![
                Box::new(self.finishes.iter().map(|(id, _)| *id).collect::<Vec<_>>()),
                column(|end| Some(if end.outcome.is_ok() { "SUCCESS" } else { "ERROR" })),
                column(|end| end.outcome.as_ref().ok().map(String::as_str)),
                column(|end| end.outcome.as_ref().err().map(String::as_str)),
                Box::new(self.finishes.iter().map(|(_, end)| end.legacy).collect::<Vec<_>>()),
            ],
            writes: Kind::Finishes,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sysdb::{Owner, OwnerToken, WorkflowId};

    #[test]
    fn what_happens_to_a_row_in_one_transaction_is_written_once_and_first() {
        let write = |statement: &str, merges: bool, row: Json| {
            Write::Application(ApplicationWrite { statement: statement.into(), row, merges })
        };
        let checkpoint = |id: &str, writes: Vec<Write>| Checkpoint {
            owner: Owner { id: WorkflowId::new(id), token: OwnerToken::fresh(), since: 0 },
            writes: Arc::new(writes),
        };
        let batch = [
            checkpoint(
                "a",
                vec![
                    write("plain", false, json!({"id": "a", "n": 1})),
                    write("merged", true, json!({"id": "a", "x": 1})),
                ],
            ),
            checkpoint("b", vec![write("merged", true, json!({"id": "b", "x": 1}))]),
            checkpoint(
                "a",
                vec![
                    write("merged", true, json!({"id": "a", "x": 2, "y": 3})),
                    write("plain", false, json!({"id": "a", "n": 2})),
                ],
            ),
        ];
        let mut columns = Columns::default();
        batch.iter().for_each(|checkpoint| columns.add(checkpoint));
        let statements: Vec<_> = columns.application().map(|planned| planned.sql.to_string()).collect();
        assert_eq!(statements, ["merged", "plain"]);
        let rows = |statement: &str| {
            let found = columns.application.iter().find(|application| &**application.statement == statement);
            json!(found.map(|application| &application.rows))
        };
        assert_eq!(rows("merged"), json!([{"id": "a", "x": 2, "y": 3}, {"id": "b", "x": 1}]));
        assert_eq!(rows("plain"), json!([{"id": "a", "n": 1}, {"id": "a", "n": 2}]));
    }
}
