//! Least privilege: what each kind of role may do with the tables, and no more. `migrate` runs as the tables' owner; a worker, a
//! client, an author of flows, an operator and `gc` need what stands here.
//!
//! Tests drive a worker, `gc` and operators' commands under exactly these rights, and show of each that something fails without it.

use super::Error;
use super::app::Part;
use super::name::{Prefix, SchemaName};
use crate::postgres::Statements;

/// What a role is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `run`.
    Worker,
    /// Enqueue executions, send messages to them, read their results and streams: `enqueue`, and clients of SDKs.
    Client,
    /// Store flows: `flow push`, `pull`, `list`.
    Author,
    /// Remove what ended long ago: `gc`.
    Retention,
    /// Look after executions, queues and workers: `executions`, `queue`, `workers`, `drain`, `doctor`.
    Operator,
}

/// Which rights of a purpose a command asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The purpose.
    pub purpose: Purpose,
    /// Tables that it writes; `None` for all of the purpose.
    pub writes: Option<&'static [&'static str]>,
    /// Tables that it leaves alone, unless it writes them.
    pub without: &'static [&'static str],
}

impl From<Purpose> for Asked {
    /// All of them.
    fn from(purpose: Purpose) -> Asked {
        Asked { purpose, writes: None, without: &[] }
    }
}

impl Asked {
    fn includes(&self, grant: &Grant, privilege: &str) -> bool {
        let left = self.without.contains(&grant.table);
        match self.writes {
            Some(writes) => writes.contains(&grant.table) || privilege == "SELECT" && !left,
            None => !left,
        }
    }
}

/// Where a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// In the system schema.
    System,
    /// In the system schema, from level 109 on.
    Payload,
    /// With the executions.
    Executions,
    /// With the flows.
    Flows,
}

impl Room {
    /// Without regard to the level.
    pub fn schema(self) -> Room {
        if self == Payload { System } else { self }
    }
}

/// The rights on one table.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// Where the table is.
    pub room: Room,
    /// Its name; of application tables, without their prefix.
    pub table: &'static str,
    /// Privileges, by their names in SQL.
    pub privileges: &'static [&'static str],
    /// What for.
    pub why: &'static str,
}

