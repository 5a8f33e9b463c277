//! The levels that every DBOS SDK counts alike, one file each: what brings a schema at level 100 to the newest one.
//!
//! An applied level is history: its file never changes, and a later level undoes what it did.

use super::name::SchemaName;

/// From here on every SDK means the same by a number.
pub(super) const FIRST_SHARED: i64 = 100;

/// One step from a level to the next.
#[derive(Debug)]
pub struct Level {
    number: i64,
    kind: Kind,
    sql: &'static str,
}

/// How a level is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In one transaction with its number.
    Transaction,
    /// Builds this index while the table is in use: outside transactions, its number is recorded afterwards.
    Builds(&'static str),
    /// Drops an index while the table is in use: as a build.
    Drops,
}

macro_rules! level {
    ($number:literal, $kind:expr, $file:literal) => {
        Level { number: $number, kind: $kind, sql: include_str!(concat!("../../../migrations/system/", $file, ".sql")) }
    };
}

use Kind::{Builds, Drops, Transaction};

const LEVELS: [Level; 25] = [
    level!(101, Transaction, "0101_queues_application_name"),
    level!(102, Transaction, "0102_workflow_schedules_application_name"),
    level!(103, Transaction, "0103_application_versions_application_name"),
    level!(104, Transaction, "0104_operation_outputs_application_name"),
    level!(105, Transaction, "0105_enqueue_workflow_application_name"),
    level!(106, Transaction, "0106_versions_owner_unique"),
    level!(107, Builds("uq_application_versions_unclaimed_version"), "0107_versions_unclaimed_unique"),
    level!(108, Transaction, "0108_queues_partition_limits"),
    level!(109, Transaction, "0109_payload_tables"),
    level!(110, Transaction, "0110_steps_retention"),
    level!(111, Builds("idx_operation_outputs_retention"), "0111_steps_retention_index"),
    level!(112, Transaction, "0112_steps_stand_alone"),
    level!(113, Transaction, "0113_enqueue_workflow_input"),
    level!(114, Drops, "0114_drop_notifications_duplicate"),
    level!(115, Builds("idx_workflow_status_in_flight_v2"), "0115_in_flight_v2"),
    level!(116, Drops, "0116_drop_in_flight"),
    level!(117, Builds("idx_workflow_status_partition_dequeue_v3"), "0117_partition_dequeue_v3"),
    level!(118, Drops, "0118_drop_partition_dequeue_v2"),
    level!(119, Builds("idx_operation_outputs_completed_at_function_name_v2"), "0119_steps_completed_v2"),
    level!(120, Drops, "0120_drop_steps_completed"),
    level!(121, Transaction, "0121_notifications_consumed_by"),
    level!(122, Builds("idx_workflow_status_deadline"), "0122_deadline"),
    level!(123, Transaction, "0123_creator"),
    level!(124, Builds("idx_application_versions_timestamp"), "0124_versions_timestamp"),
    level!(125, Builds("idx_application_versions_owner_timestamp"), "0125_versions_owner_timestamp"),
];

/// Tables and columns that a schema gets by a shared level: a schema below it is complete without them.
const ADDED: [(i64, &str, &[&str]); 9] = [
    (101, "queues", &["application_name"]),
    (103, "application_versions", &["application_name"]),
    (104, "operation_outputs", &["application_name"]),
    (
        108,
        "queues",
        &[
            "partition_concurrency",
            "partition_worker_concurrency",
            "partition_rate_limit_max",
            "partition_rate_limit_period_sec",
        ],
    ),
    (109, "workflow_input", &[]),
    (109, "workflow_output", &[]),
    (110, "operation_outputs", &["retention_timestamp"]),
    (121, "notifications", &["consumed_by_function_id"]),
    (123, "workflow_status", &["creator_xid"]),
];

/// Whether a schema at this level has yet to get the table, or the column of it.
pub(super) fn comes_after(level: i64, table: &str, column: Option<&str>) -> bool {
    ADDED.iter().any(|(number, its_table, columns)| {
        level < *number
            && table == *its_table
            && match column {
                None => columns.is_empty(),
                Some(column) => columns.is_empty() || columns.contains(&column),
            }
    })
}

