//! Retention: removing workflows that ended long ago, with all that belongs to them.
//!
//! One statement a batch, which walks along an index from where the last one stopped, and removes what it may of the rows that
//! it passed. So a batch is short, whatever the tables hold; two at once keep out of each other's way; and whoever is stopped
//! anywhere has removed whole workflows and nothing else.
//!
//! A workflow goes only if nobody can need it: it has ended, none of its children is active, and its parent is gone or has
//! ended for good. One whose parent was cancelled or parked stays, since the parent may be resumed, and then asks for it. So do
//! what a fork comes from that has not ended for good, over however many forks, and its children: a fork begins with its source's steps,
//! and asks for the same children.

use tokio_postgres::Row;

use super::schema::Prefix;
use super::{SysdbError, SystemDatabase};
use crate::postgres::Statements;

/// Which workflows may go.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Our application; `None` for all of them.
    pub application: Option<String>,
    /// The name of workflows that are ours although no application has claimed them.
    pub workflow: String,
    /// Statuses; active ones never go.
    pub statuses: Vec<String>,
    /// They ended before this time, in milliseconds since the epoch.
    pub before: i64,
    /// The rows of Fireflow's own table as well.
    pub executions: bool,
    /// Only count.
    pub dry_run: bool,
}

/// Where a walk is: the last row that it passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    at: i64,
    id: String,
}

impl Default for Cursor {
    /// Before all rows.
    fn default() -> Cursor {
        Cursor { at: i64::MIN, id: String::new() }
    }
}

/// Along which rows a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Workflows by the time of their end.
    Ended,
    /// Workflows whose executor, of an earlier SDK, didn't record the time of their end: by that of their creation.
    Undated,
}

/// Rows of tables, by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Removed {
    /// Inputs and results.
    pub payloads: i64,
    /// Recorded steps.
    pub steps: i64,
    /// Items of streams.
    pub stream_items: i64,
    /// Events, and their history.
    pub events: i64,
    /// Messages.
    pub messages: i64,
    /// Pins, crash accounts and, if they were asked for, executions of Fireflow's own tables.
    pub application_rows: i64,
}

/// What one batch did.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Rows that were passed.
    pub passed: i64,
    /// Workflows that went, by status.
    pub workflows: Vec<(String, i64)>,
    /// What went with them.
    pub removed: Removed,
    /// Where the next batch begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// $1 before, $2 and $3 the cursor, $4 most rows. Rides `idx_workflow_status_completed_at`.
const ENDED: &str = "
  SELECT workflow_uuid AS id, completed_at AS at FROM {s}.workflow_status
   WHERE completed_at < $1 AND completed_at >= $2 AND (completed_at, workflow_uuid) > ($2, $3)
   ORDER BY completed_at, workflow_uuid LIMIT $4";

/// Rides `workflow_status_created_at_index`.
const UNDATED: &str = "
  SELECT workflow_uuid AS id, created_at AS at FROM {s}.workflow_status
   WHERE created_at < $1 AND created_at >= $2 AND (created_at, workflow_uuid) > ($2, $3)
   ORDER BY created_at, workflow_uuid LIMIT $4";

/// When a workflow ended, for either walk.
const END: &str = "COALESCE(w.completed_at, w.updated_at)";

/// $5 statuses, $6 application or NULL, $7 workflow. Active statuses never match, whatever is asked. Rows that somebody has
/// locked are left for the next time. READ COMMITTED: a row that was resumed meanwhile is looked at again.
const BATCH: &str = "
WITH passed AS MATERIALIZED ({walk}
), doomed AS MATERIALIZED (
  SELECT w.workflow_uuid AS id, w.status
    FROM passed JOIN {s}.workflow_status w ON w.workflow_uuid = passed.id
   WHERE w.status = ANY($5) AND w.status NOT IN ('ENQUEUED', 'DELAYED', 'PENDING') AND {end} < $1{undated}
     AND ($6::text IS NULL OR w.application_name = $6 OR COALESCE(w.application_name, '') = '' AND w.name = $7)
     AND (SELECT TRUE FROM {s}.workflow_status c
           WHERE c.parent_workflow_id = w.workflow_uuid AND c.status IN ('ENQUEUED', 'DELAYED', 'PENDING') LIMIT 1) IS NULL
     AND COALESCE((SELECT p.status FROM {s}.workflow_status p WHERE p.workflow_uuid = w.parent_workflow_id), 'SUCCESS')
         IN ('SUCCESS', 'ERROR')
     AND (WITH RECURSIVE forks(id, status) AS (
            SELECT f.workflow_uuid, f.status FROM {s}.workflow_status f 
             WHERE f.forked_from IN (w.workflow_uuid, w.parent_workflow_id)
            UNION
            SELECT f.workflow_uuid, f.status FROM forks JOIN {s}.workflow_status f ON f.forked_from = forks.id)
          SELECT TRUE FROM forks WHERE status NOT IN ('SUCCESS', 'ERROR') LIMIT 1) IS NULL{lock}
), ids AS MATERIALIZED (SELECT array_agg(id) AS ids FROM doomed
), of_inputs AS ({input_rows}
), of_outputs AS ({output_rows}
), steps AS ({take} {s}.operation_outputs WHERE workflow_uuid = ANY((SELECT ids FROM ids)::text[]){back}
), items AS ({take} {s}.streams WHERE workflow_uuid = ANY((SELECT ids FROM ids)::text[]){back}
), events AS ({take} {s}.workflow_events WHERE workflow_uuid = ANY((SELECT ids FROM ids)::text[]){back}
), history AS ({take} {s}.workflow_events_history WHERE workflow_uuid = ANY((SELECT ids FROM ids)::text[]){back}
), messages AS ({take} {s}.notifications WHERE destination_uuid = ANY((SELECT ids FROM ids)::text[]){back}
), of_pins AS ({take} {flow_pins} WHERE workflow_id = ANY((SELECT ids FROM ids)::text[]){back}
), of_crashes AS ({take} {crashes} WHERE workflow_id = ANY((SELECT ids FROM ids)::text[]){back}
), of_executions AS ({execution_rows}
), gone AS ({gone}
)
SELECT (SELECT count(*) FROM passed), (SELECT at FROM passed ORDER BY at DESC, id DESC LIMIT 1),
       (SELECT id FROM passed ORDER BY at DESC, id DESC LIMIT 1),
       ARRAY(SELECT status FROM gone GROUP BY status ORDER BY status),
       ARRAY(SELECT count(*) FROM gone GROUP BY status ORDER BY status),
       (SELECT count(*) FROM of_inputs) + (SELECT count(*) FROM of_outputs), (SELECT count(*) FROM steps), (SELECT count(*) FROM items),
       (SELECT count(*) FROM events) + (SELECT count(*) FROM history), (SELECT count(*) FROM messages),
       (SELECT count(*) FROM of_pins) + (SELECT count(*) FROM of_crashes) + (SELECT count(*) FROM of_executions)";

