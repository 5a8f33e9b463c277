//! What a schema is: by the tables and columns it has, and by the level that it records.

use std::collections::{HashMap, HashSet};

use super::Error;
use super::levels::{FIRST_SHARED, comes_after};
use super::low::{self, Low, Step};
use super::name::SchemaName;
use super::shape::{Needed, SYSTEM};
use crate::postgres::Statements;

/// From here on the columns are all there; later levels only add indexes.
const FIRST_COMPLETE_LEVEL: i64 = 123;

/// What a schema is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No table of DBOS is there; the schema itself may be.
    Empty,
    /// All that we need is there, also when the level is newer than what we know.
    Usable {
        /// The recorded level.
        level: i64,
    },
    /// An older generation's, complete in itself: good for work, in its own layout.
    Older {
        /// The recorded level, 100 or above: all SDKs mean the same by it.
        level: i64,
    },
    /// An older generation's, of the time when each language's SDK counted for itself.
    Low {
        /// The recorded level, below 100.
        level: i64,
        /// What brings it to level 100.
        steps: Vec<Step>,
    },
    /// Records a level below 100, and is not what any SDK made.
    Strange {
        /// The recorded level.
        level: i64,
        /// What is missing or of another kind.
        wrong: Vec<String>,
    },
    /// Something is missing that its level promises.
    HalfMade {
        /// Tables and columns that are not there.
        missing: Vec<String>,
    },
    /// Newer than what we know, and without something that we need.
    TooNew {
        /// The recorded level.
        level: i64,
        /// Tables and columns that are not there.
        missing: Vec<String>,
    },
    /// Spread over several databases by an add-on.
    Sharded,
}

/// Look at a schema, without locks and without changing anything.
///
/// # Errors
/// Only those of the database.
pub async fn inspect(client: &impl Statements, schema: &SchemaName) -> Result<State, Error> {
    let tables = columns(client, schema).await?;
    if tables.is_empty() {
        return Ok(State::Empty);
    }
    if !tables.get("dbos_migrations").is_some_and(|columns| columns.contains("version")) {
        return Ok(judge(&tables, None));
    }
    let level = recorded(client, schema).await?;
    // Once more, after the level: a migration may be running, and a level promises what was there when it was recorded.
    let tables = columns(client, schema).await?;
    match level {
        Some(level) if (1..FIRST_SHARED).contains(&level) && !is_sharded(&tables) => {
            Ok(match low::look(client, schema).await? {
                Low::Known(steps) => State::Low { level, steps },
                Low::Strange(wrong) => State::Strange { level, wrong },
            })
        }
        level => Ok(judge(&tables, level)),
    }
}

/// The level that a schema records, and the columns of its tables; `None` where there is no such schema.
pub(in crate::sysdb) async fn columns_at(
    client: &impl Statements,
    schema: &SchemaName,
) -> Result<Option<(i64, Tables)>, tokio_postgres::Error> {
    let has_level = |tables: &Tables| tables.get("dbos_migrations").is_some_and(|columns| columns.contains("version"));
    if !has_level(&columns(client, schema).await?) {
        return Ok(None);
    }
    let level = recorded(client, schema).await?;
    // After the level, as below.
    Ok(level.zip(Some(columns(client, schema).await?)))
}

/// One row at all times; a maximum is right also should there be several.
async fn recorded(client: &impl Statements, schema: &SchemaName) -> Result<Option<i64>, tokio_postgres::Error> {
    let sql = format!("SELECT max(version)::bigint FROM {}.dbos_migrations", schema.quoted());
    client.query_one(&sql, &[]).await?.try_get(0)
}

/// Tables and their columns.
type Tables = HashMap<String, HashSet<String>>;

/// The columns of the system tables that are there.
async fn columns(client: &impl Statements, schema: &SchemaName) -> Result<Tables, tokio_postgres::Error> {
    // The catalogue's own snapshot; no lock on the tables themselves.
    let sql = "SELECT c.relname::text, a.attname::text
                 FROM pg_catalog.pg_class c
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')";
    let mut tables = Tables::new();
    for row in client.query(sql, &[&schema.name()]).await? {
        tables.entry(row.get(0)).or_default().insert(row.get(1));
    }
    tables.retain(|table, _| SYSTEM.iter().any(|(known, _)| known == table));
    Ok(tables)
}

fn is_sharded(tables: &Tables) -> bool {
    tables.get("workflow_status").is_some_and(|columns| columns.contains("shard_key"))
}

fn judge(tables: &Tables, level: Option<i64>) -> State {
    if is_sharded(tables) {
        return State::Sharded;
    }
    let lacks =
        |level| SYSTEM.iter().flat_map(|needed| lacking(needed, tables.get(needed.0), level)).collect::<Vec<_>>();
    let mut missing = lacks(i64::MAX);
    let level = match level {
        Some(level) if level > 0 => level,
        _ => {
            if missing.is_empty() {
                missing.push("a level in dbos_migrations".into());
            }
            return State::HalfMade { missing };
        }
    };
    if missing.is_empty() {
        return State::Usable { level };
    }
    if level < FIRST_COMPLETE_LEVEL {
        let missing = lacks(level);
        return match missing.is_empty() {
            true => State::Older { level },
            false => State::HalfMade { missing },
        };
    }
    if level > super::migrate::BASELINE_LEVEL {
        return State::TooNew { level, missing };
    }
    State::HalfMade { missing }
}

/// What a table lacks of what we need and this level promises, in words.
fn lacking((table, columns): &Needed, present: Option<&HashSet<String>>, level: i64) -> Vec<String> {
    match present {
        None if comes_after(level, table, None) => Vec::new(),
        None => vec![format!("table {table}")],
        Some(present) => columns
            .iter()
            .filter(|column| !present.contains(**column) && !comes_after(level, table, Some(column)))
            .map(|column| format!("column {table}.{column}"))
            .collect(),
    }
}
