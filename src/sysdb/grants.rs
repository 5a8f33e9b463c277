//! What a role lacks of the rights in `schema/grants.rs`, as statements that would grant it.
//!
//! The worker makes tables only where there are none; with those in place it needs nothing but these rights, and USAGE on the
//! schemas.

use tokio_postgres::Row;

use super::SysdbError;
pub use super::schema::grants::{Grant, Purpose, Room};
use super::schema::{Prefix, SchemaName};
use crate::postgres::Statements;

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
    if rooms.contains(&Room::System) {
        for row in client.query(SCHEMAS, &[&schema.name()]).await? {
            lacking.push(format!("GRANT USAGE ON SCHEMA {} TO {};", row.try_get::<_, String>(0)?, role(&row, 1)?));
        }
        if !lacking.is_empty() {
            return Ok(lacking);
        }
    }
    let (mut names, mut privileges) = (Vec::new(), Vec::new());
    for grant in grants.iter().filter(|grant| rooms.contains(&grant.room.schema())) {
        for privilege in grant.privileges {
            names.push(grant.table(schema, prefix));
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
