//! What brings a schema from below level 100 to it: found by looking at what is there.

mod parts;

use std::collections::{HashMap, HashSet};

use super::name::SchemaName;
use crate::postgres::Statements;
use parts::{DEPENDENT, NOW, STEPS, TABLES, Table};

/// What has to hold at level 100, and is made so by a statement where it doesn't.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// The index is there and valid, with a condition or without as its later kind has it.
    Index { name: &'static str, filtered: bool },
    /// The index is gone.
    NoIndex(&'static str),
    /// The constraint is gone.
    NoConstraint { table: &'static str, name: &'static str },
    /// The trigger is gone.
    NoTrigger { table: &'static str, name: &'static str },
    /// A function with as many parameters as one of these is there.
    Function { name: &'static str, arguments: &'static [i16] },
    /// The function, if it is there, looks names up in no schema of others.
    SafePath(&'static str),
    /// The table is gone, or holds something: rows are never dropped.
    NoEmptyTable(&'static str),
}

/// How a step is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// In a transaction of its own.
    Transaction,
    /// While the tables are in use. An index of this name that isn't valid, or is of an earlier kind, goes first.
    Online(Option<&'static str>),
}

/// One change on the way to level 100. It may be done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub(super) how: How,
    /// With `{schema}` for the schema.
    pub(super) sql: String,
}

impl Step {
    pub(super) fn sql(&self, schema: &SchemaName) -> String {
        self.sql.replace("{schema}", schema.quoted())
    }

    /// On one line; of a function only the name.
    pub(super) fn summary(&self, schema: &SchemaName) -> String {
        let line = |word: &str| self.sql.lines().map(str::trim).find(|line| line.starts_with(word)).unwrap_or_default();
        let shown = |line: &str| line.trim_end_matches(['(', ';']).replace("{schema}", schema.quoted());
        if self.sql.starts_with("--") {
            return shown(line("CREATE"));
        }
        if self.sql.starts_with("DO ") {
            return format!("{}, which is empty", shown(line("DROP TABLE")));
        }
        self.sql(schema).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// What a schema below level 100 is.
pub(super) enum Low {
    /// An SDK's, which these steps bring to level 100.
    Known(Vec<Step>),
    /// Not an SDK's, or half made: what is missing, or of another kind.
    Strange(Vec<String>),
}

/// Look at a schema, without locks and without changing anything.
pub(super) async fn look(client: &impl Statements, schema: &SchemaName) -> Result<Low, tokio_postgres::Error> {
    let catalogue = Catalogue::read(client, schema).await?;
    let strange: Vec<String> = TABLES.iter().flat_map(|table| catalogue.strange(table)).collect();
    if !strange.is_empty() {
        return Ok(Low::Strange(strange));
    }
    let mut steps: Vec<Step> = TABLES.iter().filter_map(|table| catalogue.lacking(table)).collect();
    let later = STEPS.iter().filter(|(need, _)| !catalogue.holds(need)).map(|(need, sql)| Step {
        how: match need {
            Need::Index { name, .. } => How::Online(Some(name)),
            Need::NoIndex(_) => How::Online(None),
            _ => How::Transaction,
        },
        sql: (*sql).to_owned(),
    });
    steps.extend(later);
    Ok(Low::Known(steps))
}

/// An index has a condition that isn't wanted, or lacks one, or its build was interrupted.
pub(super) async fn is_stale(
    client: &impl Statements,
    schema: &SchemaName,
    index: &str,
) -> Result<bool, tokio_postgres::Error> {
    let catalogue = Catalogue::read(client, schema).await?;
    let need = STEPS.iter().find(|(need, _)| matches!(need, Need::Index { name, .. } if *name == index));
    Ok(catalogue.indexes.contains_key(index) && need.is_some_and(|(need, _)| !catalogue.holds(need)))
}

#[derive(Default)]
struct Catalogue {
    /// Tables with their columns and types.
    tables: HashMap<String, HashMap<String, String>>,
    /// Indexes: whether they have a condition, and are valid.
    indexes: HashMap<String, (bool, bool)>,
    constraints: HashSet<(String, String)>,
    /// Tables whose rows go with their workflow's.
    dependent: HashSet<String>,
    triggers: HashSet<(String, String)>,
    /// Functions: parameters, and whether they have settings of their own.
    functions: Vec<(String, i16, bool)>,
    /// Old tables that hold something.
    filled: HashSet<String>,
}

impl Catalogue {
    async fn read(client: &impl Statements, schema: &SchemaName) -> Result<Catalogue, tokio_postgres::Error> {
        let name = schema.name();
        let mut catalogue = Catalogue::default();
        let sql = "SELECT c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)
                     FROM pg_catalog.pg_class c
                     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')";
        for row in client.query(sql, &[&name]).await? {
            catalogue.tables.entry(row.get(0)).or_default().insert(row.get(1), row.get(2));
        }
        let sql = "SELECT c.relname::text, i.indpred IS NOT NULL, i.indisvalid
                     FROM pg_catalog.pg_index i
                     JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
                     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = $1";
        for row in client.query(sql, &[&name]).await? {
            catalogue.indexes.insert(row.get(0), (row.get(1), row.get(2)));
        }
        let sql = "SELECT r.relname::text, c.conname::text
                     FROM pg_catalog.pg_constraint c
                     JOIN pg_catalog.pg_class r ON r.oid = c.conrelid
                     JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
                    WHERE n.nspname = $1";
        catalogue.constraints = pairs(client, sql, name).await?;
        let sql = "SELECT DISTINCT r.relname::text
                     FROM pg_catalog.pg_constraint c
                     JOIN pg_catalog.pg_class r ON r.oid = c.conrelid
                     JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
                    WHERE n.nspname = $1 AND c.contype = 'f'";
        catalogue.dependent = client.query(sql, &[&name]).await?.iter().map(|row| row.get(0)).collect();
        let sql = "SELECT r.relname::text, t.tgname::text
                     FROM pg_catalog.pg_trigger t
                     JOIN pg_catalog.pg_class r ON r.oid = t.tgrelid
                     JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
                    WHERE n.nspname = $1 AND NOT t.tgisinternal";
        catalogue.triggers = pairs(client, sql, name).await?;
        let sql = "SELECT p.proname::text, p.pronargs, p.proconfig IS NOT NULL
                     FROM pg_catalog.pg_proc p
                     JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                    WHERE n.nspname = $1";
        let functions = client.query(sql, &[&name]).await?;
        catalogue.functions = functions.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        for (need, _) in STEPS {
            if let Need::NoEmptyTable(table) = need
                && catalogue.tables.contains_key(*table)
            {
                let sql = format!("SELECT EXISTS (SELECT FROM {}.{table})", schema.quoted());
                if client.query_one(&sql, &[]).await?.get(0) {
                    catalogue.filled.insert((*table).to_owned());
                }
            }
        }
        Ok(catalogue)
    }

    /// What of a table is not as any SDK made it.
    fn strange(&self, table: &Table) -> Vec<String> {
        let Some(present) = self.tables.get(table.name) else {
            let missing = !table.founding.is_empty();
            return missing.then(|| format!("no table {}", table.name)).into_iter().collect();
        };
        let column = |(name, kind, _): &(&str, &str, &str)| match present.get(*name) {
            Some(found) if found != kind => Some(format!("column {}.{name} is {found}, not {kind}", table.name)),
            None if table.founding.contains(name) => Some(format!("no column {}.{name}", table.name)),
            _ => None,
        };
        let mut strange: Vec<String> = table.columns.iter().filter_map(column).collect();
        if DEPENDENT.contains(&table.name) && !self.dependent.contains(table.name) {
            strange.push(format!("no foreign key of {} to workflow_status", table.name));
        }
        strange
    }

    /// What makes the table, or the columns that it lacks. In one statement: each needs the table for itself.
    fn lacking(&self, table: &Table) -> Option<Step> {
        let definition = |(name, kind, rest): &(&str, &str, &str)| {
            format!("\"{name}\" {kind} {}", rest.replace("{now}", NOW)).trim_end().to_owned()
        };
        let list = |parts: Vec<String>| parts.join(", ");
        let sql = match self.tables.get(table.name) {
            None => {
                let columns = list(table.columns.iter().map(definition).collect());
                format!("CREATE TABLE IF NOT EXISTS {{schema}}.{} ({columns}, {})", table.name, table.constraints)
            }
            Some(present) => {
                let missing = table.columns.iter().filter(|(name, ..)| !present.contains_key(*name));
                let columns: Vec<String> =
                    missing.map(|column| format!("ADD COLUMN IF NOT EXISTS {}", definition(column))).collect();
                if columns.is_empty() {
                    return None;
                }
                format!("ALTER TABLE {{schema}}.{} {}", table.name, list(columns))
            }
        };
        Some(Step { how: How::Transaction, sql })
    }

    fn holds(&self, need: &Need) -> bool {
        let pair = |table: &str, name: &str| (table.to_owned(), name.to_owned());
        match need {
            Need::Index { name, filtered } => self.indexes.get(*name) == Some(&(*filtered, true)),
            Need::NoIndex(name) => !self.indexes.contains_key(*name),
            Need::NoConstraint { table, name } => !self.constraints.contains(&pair(table, name)),
            Need::NoTrigger { table, name } => !self.triggers.contains(&pair(table, name)),
            Need::Function { name, arguments } => {
                self.functions.iter().any(|(its, count, _)| its == name && arguments.contains(count))
            }
            Need::SafePath(name) => self.functions.iter().all(|(its, _, safe)| its != name || *safe),
            Need::NoEmptyTable(table) => !self.tables.contains_key(*table) || self.filled.contains(*table),
        }
    }
}

async fn pairs(
    client: &impl Statements,
    sql: &str,
    schema: &str,
) -> Result<HashSet<(String, String)>, tokio_postgres::Error> {
    Ok(client.query(sql, &[&schema]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}
