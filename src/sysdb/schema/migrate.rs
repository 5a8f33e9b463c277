//! Makes the system schema where there is none, and refuses what it can't use.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use super::Error;
use super::inspect::{State, inspect};
use super::lock::{SYSTEM_KEY, locked};
use super::name::SchemaName;
use crate::postgres::Statements;

/// The level that a fresh schema is made at: the newest that an SDK knows.
pub const BASELINE_LEVEL: i64 = 125;

const BASELINE: &str = include_str!("../../../migrations/system/0125_baseline.sql");

/// A schema that can be worked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The level that it records.
    pub level: i64,
    /// It was made just now.
    pub created: bool,
}

/// Use the schema if it is usable, make it if there is none, refuse it otherwise. Never alters one that exists.
///
/// Safe to call from several processes at once. It is made in one transaction: a run that is killed leaves nothing.
///
/// # Errors
/// The schema is of another kind, or may not be made.
pub async fn ensure(client: &mut Client, schema: &SchemaName) -> Result<Ready, Error> {
    // The usual case takes no lock.
    if let Some(ready) = accept(&inspect(client, schema).await?, schema)? {
        return Ok(ready);
    }
    locked(client, SYSTEM_KEY, async |transaction| {
        // Somebody may have made it while we tried for the lock.
        if let Some(ready) = accept(&inspect(transaction, schema).await?, schema)? {
            return Ok(ready);
        }
        create(transaction, schema).await.map_err(|error| explain(error, schema))?;
        tracing::info!(%schema, level = BASELINE_LEVEL, "created the system schema");
        Ok(Ready { level: BASELINE_LEVEL, created: true })
    })
    .await
}

/// What the role lacks to make the schema where there is none, as people say it; `None` when it may.
///
/// # Errors
/// Only those of the database.
pub async fn lacking_to_make(client: &impl Statements, schema: &SchemaName) -> Result<Option<String>, Error> {
    let sql =
        "SELECT (SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_namespace n WHERE n.nspname = $1),
                      has_database_privilege(current_database(), 'CREATE'), current_database()::text";
    let row = client.query_one(sql, &[&schema.name()]).await?;
    Ok(match (row.try_get::<_, Option<bool>>(0)?, row.try_get::<_, bool>(1)?) {
        (Some(true), _) | (None, true) => None,
        (Some(false), _) => Some(format!("CREATE on schema {schema}")),
        (None, false) => Some(format!("CREATE on database {}", row.try_get::<_, String>(2)?)),
    })
}

/// What [`ensure`] would create on a schema in this state: the first line of each statement; empty when there is
/// nothing to do.
///
/// # Errors
/// As [`ensure`].
pub fn plan(state: &State, schema: &SchemaName) -> Result<Vec<String>, Error> {
    if accept(state, schema)?.is_some() {
        return Ok(Vec::new());
    }
    let quoted = schema.quoted();
    let mut lines = vec![format!("CREATE SCHEMA {quoted}")];
    let statements = BASELINE.lines().filter(|line| ["CREATE", "INSERT"].iter().any(|word| line.starts_with(word)));
    lines.extend(statements.map(|line| line.replace("{schema}", quoted).trim_end_matches(['(', ';', ' ']).to_owned()));
    Ok(lines)
}

/// The state as it is good for work; nothing when the schema has yet to be made.
pub(super) fn accept(state: &State, schema: &SchemaName) -> Result<Option<Ready>, Error> {
    let schema = schema.clone();
    Err(match state {
        State::Empty => return Ok(None),
        State::Usable { level } | State::Older { level } => return Ok(Some(Ready { level: *level, created: false })),
        State::Low { level, .. } => Error::Older { schema, level: *level },
        State::Strange { level, wrong } => Error::Strange { schema, level: *level, wrong: wrong.clone() },
        State::HalfMade { missing } => Error::HalfMade { schema, missing: missing.clone() },
        State::TooNew { level, missing } => Error::TooNew { schema, level: *level, missing: missing.clone() },
        State::Sharded => Error::Sharded { schema },
    })
}

async fn create(transaction: &Transaction<'_>, schema: &SchemaName) -> Result<(), tokio_postgres::Error> {
    // Without IF NOT EXISTS, which asks for the right to create also where there is nothing to create.
    let sql = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1";
    if Statements::query_opt(transaction, sql, &[&schema.name()]).await?.is_none() {
        transaction.batch_execute(&format!("CREATE SCHEMA {}", schema.quoted())).await?;
    }
    transaction.batch_execute(&BASELINE.replace("{schema}", schema.quoted())).await
}

pub(super) fn explain(error: tokio_postgres::Error, schema: &SchemaName) -> Error {
    // SDKs of other languages create without the lock.
    let raced = [
        SqlState::DUPLICATE_SCHEMA,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::DUPLICATE_FUNCTION,
        SqlState::DUPLICATE_COLUMN,
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    // Two that replace the same function.
    let replaced = error.as_db_error().is_some_and(|server| server.message() == "tuple concurrently updated");
    match error.code() {
        Some(code) if replaced || raced.contains(code) => Error::Raced { schema: schema.clone() },
        _ => not_allowed(error),
    }
}

/// A missing right has its own next step.
pub(super) fn not_allowed(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(server) if *server.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            Error::NotAllowed(server.message().to_owned())
        }
        _ => Error::Database(error),
    }
}