/// Rows of the doomed in a table, by their column.
const OF_DOOMED: &str = "{take} {table} WHERE {column} = ANY((SELECT ids FROM ids)::text[]){back}";
/// None.
const NONE: &str = "SELECT FROM ids WHERE FALSE";

/// $1 before, $2 and $3 the cursor, $4 most rows. Rides the index on `retention_timestamp`. What was written within a
/// transaction that is still open is younger than any time that may be given here.
const ORPHANS: &str = "
WITH passed AS MATERIALIZED (
  SELECT workflow_uuid AS id, retention_timestamp AS at FROM {s}.{table}
   WHERE retention_timestamp < $1 AND retention_timestamp >= $2 AND (retention_timestamp, workflow_uuid) > ($2, $3)
   ORDER BY retention_timestamp, workflow_uuid LIMIT $4
), doomed AS MATERIALIZED (
  SELECT DISTINCT id FROM passed WHERE NOT EXISTS (SELECT FROM {s}.workflow_status w WHERE w.workflow_uuid = passed.id)
), gone AS ({take} {s}.{table} WHERE workflow_uuid = ANY(ARRAY(SELECT id FROM doomed)){back}
)
SELECT (SELECT count(*) FROM passed), (SELECT at FROM passed ORDER BY at DESC, id DESC LIMIT 1),
       (SELECT id FROM passed ORDER BY at DESC, id DESC LIMIT 1), (SELECT count(*) FROM gone)";

/// $1 most rows. As a worker's sweep has it: contents that nothing runs, and that nothing began with for a day. Rides the index on
/// `used_at`.
const CONTENTS: &str = "
WITH gone AS ({take} {flow_versions} WHERE hash IN (
  SELECT hash FROM {flow_versions} c
   WHERE used_at < now() - interval '1 day' AND NOT EXISTS (SELECT FROM {flow_pins} p WHERE p.hash = c.hash)
   ORDER BY used_at LIMIT $1{lock}){back})
SELECT count(*) FROM gone";

/// Tables that are left with rows when a workflow's row is deleted alone.
pub const ORPHANED: [&str; 3] = ["workflow_input", "workflow_output", "operation_outputs"];

