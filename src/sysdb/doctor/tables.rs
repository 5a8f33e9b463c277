//! The tables: what they hold, what is dead in them, and what nobody needs any more.

use super::{Examiner, Seen, SysdbError};
use crate::postgres::Statements as _;

/// The system tables that grow.
const SYSTEM: [&str; 8] = [
    "workflow_status",
    "workflow_input",
    "workflow_output",
    "operation_outputs",
    "notifications",
    "workflow_events",
    "workflow_events_history",
    "streams",
];

/// Those of the application that grow.
const APPLICATION: [&str; 5] = ["executions", "workers", "flow_versions", "flow_pins", "crashes"];

/// Figures of one table, as the server keeps them.
#[derive(Clone, Debug)]
pub struct TableFigures {
    /// Its name.
    pub name: String,
    /// Bytes on disk, with its indexes.
    pub bytes: i64,
    /// Live rows, about.
    pub live: i64,
    /// Dead rows, about.
    pub dead: i64,
    /// Seconds since it was last vacuumed; `None` for never.
    pub vacuumed: Option<f64>,
    /// Whether the server vacuums it by itself, as far as this table's own options go.
    pub autovacuum: bool,
}

/// An index that can't be used, or that isn't there.
#[derive(Clone, Debug)]
pub struct Index {
    /// Its schema, as it stands in SQL text.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it is there, and broken; else it is missing.
    pub broken: bool,
}

/// $1 tables as they stand in SQL text.
const FIGURES: &str = "
SELECT c.relname::text, pg_total_relation_size(c.oid), COALESCE(s.n_live_tup, 0), COALESCE(s.n_dead_tup, 0),
       EXTRACT(epoch FROM now() - GREATEST(s.last_vacuum, s.last_autovacuum))::float8,
       COALESCE(NOT (c.reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0',
                                           'autovacuum_enabled=no', 'autovacuum_enabled=f']), TRUE)
  FROM unnest($1::text[]) AS wanted(name)
  JOIN pg_class c ON c.oid = to_regclass(wanted.name)::oid
  LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
 ORDER BY 2 DESC";

/// Indexes that claims, looks and sweeps ride, and the level that makes them.
const RIDDEN: [(&str, i64); 7] = [
    ("idx_workflow_status_in_flight_v2", 115),
    ("idx_workflow_status_partition_dequeue_v3", 117),
    ("idx_workflow_status_pending", 100),
    ("idx_workflow_status_delayed", 100),
    ("idx_workflow_status_deadline", 122),
    ("idx_workflow_status_completed_at", 100),
    ("workflow_status_created_at_index", 100),
];

/// $1 schema, $2 tables of ours, $3 names that are wanted. One that is being built isn't valid yet; which one that is, only its owner
/// may see.
const INDEXES: &str = "
SELECT quote_ident(n.nspname), c.relname::text, TRUE
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
 WHERE NOT i.indisvalid AND (n.nspname = $1 OR t.oid IN (SELECT to_regclass(name)::oid FROM unnest($2::text[]) AS own(name)))
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
                    WHERE p.datid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                      AND COALESCE(p.index_relid, i.indexrelid) = i.indexrelid)
UNION ALL
SELECT quote_ident($1), wanted.name, FALSE FROM unnest($3::text[]) AS wanted(name)
 WHERE NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = $1 AND c.relname = wanted.name AND c.relkind IN ('i', 'I'))";

/// $1 application, $2 milliseconds. Rides `idx_workflow_status_completed_at`.
const FINISHED: &str = "
SELECT w.workflow_uuid, (({now} - w.completed_at) / 1000.0)::float8
  FROM {s}.workflow_status w
 WHERE w.completed_at < {now} - $2::bigint AND {ours} AND w.status NOT IN ('ENQUEUED', 'DELAYED', 'PENDING')";

/// $1 milliseconds. The oldest ones only; rides the index on `retention_timestamp`.
const ORPHANS: &str = "
SELECT DISTINCT o.workflow_uuid, 0::float8
  FROM (SELECT workflow_uuid FROM {s}.{table} WHERE retention_timestamp < {now} - $1::bigint
         ORDER BY retention_timestamp LIMIT {cap}) o
 WHERE NOT EXISTS (SELECT FROM {s}.workflow_status w WHERE w.workflow_uuid = o.workflow_uuid)";

