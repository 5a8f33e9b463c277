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

/// Columns of a row that is on the queue, and what they hold. The others are as in the pattern, with its id replaced in texts.
const FRESH: [(&str, &str); 12] = [
    ("status", "'ENQUEUED'"),
    ("queue_name", "$4::text"),
    ("executor_id", "NULL"),
    ("owner_xid", "NULL"),
    ("application_version", "NULL"),
    ("recovery_attempts", "0"),
    ("started_at_epoch_ms", "NULL"),
    ("completed_at", "NULL"),
    ("output", "NULL"),
    ("error", "NULL"),
    ("created_at", "(extract(epoch FROM clock_timestamp()) * 1000)::bigint + n.i / 1000"),
    ("updated_at", "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"),
];

/// So many copies of a pattern, named after the prefix, on a queue.
struct Copies<'a> {
    pattern: &'a str,
    prefix: &'a str,
    queue: &'a str,
    count: usize,
}

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
            let copies = Copies { pattern: "pattern-steps", prefix: "history", queue: "bench", count };
            self.copy(sql, table, &copies, &[]).await;
        }
    }

    /// Workflows on the queue, all in one transaction.
    pub async fn enqueue(&self, sql: &Client, pattern: &str, prefix: &str, count: usize) {
        self.enqueue_on(sql, &["bench"], pattern, prefix, count).await;
    }

    /// The same spread over queues.
    pub async fn enqueue_on(&self, sql: &Client, queues: &[&str], pattern: &str, prefix: &str, count: usize) {
        sql.batch_execute("BEGIN").await.unwrap();
        for (number, queue) in queues.iter().enumerate() {
            let prefix = if queues.len() == 1 { prefix.to_owned() } else { format!("{prefix}-{number}") };
            let copies = Copies { pattern, prefix: &prefix, queue, count: count / queues.len() };
            self.copy(sql, "workflow_status", &copies, &FRESH).await;
            if self.tables.contains(&"workflow_input") {
                self.copy(sql, "workflow_input", &copies, &[]).await;
            }
        }
        sql.batch_execute("COMMIT").await.unwrap();
    }

    /// Everything goes but the patterns: quicker than to delete millions of rows.
    pub async fn keep_patterns(&self, sql: &Client) {
        let mut script = String::new();
        for table in &self.tables {
            script += &format!(
                "CREATE TEMP TABLE kept_{table} AS SELECT * FROM dbos.{table} WHERE workflow_uuid LIKE 'pattern-%';"
            );
        }
        for table in &self.tables {
            script += &format!("TRUNCATE dbos.{table} CASCADE;");
        }
        for table in &self.tables {
            script += &format!("INSERT INTO dbos.{table} SELECT * FROM kept_{table}; DROP TABLE kept_{table};");
        }
        sql.batch_execute(&script).await.unwrap();
    }

    async fn copy(&self, sql: &Client, table: &str, copies: &Copies<'_>, changes: &[(&str, &str)]) {
        let columns = "SELECT attname::text, atttypid IN ('text'::regtype, 'varchar'::regtype) FROM pg_attribute
                        WHERE attrelid = ('dbos.' || $1::text)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for row in sql.query(columns, &[&table]).await.unwrap() {
            let (name, is_text): (String, bool) = (row.get(0), row.get(1));
            values.push(match changes.iter().find(|(changed, _)| *changed == name) {
                Some((_, value)) => (*value).to_owned(),
                None if is_text => format!("replace(t.\"{name}\", $1, n.id)"),
                None => format!("t.\"{name}\""),
            });
            names.push(format!("\"{name}\""));
        }
        let copy = format!(
            "INSERT INTO dbos.{table} ({}) SELECT {}
               FROM (SELECT $2::text || '-' || i AS id, i FROM generate_series(1, $3::bigint) i) n, dbos.{table} t
              WHERE t.workflow_uuid = $1::text AND $4::text IS NOT NULL",
            names.join(", "),
            values.join(", ")
        );
        let Copies { pattern, prefix, queue, count } = copies;
        let count = i64::try_from(*count).unwrap();
        sql.execute(&copy, &[pattern, prefix, &count, queue]).await.unwrap();
    }
}