const fn grant(room: Room, table: &'static str, privileges: &'static [&'static str], why: &'static str) -> Grant {
    Grant { room, table, privileges, why }
}

use Room::{Executions, Flows, Payload, System};

const WORKER: [Grant; 17] = [
    grant(System, "dbos_migrations", &["SELECT"], "at which level the schema is"),
    grant(
        System,
        "workflow_status",
        &["SELECT", "INSERT", "UPDATE"],
        "claim executions and write how they end; INSERT: child executions",
    ),
    grant(Payload, "workflow_input", &["SELECT", "INSERT"], "inputs; INSERT: those of child executions"),
    grant(Payload, "workflow_output", &["SELECT", "INSERT", "UPDATE"], "results and errors"),
    grant(System, "operation_outputs", &["SELECT", "INSERT"], "record steps, and replay them after a crash"),
    grant(System, "streams", &["SELECT", "INSERT"], "the event stream; SELECT: where it ends"),
    grant(System, "notifications", &["SELECT", "UPDATE"], "messages; UPDATE: they are consumed"),
    grant(System, "queues", &["SELECT"], "limits of registered queues"),
    grant(System, "application_versions", &["SELECT", "INSERT", "UPDATE"], "register the application's version"),
    grant(Executions, "executions", &["SELECT", "INSERT", "UPDATE"], "what Fireflow's server and its users see"),
    grant(
        Executions,
        "workers",
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
        "leases; DELETE: those of workers that are long gone",
    ),
    grant(
        Executions,
        "flow_versions",
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
        "contents that executions began with; DELETE: those that nobody needs any more",
    ),
    grant(
        Executions,
        "flow_pins",
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
        "which execution began with which content; DELETE: it has ended",
    ),
    grant(
        Executions,
        "crashes",
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
        "executions that took their worker down; DELETE: they have ended",
    ),
    grant(Executions, "queue_pauses", &["SELECT"], "which queues operators have paused"),
    grant(Executions, "drain_requests", &["SELECT"], "whether an operator wants this worker to end"),
    grant(Flows, "flows", &["SELECT"], "the flows that are run"),
];

const CLIENT: [Grant; 7] = [
    grant(System, "dbos_migrations", &["SELECT"], "at which level the schema is"),
    grant(
        System,
        "workflow_status",
        &["SELECT", "INSERT", "UPDATE"],
        "enqueue, and see how it ended; UPDATE: an id that exists is not enqueued again",
    ),
    grant(Payload, "workflow_input", &["SELECT", "INSERT"], "inputs"),
    grant(Payload, "workflow_output", &["SELECT"], "results and errors"),
    grant(System, "notifications", &["SELECT", "INSERT"], "send messages; SELECT: one that was sent is not sent again"),
    grant(System, "streams", &["SELECT"], "read the event stream"),
    grant(Flows, "flows", &["SELECT"], "find a flow by its name, and check the inputs' names"),
];

const AUTHOR: [Grant; 1] = [grant(Flows, "flows", &["SELECT", "INSERT", "UPDATE"], "store flows and read them")];

const RETENTION: [Grant; 13] = [
    grant(System, "dbos_migrations", &["SELECT"], "at which level the schema is"),
    grant(
        System,
        "workflow_status",
        &["SELECT", "UPDATE", "DELETE"],
        "what ended; UPDATE: the locks that keep two of them apart",
    ),
    grant(Payload, "workflow_input", &["SELECT", "DELETE"], "its inputs"),
    grant(Payload, "workflow_output", &["SELECT", "DELETE"], "its result"),
    grant(System, "operation_outputs", &["SELECT", "DELETE"], "its steps"),
    grant(System, "notifications", &["SELECT", "DELETE"], "messages to it"),
    grant(System, "workflow_events", &["SELECT", "DELETE"], "its events"),
    grant(System, "workflow_events_history", &["SELECT", "DELETE"], "its earlier events"),
    grant(System, "streams", &["SELECT", "DELETE"], "its streams"),
    grant(Executions, "executions", &["SELECT", "DELETE"], "its row, with --executions"),
    grant(Executions, "flow_pins", &["SELECT", "DELETE"], "which content it began with"),
    grant(Executions, "flow_versions", &["SELECT", "UPDATE", "DELETE"], "contents that nobody needs any more"),
    grant(Executions, "crashes", &["SELECT", "DELETE"], "how often it took its worker down"),
];

const OPERATOR: [Grant; 18] = [
    grant(System, "dbos_migrations", &["SELECT"], "at which level the schema is"),
    grant(
        System,
        "workflow_status",
        &["SELECT", "INSERT", "UPDATE"],
        "list and show executions; UPDATE: cancel, resume and retry them; INSERT: forks",
    ),
    grant(Payload, "workflow_input", &["SELECT", "INSERT"], "inputs; INSERT: those of forks"),
    grant(Payload, "workflow_output", &["SELECT", "DELETE"], "results and errors; DELETE: that of one that is retried"),
    grant(
        System,
        "operation_outputs",
        &["SELECT", "INSERT", "DELETE"],
        "steps; INSERT: those that a fork begins with; DELETE: those that a retry does again",
    ),
    grant(
        System,
        "streams",
        &["SELECT", "INSERT", "DELETE"],
        "the event stream; INSERT: what a fork begins with; DELETE: a retry opens it again",
    ),
    grant(
        System,
        "notifications",
        &["SELECT", "INSERT", "DELETE"],
        "messages; INSERT: the start signal of retries and forks; DELETE: those that a retry forgets",
    ),
    grant(
        System,
        "workflow_events",
        &["SELECT", "INSERT", "DELETE"],
        "events, which a fork takes along and a retry takes back",
    ),
    grant(
        System,
        "workflow_events_history",
        &["SELECT", "INSERT", "DELETE"],
        "earlier events, which a fork takes along and a retry takes back",
    ),
    grant(System, "queues", &["SELECT", "UPDATE"], "registered queues and their limits; UPDATE: pause them"),
    grant(System, "application_versions", &["SELECT"], "doctor: which version is the newest"),
    grant(
        Executions,
        "executions",
        &["SELECT", "UPDATE"],
        "the flow of each; UPDATE: one that is cancelled is stopped",
    ),
    grant(Executions, "workers", &["SELECT"], "who lives, and what runs there"),
    grant(
        Executions,
        "crashes",
        &["SELECT", "DELETE"],
        "executions that took their worker down; DELETE: resume and retry forgive them",
    ),
    grant(Executions, "queue_pauses", &["SELECT", "INSERT", "UPDATE", "DELETE"], "pause queues, and end that"),
    grant(
        Executions,
        "drain_requests",
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
        "ask workers to drain; DELETE: old requests",
    ),
    grant(Executions, "flow_pins", &["SELECT"], "doctor: pins that nobody needs"),
    grant(Executions, "flow_versions", &["SELECT"], "doctor: contents that nobody needs"),
];

impl Purpose {
    /// The rights, table by table.
    pub fn grants(self) -> &'static [Grant] {
        match self {
            Purpose::Worker => &WORKER,
            Purpose::Client => &CLIENT,
            Purpose::Author => &AUTHOR,
            Purpose::Retention => &RETENTION,
            Purpose::Operator => &OPERATOR,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Purpose::Worker => "run a worker",
            Purpose::Client => "enqueue executions, send messages and read results",
            Purpose::Author => "store flows",
            Purpose::Retention => "remove what ended long ago",
            Purpose::Operator => "look after executions, queues and workers",
        }
    }

    /// What `grants` is told for this purpose.
    fn option(self) -> &'static str {
        match self {
            Purpose::Worker => "",
            Purpose::Client => " --for client",
            Purpose::Author => " --for author",
            Purpose::Retention => " --for gc",
            Purpose::Operator => " --for operator",
        }
    }
}

