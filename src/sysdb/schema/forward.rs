//! Brings a schema of an older generation forward, level by level. Only on request: workers of older SDKs may still
//! use it.
//!
//! Every level is recorded with what it did, or, where that can't be one transaction, after what can be done again. So
//! a run that is killed anywhere can be run again. Below level 100 numbers say little: there the schema's shape is looked
//! at, what it lacks is made, and level 100 is recorded once nothing is lacking.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::inspect::{State, inspect};
use super::levels::{FIRST_SHARED, Kind, Level, above};
use super::lock::{PATIENCE, SYSTEM_KEY, lock_session, unlock_session};
use super::low::{How, Step, is_stale};
use super::migrate::{accept, explain, not_allowed, plan};
use super::name::SchemaName;
use super::{BASELINE_LEVEL, Error};
use crate::postgres::Statements;

/// Who waits for a table's lock makes all others wait behind him, also those who only read; so not for long at a time.
const LOCK_TIMEOUT: &str = "3s";
/// Time for those who had to wait.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// A schema was brought forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// The level that it recorded.
    pub from: i64,
    /// The level that it records now.
    pub to: i64,
}

/// Something that is done to a schema, before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// A level's number, or that it is on the way to the first one that all SDKs share.
    pub name: String,
    /// Whether it is run outside transactions, while the tables are in use: it may take long, and nobody waits for it.
    pub online: bool,
    /// What it does, in words or as a statement.
    pub purpose: String,
}

impl Task {
    fn level(level: &Level) -> Task {
        let name = format!("level {}", level.number());
        Task { name, online: level.is_online(), purpose: level.purpose().to_owned() }
    }

    fn step(step: &Step, schema: &SchemaName) -> Task {
        let name = format!("up to level {FIRST_SHARED}");
        Task { name, online: step.how != How::Transaction, purpose: step.summary(schema) }
    }
}

/// What a schema in this state lacks: steps up to level 100, then levels. Nothing for one that has yet to be made, which is
/// made at the newest level.
fn pending<'a>(state: &'a State, schema: &SchemaName) -> Result<(&'a [Step], &'static [Level]), Error> {
    match state {
        State::Empty => Ok((&[], &[])),
        State::Usable { level } | State::Older { level } => Ok((&[], above(*level))),
        State::Low { steps, .. } => Ok((steps, above(FIRST_SHARED))),
        _ => accept(state, schema).map(|_| ([].as_slice(), [].as_slice())),
    }
}

/// What would be done to a schema in this state, to have it at the newest level: a line for each statement.
///
/// # Errors
/// A schema that can't be brought forward.
pub fn plan_forward(state: &State, schema: &SchemaName) -> Result<Vec<String>, Error> {
    if *state == State::Empty {
        return plan(state, schema);
    }
    let head = |task: Task| format!("{}, {}", task.name, if task.online { "online" } else { "in a transaction" });
    let (steps, levels) = pending(state, schema)?;
    let mut lines = Vec::new();
    for step in steps {
        lines.push(format!("{}: {}", head(Task::step(step, schema)), step.summary(schema)));
    }
    for level in levels {
        let statements = level.statements(schema);
        lines.extend(statements.iter().map(|statement| format!("{}: {statement}", head(Task::level(level)))));
    }
    Ok(lines)
}