/// The levels above this one, which has to be a shared one, in their order.
pub(super) fn above(level: i64) -> &'static [Level] {
    const ALL: &[Level] = &LEVELS;
    &ALL[ALL.partition_point(|step| step.number <= level)..]
}

impl Level {
    /// The number that is recorded.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Whether it is run outside transactions, while the tables are in use: it may take long, and nobody waits for it.
    pub fn is_online(&self) -> bool {
        self.kind != Kind::Transaction
    }

    /// What it is for, in a few words.
    pub fn purpose(&self) -> &'static str {
        self.sql.lines().next().and_then(|header| header.split_once(": ")).map_or("", |(_, purpose)| purpose)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn sql(&self, schema: &SchemaName) -> String {
        self.sql.replace("{schema}", schema.quoted())
    }

    /// Its statements, one line each; of a function only the name.
    pub(super) fn statements(&self, schema: &SchemaName) -> Vec<String> {
        let mut statements: Vec<String> = Vec::new();
        let mut in_body = false;
        for line in self.sql.lines() {
            if line.contains("$fireflow$") {
                in_body = !in_body;
            }
            if in_body || line.trim_start().starts_with("--") || line.trim().is_empty() {
                continue;
            }
            // Statements begin at the margin; so does a closing parenthesis, and what a function is made of.
            match statements.last_mut() {
                Some(statement) if !statement.ends_with(';') => {
                    statement.push(' ');
                    statement.push_str(line.trim());
                }
                _ => statements.push(line.to_owned()),
            }
        }
        let short = |statement: String| {
            let end = statement.find("FUNCTION").and_then(|_| statement.find('(')).unwrap_or(statement.len());
            statement[..end].trim_end_matches(';').replace("{schema}", schema.quoted())
        };
        statements.into_iter().map(short).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysdb::schema::BASELINE_LEVEL;

    #[test]
    fn levels_have_no_gaps_and_their_files_say_how_they_are_run() {
        let numbers: Vec<i64> = above(FIRST_SHARED).iter().map(Level::number).collect();
        assert_eq!(numbers, (FIRST_SHARED + 1..=BASELINE_LEVEL).collect::<Vec<_>>());
        assert_eq!(above(123).iter().map(Level::number).collect::<Vec<_>>(), [124, 125]);
        assert!(above(BASELINE_LEVEL).is_empty() && above(200).is_empty());
        let schema = SchemaName::default();
        for level in &LEVELS {
            let how = if level.is_online() { "online" } else { "in a transaction" };
            assert!(level.sql.starts_with(&format!("-- Level {}, {how}: ", level.number)), "{}", level.sql);
            assert_eq!(level.sql.contains("CONCURRENTLY"), level.is_online(), "{}", level.sql);
            // Several statements in one go are a transaction, in which no index is built online.
            let statements = level.statements(&schema);
            assert!(!statements.is_empty() && (statements.len() == 1 || !level.is_online()), "{statements:?}");
            let begins = match level.kind {
                Transaction => "",
                Builds(index) => &format!("INDEX CONCURRENTLY IF NOT EXISTS {index} ON \"dbos\"."),
                Drops => "DROP INDEX CONCURRENTLY IF EXISTS \"dbos\".",
            };
            assert!(statements[0].contains(begins), "{statements:?}");
        }
    }

    #[test]
    fn statements_are_shown_on_a_line_each() {
        let schema: SchemaName = "odd; \"name\"".parse().unwrap();
        let shown = |number: i64| above(number - 1)[0].statements(&schema);
        assert_eq!(
            shown(105),
            [
                "DROP FUNCTION IF EXISTS \"odd; \"\"name\"\"\".enqueue_workflow",
                "CREATE OR REPLACE FUNCTION \"odd; \"\"name\"\"\".enqueue_workflow"
            ]
        );
        assert_eq!(shown(108).len(), 4);
        assert_eq!(
            shown(123),
            ["ALTER TABLE \"odd; \"\"name\"\"\".workflow_status ADD COLUMN IF NOT EXISTS creator_xid text"]
        );
        assert_eq!(above(122)[0].purpose(), "the token of who made the row.");
    }
}
