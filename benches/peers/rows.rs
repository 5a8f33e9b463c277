//! Rows in bulk, made after two patterns that the contender's own client made and its own executor ran.

use tokio_postgres::Client;

/// The tables of a workflow that this contender's schema has, in the order in which to write them.
pub struct Rows {
    tables: Vec<&'static str>,
}

const TABLES: [(&str, &str); 5] = [
    ("workflow_status", "workflow_uuid"),
    ("workflow_input", "workflow_uuid"),
    ("workflow_output", "workflow_uuid"),
    ("operation_outputs", "workflow_uuid"),
    ("streams", "workflow_uuid"),
];

/// A row of table `t` for the workflow `new`, whose pattern's id stands in texts as well.
const COPY: &str = "
INSERT INTO dbos.{table}
SELECT (jsonb_populate_record(NULL::dbos.{table},
          replace(to_jsonb(t)::text, p.id, n.id)::jsonb || {changes})).*
  FROM (SELECT $1::text AS id) p, LATERAL (SELECT $2::text || '-' || i AS id, i FROM generate_series(1, $3::bigint) i) n,
       dbos.{table} t
 WHERE t.workflow_uuid = p.id";

impl Rows {
    pub async fn like_patterns(sql: &Client) -> Rows {
        let mut tables = Vec::new();
        for (table, _) in TABLES {
            let there = "SELECT to_regclass('dbos.' || $1::text) IS NOT NULL";
            if sql.query_one(there, &[&table]).await.unwrap().get(0) {
                tables.push(table);
            }
        }
        Rows { tables }
    }

    /// Workflows that have ended, as the pattern did: all its rows.
    pub async fn finished(&self, sql: &Client, count: usize) {
        for table in &self.tables {
            self.copy(sql, table, "pattern-steps", "history", count, "'{}'").await;
        }
    }

    /// Workflows on the queue, all in one transaction.
    pub async fn enqueue(&self, sql: &Client, pattern: &str, prefix: &str, count: usize) {
        let fresh = "jsonb_build_object('status', 'ENQUEUED', 'queue_name', 'bench', 'executor_id', NULL, 'owner_xid', NULL,
            'application_version', NULL, 'recovery_attempts', 0, 'started_at_epoch_ms', NULL, 'completed_at', NULL,
            'output', NULL, 'error', NULL, 'created_at', (extract(epoch FROM clock_timestamp()) * 1000)::bigint + n.i / 1000,
            'updated_at', (extract(epoch FROM clock_timestamp()) * 1000)::bigint)";
        sql.batch_execute("BEGIN").await.unwrap();
        self.copy(sql, "workflow_status", pattern, prefix, count, fresh).await;
        if self.tables.contains(&"workflow_input") {
            self.copy(sql, "workflow_input", pattern, prefix, count, "'{}'").await;
        }
        sql.batch_execute("COMMIT").await.unwrap();
    }

    async fn copy(&self, sql: &Client, table: &str, pattern: &str, prefix: &str, count: usize, changes: &str) {
        let copy = COPY.replace("{table}", table).replace("{changes}", changes);
        let count = i64::try_from(count).unwrap();
        sql.execute(&copy, &[&pattern, &prefix, &count]).await.unwrap();
    }
}