/// Executors that took workflows of the last hour, by the columns that every level has.
///
/// # Errors
/// Only those of the database.
pub async fn recent_executors(client: &impl Statements, schema: &SchemaName) -> Result<Vec<String>, Error> {
    // Rides `workflow_status_created_at_index`.
    let sql = format!(
        "SELECT DISTINCT executor_id FROM {}.workflow_status
          WHERE created_at > (EXTRACT(epoch FROM now()) * 1000)::bigint - 3600000
            AND executor_id <> '' AND status IN ('PENDING', 'SUCCESS', 'ERROR')
          ORDER BY executor_id LIMIT 10",
        schema.quoted()
    );
    Ok(client.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Bring a schema to the newest level; `progress` is told each task before it is done. `None` when
/// there is nothing to bring forward: no schema, or the newest.
///
/// Safe to call from several processes at once, and again after one was killed. The connection should be closed
/// afterwards: it has no limit on the time of statements any more, and a caller that is dropped in the middle leaves
/// it with the lock.
///
/// # Errors
/// The schema is of another kind, may not be altered, or is in the way of somebody.
pub async fn advance(
    client: &mut Client,
    schema: &SchemaName,
    progress: impl FnMut(&Task),
) -> Result<Option<Advanced>, Error> {
    // Neither lock nor rights for what is there.
    let state = inspect(client, schema).await?;
    let (steps, levels) = pending(&state, schema)?;
    if steps.is_empty() && levels.is_empty() {
        return Ok(None);
    }
    // An index on a large table takes its time.
    client.batch_execute("SET statement_timeout = 0").await?;
    lock_session(client, SYSTEM_KEY).await?;
    let outcome = climb(client, schema, progress).await;
    let unlocked = unlock_session(client, SYSTEM_KEY).await;
    let advanced = outcome?;
    unlocked?;
    Ok(advanced)
}

async fn climb(
    client: &mut Client,
    schema: &SchemaName,
    mut progress: impl FnMut(&Task),
) -> Result<Option<Advanced>, Error> {
    // Somebody may have done it, or a part, while we tried for the lock.
    let mut state = inspect(client, schema).await?;
    let from = recorded(client, schema).await?;
    if let State::Low { steps, .. } = &state {
        reach_shared(client, schema, steps, &mut progress)
            .await
            .map_err(|error| Error::stopped(schema, FIRST_SHARED, error))?;
        state = inspect(client, schema).await?;
    }
    for level in pending(&state, schema)?.1 {
        // SDKs of other languages migrate without the lock.
        if recorded(client, schema).await? >= level.number() {
            continue;
        }
        progress(&Task::level(level));
        let stopped = |error| Error::stopped(schema, level.number(), error);
        match level.kind() {
            Kind::Transaction => {
                in_transaction(client, schema, &level.sql(schema), Some(level.number())).await.map_err(stopped)?;
            }
            Kind::Builds(_) | Kind::Drops => online(client, schema, level).await.map_err(stopped)?,
        }
        tracing::info!(%schema, level = level.number(), "brought the system schema forward");
    }
    // What is there counts, not what was run: a file of an SDK's may have done otherwise.
    accept(&inspect(client, schema).await?, schema)?;
    let to = recorded(client, schema).await?;
    Ok((to > from).then_some(Advanced { from, to }))
}

/// Do what a schema below level 100 lacks, and record that level when nothing is lacking any more.
async fn reach_shared(
    client: &mut Client,
    schema: &SchemaName,
    steps: &[Step],
    progress: &mut impl FnMut(&Task),
) -> Result<(), Error> {
    for step in steps {
        progress(&Task::step(step, schema));
        match step.how {
            How::Transaction => in_transaction(client, schema, &step.sql(schema), None).await?,
            How::Online(index) => {
                if let Some(index) = index
                    && is_stale(client, schema, index).await?
                {
                    drop_index(client, schema, index).await?;
                }
                client.batch_execute(&step.sql(schema)).await.map_err(|error| explain(error, schema))?;
            }
        }
    }
    match inspect(client, schema).await? {
        State::Low { steps, .. } if !steps.is_empty() => Err(Error::Raced { schema: schema.clone() }),
        State::Low { .. } => {
            record(client, schema, FIRST_SHARED).await?;
            tracing::info!(%schema, level = FIRST_SHARED, "brought the system schema forward");
            Ok(())
        }
        state => pending(&state, schema).map(|_| ()),
    }
}

async fn in_transaction(client: &mut Client, schema: &SchemaName, sql: &str, level: Option<i64>) -> Result<(), Error> {
    let sql = format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {sql}");
    let start = Instant::now();
    loop {
        let transaction = client.transaction().await?;
        let outcome = transaction.batch_execute(&sql).await;
        match outcome {
            Ok(()) => {
                // Last, as the SDKs do: in another order two that migrate without a lock would block each other.
                if let Some(level) = level {
                    record(&transaction, schema, level).await?;
                }
                return Ok(transaction.commit().await?);
            }
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                transaction.rollback().await?;
                if start.elapsed() > PATIENCE {
                    return Err(Error::InUse { seconds: PATIENCE.as_secs() });
                }
                tracing::info!(level, "somebody holds a table for long; trying again");
                tokio::time::sleep(GIVE_WAY).await;
            }
            // Of two that wait for each other's tables the server picks one. Workers at work may be many.
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) && start.elapsed() < PATIENCE => {
                transaction.rollback().await?;
                tracing::info!(level, "somebody and this migration waited for each other; trying again");
                tokio::time::sleep(GIVE_WAY / 4).await;
            }
            Err(error) => return Err(explain(error, schema)),
        }
    }
}

async fn online(client: &Client, schema: &SchemaName, level: &Level) -> Result<(), Error> {
    if let Kind::Builds(index) = level.kind() {
        drop_invalid(client, schema, index).await?;
    }
    client.batch_execute(&level.sql(schema)).await.map_err(|error| explain(error, schema))?;
    record(client, schema, level.number()).await
}

/// A build that was interrupted leaves an index that is never used, and is in the way of the next one.
async fn drop_invalid(client: &Client, schema: &SchemaName, index: &str) -> Result<(), Error> {
    let sql = "SELECT 1
                 FROM pg_catalog.pg_index i
                 JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE NOT i.indisvalid AND n.nspname = $1 AND c.relname = $2";
    if Statements::query_opt(client, sql, &[&schema.name(), &index]).await?.is_some() {
        drop_index(client, schema, index).await?;
    }
    Ok(())
}

async fn drop_index(client: &Client, schema: &SchemaName, index: &str) -> Result<(), Error> {
    tracing::info!(%schema, index, "dropping an index that is of an earlier kind, or was left by an interrupted build");
    let sql = format!("DROP INDEX CONCURRENTLY IF EXISTS {}.{index}", schema.quoted());
    client.batch_execute(&sql).await.map_err(not_allowed)
}

async fn recorded(client: &impl Statements, schema: &SchemaName) -> Result<i64, Error> {
    let sql = format!("SELECT max(version)::bigint FROM {}.dbos_migrations", schema.quoted());
    Ok(client.query_one(&sql, &[]).await?.get::<_, Option<i64>>(0).unwrap_or(0))
}

/// The number only ever grows, whoever else writes it.
async fn record(client: &impl Statements, schema: &SchemaName, level: i64) -> Result<(), Error> {
    debug_assert!(level <= BASELINE_LEVEL);
    let table = format!("{}.dbos_migrations", schema.quoted());
    let sql =
        format!("UPDATE {table} SET version = $1 WHERE version < $1 AND version = (SELECT max(version) FROM {table})");
    client.execute(&sql, &[&level]).await.map_err(not_allowed)?;
    Ok(())
}
