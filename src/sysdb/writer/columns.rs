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

use super::{
    sql::{APPEND, CONSUME, FINISH, OTHERS, RECEIVE, START, STEPS},
    transaction::Failure,
};

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