/// Pins are taken along by the end, or swept by a worker within minutes after a day.
const PINS: &str = "
SELECT p.workflow_id, EXTRACT(epoch FROM now() - p.pinned_at)::float8
  FROM (SELECT * FROM {flow_pins} WHERE pinned_at < now() - interval '2 days' LIMIT {cap}) p
 WHERE NOT EXISTS (SELECT FROM {s}.workflow_status w WHERE w.workflow_uuid = p.workflow_id
                      AND w.status NOT IN ('SUCCESS', 'ERROR'))";

const CONTENTS: &str = "
SELECT v.flow_id || ' version ' || v.version, EXTRACT(epoch FROM now() - v.used_at)::float8
  FROM {flow_versions} v
 WHERE v.used_at < now() - interval '2 days' AND NOT EXISTS (SELECT FROM {flow_pins} p WHERE p.hash = v.hash)";

/// Which of the system tables are orphaned when their workflow is deleted alone.
const ORPHANED: [(&str, &str); 3] = [
    ("workflow_input", "idx_workflow_input_retention"),
    ("workflow_output", "idx_workflow_output_retention"),
    ("operation_outputs", "idx_operation_outputs_retention"),
];

impl Examiner {
    fn grown(&self) -> Vec<String> {
        let system = SYSTEM.iter().map(|table| format!("{}.{table}", self.schema().quoted()));
        system.chain(APPLICATION.iter().map(|table| self.prefix.table(table))).collect()
    }

    /// Figures of the tables that grow, the largest first.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn tables(&self) -> Result<Vec<TableFigures>, SysdbError> {
        let rows = self.ask(FIGURES, &[&self.grown()]).await?;
        let figures = |row: &tokio_postgres::Row| {
            let [bytes, live, dead] = [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
            let (vacuumed, autovacuum) = (row.try_get(4)?, row.try_get(5)?);
            Ok(TableFigures { name: row.try_get(0)?, bytes, live, dead, vacuumed, autovacuum })
        };
        rows.iter().map(figures).collect()
    }

    /// Indexes that are broken, and those that a schema of this level has and this one hasn't.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn indexes(&self, level: i64) -> Result<Vec<Index>, SysdbError> {
        let own: Vec<String> = APPLICATION.iter().map(|table| self.prefix.table(table)).collect();
        let wanted: Vec<&str> = RIDDEN.iter().filter(|(_, since)| level >= *since).map(|(name, _)| *name).collect();
        let rows = self.ask(INDEXES, &[&self.schema().name(), &own, &wanted]).await?;
        rows.iter()
            .map(|row| Ok(Index { schema: row.try_get(0)?, name: row.try_get(1)?, broken: row.try_get(2)? }))
            .collect()
    }

    /// Workflows of our application that ended more than so many milliseconds ago.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn finished(&self, before: i64) -> Result<Seen, SysdbError> {
        self.seen(FINISHED, &[&self.subject.application, &before]).await
    }

    /// Inputs, results and steps of workflows that are gone, older than so many milliseconds.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn orphans(&self, before: i64) -> Result<Vec<(&'static str, Seen)>, SysdbError> {
        let present =
            "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1";
        let client = self.sysdb.pool.get().await?;
        let rows = client.query(present, &[&self.schema().name()]).await?;
        drop(client);
        let present = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        let mut orphans = Vec::new();
        for (table, index) in ORPHANED {
            // Earlier levels have neither the index nor the tables.
            if present.iter().any(|name| name == index) {
                let seen = self.seen(&ORPHANS.replace("{table}", table), &[&before]).await?;
                orphans.push((table, seen));
            }
        }
        orphans.retain(|(_, seen)| !seen.is_empty());
        Ok(orphans)
    }

    /// Pins, older than two days, of executions that succeeded, failed or are gone.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn old_pins(&self) -> Result<Seen, SysdbError> {
        self.seen(PINS, &[]).await
    }

    /// Contents of flows that nothing runs, and that nothing began with for two days.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn old_contents(&self) -> Result<Seen, SysdbError> {
        self.seen(CONTENTS, &[]).await
    }
}
