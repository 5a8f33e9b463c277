//! What a role needs to be allowed: one list, for whoever grants it and for whoever looks whether it was granted.
//!
//! The worker makes tables only where there are none; with those in place it needs nothing but these rights, and USAGE on the
//! schemas.

use tokio_postgres::Row;

use super::SysdbError;
use super::schema::{Prefix, SchemaName};
use crate::postgres::Statements;

/// Where a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The system schema.
    System,
    /// Beside the executions: an application table.
    Executions,
    /// Beside the flows, which may be another database.
    Flows,
}

/// Rights on one table.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// Where the table is.
    pub room: Room,
    /// Its name; of application tables, without their prefix.
    pub table: &'static str,
    /// The privileges, as GRANT has them.
    pub privileges: &'static [&'static str],
}

const fn grant(room: Room, table: &'static str, privileges: &'static [&'static str]) -> Grant {
    Grant { room, table, privileges }
}

use Room::{Executions, Flows, System};

/// What `run` does. Locking a row takes UPDATE, also where nothing is changed.
pub const RUN: [Grant; 15] = [
    grant(System, "dbos_migrations", &["SELECT"]),
    grant(System, "workflow_status", &["SELECT", "INSERT", "UPDATE"]),
    grant(System, "workflow_input", &["SELECT", "INSERT"]),
    grant(System, "workflow_output", &["SELECT", "INSERT", "UPDATE"]),
    grant(System, "operation_outputs", &["SELECT", "INSERT"]),
    grant(System, "notifications", &["SELECT", "UPDATE"]),
    grant(System, "streams", &["SELECT", "INSERT"]),
    grant(System, "queues", &["SELECT"]),
    grant(System, "application_versions", &["SELECT", "INSERT", "UPDATE"]),
    grant(Executions, "executions", &["SELECT", "INSERT", "UPDATE"]),
    grant(Executions, "workers", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    grant(Executions, "flow_versions", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    grant(Executions, "flow_pins", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    grant(Executions, "crashes", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    grant(Flows, "flows", &["SELECT"]),
];

/// What `gc` does. UPDATE is for the locks that keep two of them apart.
pub const GC: [Grant; 12] = [
    grant(System, "workflow_status", &["SELECT", "UPDATE", "DELETE"]),
    grant(System, "workflow_input", &["SELECT", "DELETE"]),
    grant(System, "workflow_output", &["SELECT", "DELETE"]),
    grant(System, "operation_outputs", &["SELECT", "DELETE"]),
    grant(System, "notifications", &["SELECT", "DELETE"]),
    grant(System, "workflow_events", &["SELECT", "DELETE"]),
    grant(System, "workflow_events_history", &["SELECT", "DELETE"]),
    grant(System, "streams", &["SELECT", "DELETE"]),
    grant(Executions, "executions", &["SELECT", "DELETE"]),
    grant(Executions, "flow_pins", &["SELECT", "DELETE"]),
    grant(Executions, "flow_versions", &["SELECT", "UPDATE", "DELETE"]),
    grant(Executions, "crashes", &["SELECT", "DELETE"]),
];

impl Grant {
    /// The table's name as it stands in SQL text.
    pub fn name(&self, schema: &SchemaName, prefix: &Prefix) -> String {
        match self.room {
            System => format!("{}.{}", schema.quoted(), self.table),
            Executions | Flows => prefix.table(self.table),
        }
    }
}

/// A right that the current role lacks, as the statement that grants it.
pub type Missing = String;

/// $1 schemas: of the system tables, and where the application tables are found.
const SCHEMAS: &str = "
SELECT quote_ident(n.nspname), current_user::text
  FROM pg_catalog.pg_namespace n
 WHERE (n.nspname = $1 OR n.nspname = current_schema()) AND NOT has_schema_privilege(n.oid, 'USAGE')
 ORDER BY 1";

/// $1 tables, $2 privileges. A table that isn't there is none to grant.
const TABLES: &str = "
SELECT wanted.name, string_agg(wanted.privilege, ', ' ORDER BY wanted.place), current_user::text
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted(name, privilege, place)
 WHERE NOT has_table_privilege(to_regclass(wanted.name)::oid, wanted.privilege)
 GROUP BY wanted.name ORDER BY min(wanted.place)";

/// What the role of this connection lacks of these rights; `rooms` are those that are in its database. USAGE comes first:
/// without it, nothing can be said about the tables.
///
/// # Errors
/// Only those of the database.
pub async fn missing(
    client: &impl Statements,
    grants: &[Grant],
    rooms: &[Room],
    schema: &SchemaName,
    prefix: &Prefix,
) -> Result<Vec<Missing>, SysdbError> {
    let role = |row: &Row, at: usize| row.try_get::<_, String>(at).map(|role| quoted(&role));
    let mut lacking = Vec::new();
    if rooms.contains(&System) {
        for row in client.query(SCHEMAS, &[&schema.name()]).await? {
            lacking.push(format!("GRANT USAGE ON SCHEMA {} TO {};", row.try_get::<_, String>(0)?, role(&row, 1)?));
        }
        if !lacking.is_empty() {
            return Ok(lacking);
        }
    }
    let (mut names, mut privileges) = (Vec::new(), Vec::new());
    for grant in grants.iter().filter(|grant| rooms.contains(&grant.room)) {
        for privilege in grant.privileges {
            names.push(grant.name(schema, prefix));
            privileges.push(*privilege);
        }
    }
    for row in client.query(TABLES, &[&names, &privileges]).await? {
        let (table, privileges): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        lacking.push(format!("GRANT {privileges} ON {table} TO {};", role(&row, 2)?));
    }
    Ok(lacking)
}

/// A role's name as it stands in SQL text.
fn quoted(role: &str) -> String {
    format!("\"{}\"", role.replace('"', "\"\""))
}
