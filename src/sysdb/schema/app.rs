//! The application tables: Fireflow's flows and executions, our leases, the contents that executions began with, the account of
//! crashes, and what operators asked for. They live where the connection's `search_path` puts them, and have a common prefix.
//!
//! Fireflow's server makes the first two itself; what it made is taken as it is, when it has what we need.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Transaction};

use super::Error;
use super::lock::{APP_KEY, locked};
use super::migrate::not_allowed;
use super::name::Prefix;
use super::shape::{
    CRASHES, DRAIN_REQUESTS, EXECUTIONS, FLOW_PINS, FLOW_VERSIONS, FLOWS, Needed, QUEUE_PAUSES, WORKERS,
};
use crate::postgres::Statements;

/// Which tables a database holds: flows may live in another one than executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Flows.
    Main,
    /// Executions, leases, contents of flows that executions began with, the account of crashes, and what operators asked for.
    Executions,
    /// All of them.
    Both,
}

/// A numbered change of the application tables. Numbers are recorded, and never used again for something else.
struct Migration {
    version: i32,
    part: Part,
    table: Needed,
    sql: &'static str,
}

const MIGRATIONS: [Migration; 8] = [
    Migration { version: 1, part: Part::Main, table: FLOWS, sql: include_str!("../../../migrations/app/flows.sql") },
    Migration {
        version: 2,
        part: Part::Executions,
        table: EXECUTIONS,
        sql: include_str!("../../../migrations/app/executions.sql"),
    },
    Migration {
        version: 3,
        part: Part::Executions,
        table: WORKERS,
        sql: include_str!("../../../migrations/app/workers.sql"),
    },
    Migration {
        version: 4,
        part: Part::Executions,
        table: FLOW_VERSIONS,
        sql: include_str!("../../../migrations/app/flow_versions.sql"),
    },
    Migration {
        version: 5,
        part: Part::Executions,
        table: FLOW_PINS,
        sql: include_str!("../../../migrations/app/flow_pins.sql"),
    },
    Migration {
        version: 6,
        part: Part::Executions,
        table: CRASHES,
        sql: include_str!("../../../migrations/app/crashes.sql"),
    },
    Migration {
        version: 7,
        part: Part::Executions,
        table: QUEUE_PAUSES,
        sql: include_str!("../../../migrations/app/queue_pauses.sql"),
    },
    Migration {
        version: 8,
        part: Part::Executions,
        table: DRAIN_REQUESTS,
        sql: include_str!("../../../migrations/app/drain_requests.sql"),
    },
];

impl Part {
    fn holds(self, other: Part) -> bool {
        self == Part::Both || self == other
    }
}

/// The tables that are yet to be made, by their names in the database; empty when all are there.
///
/// # Errors
/// A table is there and lacks columns.
pub async fn missing(client: &impl Statements, prefix: &Prefix, part: Part) -> Result<Vec<String>, Error> {
    let migrations = MIGRATIONS.iter().filter(|migration| part.holds(migration.part));
    let needed: Vec<&Needed> = migrations.map(|migration| &migration.table).collect();
    let there = exist(client, prefix, &needed).await?;
    let missing = needed.iter().zip(there).filter(|(_, there)| !there);
    Ok(missing.map(|(table, _)| format!("{prefix}{}", table.0)).collect())
}

/// What the role lacks to make what is missing, as people say it; empty when it may.
///
/// # Errors
/// Only those of the database.
pub async fn lacking_to_make(client: &impl Statements, prefix: &Prefix) -> Result<Vec<String>, Error> {
    let sql = "SELECT current_schema()::text, has_schema_privilege(current_schema(), 'CREATE'),
                      has_table_privilege(to_regclass($1::text)::oid, 'INSERT')";
    let row = client.query_one(sql, &[&prefix.table("worker_migrations")]).await?;
    let mut lacking = Vec::new();
    if let (Some(schema), Some(false)) = (row.try_get::<_, Option<String>>(0)?, row.try_get::<_, Option<bool>>(1)?) {
        lacking.push(format!("CREATE on schema {schema}"));
    }
    if row.try_get::<_, Option<bool>>(2)? == Some(false) {
        lacking.push(format!("INSERT on {prefix}worker_migrations"));
    }
    Ok(lacking)
}

/// Make what is missing, in one transaction; the names of the tables that were made. Safe to call from several
/// processes at once.
///
/// # Errors
/// A table is there and lacks columns, or tables may not be made.
pub async fn ensure(client: &mut Client, prefix: &Prefix, part: Part) -> Result<Vec<String>, Error> {
    // The usual case takes no lock and needs no right to create.
    if missing(client, prefix, part).await?.is_empty() {
        return Ok(Vec::new());
    }
    locked(client, APP_KEY, async |transaction| create(transaction, prefix, part).await).await
}

async fn create(transaction: &Transaction<'_>, prefix: &Prefix, part: Part) -> Result<Vec<String>, Error> {
    let record = prefix.table("worker_migrations");
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {record} (
             version    integer PRIMARY KEY,
             applied_at timestamptz NOT NULL DEFAULT now()
         )"
    );
    transaction.batch_execute(&sql).await.map_err(not_allowed)?;
    let mut made = Vec::new();
    for migration in MIGRATIONS.iter().filter(|migration| part.holds(migration.part)) {
        // By what is there, not by what is recorded: Fireflow's server may have made the table.
        if !exist(transaction, prefix, &[&migration.table]).await?.contains(&true) {
            let sql = migration.sql.replace("{prefix}", prefix.as_str());
            transaction.batch_execute(&sql).await.map_err(not_allowed)?;
            made.push(format!("{prefix}{}", migration.table.0));
        }
        let sql = format!("INSERT INTO {record} (version) VALUES ($1) ON CONFLICT DO NOTHING");
        Statements::execute(transaction, &sql, &[&migration.version]).await?;
    }
    if !made.is_empty() {
        tracing::info!(tables = made.join(", "), "created application tables");
    }
    Ok(made)
}

/// Whether each of these tables is there; an error when one lacks columns.
async fn exist(client: &impl Statements, prefix: &Prefix, needed: &[&Needed]) -> Result<Vec<bool>, Error> {
    let tables: Vec<String> = needed.iter().map(|table| prefix.table(table.0)).collect();
    // to_regclass follows the search_path as the statements on these tables do.
    let sql = "SELECT t.name, a.attname::text
                 FROM unnest($1::text[]) AS t(name)
                 JOIN pg_catalog.pg_attribute a
                   ON a.attrelid = to_regclass(t.name)::oid AND a.attnum > 0 AND NOT a.attisdropped";
    let mut columns: HashMap<String, HashSet<String>> = HashMap::new();
    for row in client.query(sql, &[&tables]).await? {
        columns.entry(row.get(0)).or_default().insert(row.get(1));
    }
    let mut exist = Vec::new();
    for (needed, table) in needed.iter().zip(tables) {
        let Some(columns) = columns.get(&table) else {
            exist.push(false);
            continue;
        };
        let missing = needed.1.iter().filter(|column| !columns.contains(**column));
        let missing: Vec<String> = missing.map(|column| format!("column {column}")).collect();
        if !missing.is_empty() {
            return Err(Error::AppTable { table, prefix: prefix.clone(), missing });
        }
        exist.push(true);
    }
    Ok(exist)
}