impl SystemDatabase {
    /// Remove what may go of the next `most` workflows of a walk.
    ///
    /// # Errors
    /// Those of the database; then nothing was removed, and the same batch may be tried again.
    pub async fn remove_ended(
        &self,
        retention: &Retention,
        prefix: &Prefix,
        walk: Walk,
        cursor: &Cursor,
        most: i64,
    ) -> Result<Batch, SysdbError> {
        let client = self.client().await?;
        let dry = retention.dry_run;
        let payloads = self.standing.get().is_some_and(super::Standing::has_payload_tables);
        // Where inputs and results are in the workflow's own row, there is nothing more.
        let of = |there: bool, table: &str, column: &str| match there {
            true => OF_DOOMED.replace("{table}", table).replace("{column}", column),
            false => NONE.to_owned(),
        };
        let gone = match dry {
            true => "SELECT status FROM doomed",
            false => {
                "DELETE FROM {s}.workflow_status WHERE workflow_uuid = ANY((SELECT ids FROM ids)::text[]) RETURNING status"
            }
        };
        let (along, undated) = match walk {
            Walk::Ended => (ENDED, ""),
            Walk::Undated => (UNDATED, " AND w.completed_at IS NULL"),
        };
        let template = BATCH
            .replace("{walk}", along)
            .replace("{undated}", undated)
            .replace("{end}", END)
            .replace("{input_rows}", &of(payloads, "{s}.workflow_input", "workflow_uuid"))
            .replace("{output_rows}", &of(payloads, "{s}.workflow_output", "workflow_uuid"))
            .replace("{execution_rows}", &of(retention.executions, "{executions}", "id"))
            .replace("{gone}", gone);
        let template = Tables(prefix).name(&taking(&template, dry, "w"));
        let Retention { application, workflow, statuses, before, .. } = retention;
        let parameters: [&dyn crate::postgres::Parameter; 7] =
            [before, &cursor.at, &cursor.id, &most, statuses, application, workflow];
        let row = client.query_one(&self.sql(&template), &parameters).await?;
        let (statuses, counts): (Vec<String>, Vec<i64>) = (row.try_get(3)?, row.try_get(4)?);
        let (passed, next) = progress(&row, most)?;
        Ok(Batch {
            passed,
            next,
            workflows: statuses.into_iter().zip(counts).collect(),
            removed: Removed {
                payloads: row.try_get(5)?,
                steps: row.try_get(6)?,
                stream_items: row.try_get(7)?,
                events: row.try_get(8)?,
                messages: row.try_get(9)?,
                application_rows: row.try_get(10)?,
            },
        })
    }

    /// Which of the tables of [`ORPHANED`] can be looked through: earlier levels have neither all of them nor the index.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn orphaned_tables(&self) -> Result<Vec<&'static str>, SysdbError> {
        let client = self.client().await?;
        let sql = "SELECT c.relname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                     JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = $1 AND a.attname = 'retention_timestamp' AND NOT a.attisdropped AND c.relkind IN ('r', 'p')";
        let rows = client.query(sql, &[&self.schema.name()]).await?;
        let there = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        Ok(ORPHANED.into_iter().filter(|table| there.iter().any(|name| name == table)).collect())
    }

    /// Remove rows of workflows that are gone, of the next `most` rows of this table. Gives how many went, and where the next batch
    /// begins.
    ///
    /// # Errors
    /// As [`remove_ended`](SystemDatabase::remove_ended).
    pub async fn remove_orphans(
        &self,
        table: &'static str,
        before: i64,
        dry_run: bool,
        cursor: &Cursor,
        most: i64,
    ) -> Result<(i64, Option<Cursor>), SysdbError> {
        let client = self.client().await?;
        let template = taking(&ORPHANS.replace("{table}", table), dry_run, "");
        let row = client.query_one(&self.sql(&template), &[&before, &cursor.at, &cursor.id, &most]).await?;
        Ok((row.try_get(3)?, progress(&row, most)?.1))
    }

    /// Remove contents of flows that nobody needs, at most so many. Gives how many went.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn remove_contents(&self, prefix: &Prefix, dry_run: bool, most: i64) -> Result<i64, SysdbError> {
        let client = self.client().await?;
        let template = Tables(prefix).name(&taking(CONTENTS, dry_run, ""));
        Ok(client.query_one(&self.sql(&template), &[&most]).await?.try_get(0)?)
    }

    /// A time as the database has it now, less so many milliseconds; in milliseconds since the epoch.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn before_now(&self, milliseconds: i64) -> Result<i64, SysdbError> {
        let client = self.client().await?;
        Ok(client.query_one(&self.sql("SELECT {now} - $1::bigint"), &[&milliseconds]).await?.try_get(0)?)
    }
}

/// Take rows, or only count them. `of` names what is locked, where it isn't all.
fn taking(template: &str, dry_run: bool, of: &str) -> String {
    let lock = match (dry_run, of) {
        (true, _) => String::new(),
        (false, "") => " FOR UPDATE SKIP LOCKED".into(),
        (false, of) => format!("\n     FOR UPDATE OF {of} SKIP LOCKED"),
    };
    template
        .replace("{take}", if dry_run { "SELECT FROM" } else { "DELETE FROM" })
        .replace("{back}", if dry_run { "" } else { " RETURNING 1" })
        .replace("{lock}", &lock)
}

fn progress(row: &Row, most: i64) -> Result<(i64, Option<Cursor>), tokio_postgres::Error> {
    let passed: i64 = row.try_get(0)?;
    let next = match (row.try_get::<_, Option<i64>>(1)?, row.try_get::<_, Option<String>>(2)?) {
        (Some(at), Some(id)) if passed >= most => Some(Cursor { at, id }),
        _ => None,
    };
    Ok((passed, next))
}

/// Names of the application tables, in a template.
struct Tables<'a>(&'a Prefix);

impl Tables<'_> {
    fn name(&self, template: &str) -> String {
        template
            .replace("{flow_pins}", &self.0.table("flow_pins"))
            .replace("{flow_versions}", &self.0.table("flow_versions"))
            .replace("{crashes}", &self.0.table("crashes"))
            .replace("{executions}", &self.0.table("executions"))
    }
}