impl Grant {
    fn is_in(&self, part: Part) -> bool {
        match self.room {
            Flows => part != Part::Executions,
            _ => part != Part::Main,
        }
    }

    /// The table as it stands in SQL text.
    pub fn table(&self, schema: &SchemaName, prefix: &Prefix) -> String {
        match self.room {
            System | Payload => format!("{}.{}", schema.quoted(), self.table),
            Executions | Flows => prefix.table(self.table),
        }
    }
}

/// The statements that give a role these rights, each with what it is for. They hold on every level of the schema, may be run again,
/// and are for `psql` as for any other client, by the tables' owner.
pub fn statements(purpose: Purpose, schema: &SchemaName, prefix: &Prefix, part: Part, role: &str) -> String {
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    let text = |value: &str| value.replace('\'', "''");
    let mut sql = format!(
        "-- What {quoted} needs to {}. Run it as the owner of the tables, after fireflow-worker migrate.\n",
        purpose.word()
    );
    sql.push_str(&format!("-- The role itself: CREATE ROLE {quoted} LOGIN PASSWORD '...';\n\n"));
    sql.push_str("-- Connect, and find the tables.\n");
    sql.push_str(&format!(
        "DO $grant$ BEGIN\n    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), '{0}');\n    \
         EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), '{0}');\nEND $grant$;\n",
        text(role)
    ));
    let grants: Vec<_> = purpose.grants().iter().filter(|grant| grant.is_in(part)).collect();
    if grants.iter().any(|grant| matches!(grant.room, System | Payload)) {
        sql.push_str(&format!("GRANT USAGE ON SCHEMA {} TO {quoted};\n", schema.quoted()));
    }
    if purpose == Purpose::Client {
        sql.push_str(&format!(
            "\n-- enqueue_workflow, send_message. PostgreSQL lets everybody call functions, unless that was revoked.\n\
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {} TO {quoted};\n",
            schema.quoted()
        ));
    }
    for grant in grants {
        let (table, privileges) = (grant.table(schema, prefix), grant.privileges.join(", "));
        let statement = format!("GRANT {privileges} ON {table} TO {quoted};");
        sql.push_str(&format!("\n-- {}.\n", grant.why));
        match grant.room {
            // Before level 109 there is no such table.
            Payload => sql.push_str(&format!(
                "DO $grant$ BEGIN\n    IF to_regclass('{}') IS NOT NULL THEN\n        {statement}\n    END IF;\nEND $grant$;\n",
                text(&table)
            )),
            _ => sql.push_str(&format!("{statement}\n")),
        }
    }
    sql
}

/// Tables of the system schema, by their names in it: table and privilege. A name can't be resolved by who may not use the schema.
const SYSTEM_RIGHTS: &str = "
SELECT needed.name, needed.privilege, has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, needed.privilege)
  FROM unnest($2::text[], $3::text[]) AS needed(name, privilege)
  JOIN pg_catalog.pg_namespace n ON n.nspname = $1
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = needed.name";

/// Tables that the search path leads to.
const OTHER_RIGHTS: &str = "
SELECT needed.name, needed.privilege, has_table_privilege(to_regclass(needed.name)::oid, needed.privilege)
  FROM unnest($1::text[], $2::text[]) AS needed(name, privilege)
 WHERE to_regclass(needed.name) IS NOT NULL";

/// Make sure that the session's role has the rights that are asked for on the tables that are there. Those that aren't are
/// another matter.
///
/// # Errors
/// [`Error::Rights`], with all that is missing.
pub async fn check(
    client: &impl Statements,
    asked: Asked,
    schema: &SchemaName,
    prefix: &Prefix,
    part: Part,
) -> Result<(), Error> {
    let mut missing = Vec::new();
    let grants = asked.purpose.grants().iter().filter(|grant| grant.is_in(part));
    let each = |grant: &'static Grant| grant.privileges.iter().map(move |privilege| (grant, *privilege));
    let (system, other): (Vec<_>, Vec<_>) = grants
        .flat_map(each)
        .filter(|(grant, privilege)| asked.includes(grant, privilege))
        .partition(|(grant, _)| matches!(grant.room, System | Payload));
    if system.is_empty() && other.is_empty() {
        return Ok(()); // it has no business here
    }

    let names: Vec<&str> = system.iter().map(|(grant, _)| grant.table).collect();
    let privileges: Vec<&str> = system.iter().map(|(_, privilege)| *privilege).collect();
    for row in client.query(SYSTEM_RIGHTS, &[&schema.name(), &names, &privileges]).await? {
        if row.try_get::<_, Option<bool>>(2)? != Some(true) {
            missing.push(format!("{} on {schema}.{}", row.try_get::<_, &str>(1)?, row.try_get::<_, &str>(0)?));
        }
    }
    let names: Vec<String> = other.iter().map(|(grant, _)| grant.table(schema, prefix)).collect();
    let privileges: Vec<&str> = other.iter().map(|(_, privilege)| *privilege).collect();
    for row in client.query(OTHER_RIGHTS, &[&names, &privileges]).await? {
        if row.try_get::<_, Option<bool>>(2)? != Some(true) {
            missing.push(format!("{} on {}", row.try_get::<_, &str>(1)?, row.try_get::<_, &str>(0)?.replace('"', "")));
        }
    }
    let sql = "SELECT current_user::text, current_schema()::text, current_setting('search_path')";
    let row = client.query_one(sql, &[]).await?;
    if row.try_get::<_, Option<&str>>(1)?.is_none() {
        missing.push(format!("USAGE on a schema of its search_path ({})", row.try_get::<_, &str>(2)?));
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Rights { role: row.try_get(0)?, missing, option: asked.purpose.option() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_a_purpose_gets_its_tables_alone() {
        let (schema, prefix) = ("od'\"d".parse().unwrap(), "x_".parse().unwrap());
        let sql = statements(Purpose::Client, &schema, &prefix, Part::Both, "o'\"x");
        assert!(sql.contains("GRANT USAGE ON SCHEMA \"od'\"\"d\" TO \"o'\"\"x\";"), "{sql}");
        assert!(sql.contains("to_regclass('\"od''\"\"d\".workflow_input')"), "{sql}");
        assert!(sql.contains("current_schema(), 'o''\"x')"), "{sql}");
        assert!(sql.contains("GRANT SELECT ON \"x_flows\" TO") && !sql.contains("x_executions"), "{sql}");
        let flows = statements(Purpose::Worker, &schema, &prefix, Part::Main, "w");
        assert!(flows.contains("x_flows") && !flows.contains("workflow_status") && !flows.contains("od'"), "{flows}");
        let executions = statements(Purpose::Worker, &schema, &prefix, Part::Executions, "w");
        assert!(!executions.contains("x_flows\"") && executions.contains("x_flow_pins"), "{executions}");
    }
}
