//! Execution rows. Status updates are not run here: they are set-based statements that travel in the checkpoint of
//! their step, so that row and step become durable together.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tokio_postgres::Row;

use super::gather::Gather;
use crate::postgres::{Pool, Statements};
use crate::sysdb::{ApplicationWrite, SysdbError, schema::Prefix};

/// An execution's row.
#[derive(Clone, Debug)]
pub struct ExecutionRow {
    /// Id, which is the workflow's id as well.
    pub id: String,
    /// The flow that it runs.
    pub flow_id: String,
    /// Owner of the flow.
    pub owner_id: String,
    /// Root of its tree.
    pub root_execution_id: Option<String>,
    /// Its parent; `None` for a root.
    pub parent_execution_id: Option<String>,
    /// created, running, paused, completed, failed or stopped.
    pub status: String,
    /// 0 for a root, the parent's plus one for a child.
    pub depth: i32,
    /// Engine options.
    pub options: Json,
    /// Integration data.
    pub integration: Json,
    /// External events; the first one becomes the run's event.
    pub external_events: Json,
    /// Hash of the content that its workflow began with.
    pub pinned: Option<String>,
}

impl ExecutionRow {
    /// Whether it has ended; then it isn't run again, unless its own workflow is.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "stopped")
    }
}

/// The executions table.
#[derive(Clone)]
pub struct ExecutionStore {
    pool: Pool,
    asked: Arc<Gather<(String, String), Option<ExecutionRow>>>,
    select: Arc<str>,
    lived: Arc<str>,
    moved: Arc<str>,
    reopened: Arc<str>,
}

impl ExecutionStore {
    /// `<prefix>executions` in this database.
    pub fn new(pool: Pool, prefix: &Prefix) -> ExecutionStore {
        let table = prefix.table("executions");
        let pins = prefix.table("flow_pins");
        // The columns are timestamps without time zone, in UTC.
        let now = "now() AT TIME ZONE 'utc'";
        ExecutionStore {
            pool,
            asked: Arc::default(),
            select: format!(
                "SELECT e.id, flow_id, owner_id, root_execution_id, parent_execution_id, status, execution_depth,
                        COALESCE(options, '{{}}') AS options, COALESCE(integration, '{{}}') AS integration,
                        COALESCE(external_events, '[]') AS external_events,
                        (SELECT p.hash FROM {pins} p WHERE p.workflow_id = asked.workflow) AS pinned
                   FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked(id, workflow, place)
                   LEFT JOIN LATERAL (SELECT * FROM {table} WHERE id = asked.id LIMIT 1) e ON TRUE ORDER BY asked.place"
            )
            .into(),
            // What happened to a row in one transaction, told in one row: it was created if it has a flow, started, ended. What
            // the server has stopped stays stopped. The array is for a plan that was made while the table was small: without
            // it, that one goes through all rows.
            lived: format!(
                "WITH r AS (SELECT * FROM jsonb_to_recordset($1) AS r(id text, flow_id text, owner_id text, root text, parent text,
                        depth integer, options jsonb, integration jsonb, external_events jsonb, status text, started boolean,
                        ended boolean, error text)),
                 made AS (INSERT INTO {table} AS e (id, flow_id, owner_id, root_execution_id, parent_execution_id, status,
                        created_at, updated_at, started_at, completed_at, error_message, execution_depth, options,
                        integration, external_events, failure_count)
                 SELECT r.id, r.flow_id, r.owner_id, r.root, r.parent, COALESCE(r.status, 'created'), {now}, {now},
                        CASE WHEN r.started THEN {now} END, CASE WHEN r.ended THEN {now} END, r.error, r.depth, r.options,
                        r.integration, r.external_events, 0
                   FROM r WHERE r.flow_id IS NOT NULL
                 ON CONFLICT (id) DO UPDATE SET status = EXCLUDED.status,
                        started_at = COALESCE(EXCLUDED.started_at, e.started_at),
                        completed_at = COALESCE(EXCLUDED.completed_at, e.completed_at),
                        error_message = CASE WHEN EXCLUDED.completed_at IS NULL THEN e.error_message ELSE EXCLUDED.error_message END,
                        updated_at = EXCLUDED.updated_at
                  WHERE EXCLUDED.status <> 'created' AND e.status NOT IN ('completed', 'failed', 'stopped'))
                 UPDATE {table} e SET status = r.status, updated_at = {now},
                        started_at = CASE WHEN r.started THEN {now} ELSE e.started_at END,
                        completed_at = CASE WHEN r.ended THEN {now} ELSE e.completed_at END,
                        error_message = CASE WHEN r.ended THEN r.error ELSE e.error_message END
                   FROM r WHERE r.flow_id IS NULL AND e.id = r.id AND e.id = ANY (ARRAY(SELECT id FROM r WHERE flow_id IS NULL))
                    AND e.status NOT IN ('completed', 'failed', 'stopped')"
            )
            .into(),
            // Between running and paused, and from nowhere else.
            moved: format!(
                "UPDATE {table} e SET status = r.status, updated_at = {now}
                   FROM jsonb_to_recordset($1) AS r(id text, status text, was text)
                  WHERE e.id = r.id AND e.status = r.was"
            )
            .into(),
            reopened: format!(
                "UPDATE {table} e SET status = CASE WHEN e.started_at IS NULL THEN 'created' ELSE 'running' END,
                        error_message = NULL, completed_at = NULL, updated_at = {now}
                   FROM jsonb_to_recordset($1) AS r(id text)
                  WHERE e.id = r.id AND e.status IN ('completed', 'failed', 'stopped')"
            )
            .into(),
        }
    }

    /// An execution's row, if there is one, with what its workflow is pinned to. Those that begin at the same moment are
    /// asked for together.
    pub async fn get(&self, id: &str, workflow: &str) -> Result<Option<ExecutionRow>, SysdbError> {
        self.asked.get((id.to_owned(), workflow.to_owned()), |keys| self.read(keys)).await
    }

    async fn read(&self, keys: Vec<(String, String)>) -> Result<Vec<Option<ExecutionRow>>, SysdbError> {
        let ids: Vec<&str> = keys.iter().map(|(id, _)| id.as_str()).collect();
        let workflows: Vec<&str> = keys.iter().map(|(_, workflow)| workflow.as_str()).collect();
        let client = self.pool.get().await?;
        let rows = client.query(&self.select, &[&ids, &workflows]).await?;
        rows.iter().map(|row| Ok(read(row)?)).collect()
    }

    /// Create the row, unless there is one.
    pub fn create(&self, row: &ExecutionRow) -> ApplicationWrite {
        let row = json!({
            "id": row.id, "flow_id": row.flow_id, "owner_id": row.owner_id, "root": row.root_execution_id,
            "parent": row.parent_execution_id, "depth": row.depth, "options": row.options,
            "integration": row.integration, "external_events": row.external_events,
        });
        self.lived(row)
    }

    /// Back to running, or to created when it never ran: its workflow was resumed.
    pub fn reopened(&self, id: &str) -> ApplicationWrite {
        ApplicationWrite { statement: self.reopened.clone(), row: json!({"id": id}), merges: false }
    }

    /// Status running.
    pub fn running(&self, id: &str) -> ApplicationWrite {
        self.lived(json!({"id": id, "status": "running", "started": true}))
    }

    /// Running → paused.
    pub fn paused(&self, id: &str) -> ApplicationWrite {
        let row = json!({"id": id, "status": "paused", "was": "running"});
        ApplicationWrite { statement: self.moved.clone(), row, merges: false }
    }

    /// Paused → running.
    pub fn resumed(&self, id: &str) -> ApplicationWrite {
        let row = json!({"id": id, "status": "running", "was": "paused"});
        ApplicationWrite { statement: self.moved.clone(), row, merges: false }
    }

    /// Status completed.
    pub fn completed(&self, id: &str) -> ApplicationWrite {
        self.lived(json!({"id": id, "status": "completed", "ended": true}))
    }

    /// Status failed, with the error's text.
    pub fn failed(&self, id: &str, error: &str) -> ApplicationWrite {
        self.ended(id, "failed", error)
    }

    /// Status stopped, with the reason.
    pub fn stopped(&self, id: &str, reason: &str) -> ApplicationWrite {
        self.ended(id, "stopped", reason)
    }

    fn ended(&self, id: &str, status: &str, error: &str) -> ApplicationWrite {
        let error = error.replace('\0', "\u{fffd}"); // PostgreSQL's text has no NUL
        self.lived(json!({"id": id, "status": status, "ended": true, "error": error}))
    }

    fn lived(&self, row: Json) -> ApplicationWrite {
        ApplicationWrite { statement: self.lived.clone(), row, merges: true }
    }
}

/// `None` when there is no such execution.
fn read(row: &Row) -> Result<Option<ExecutionRow>, tokio_postgres::Error> {
    let Some(id) = row.try_get("id")? else { return Ok(None) };
    Ok(Some(ExecutionRow {
        id,
        flow_id: row.try_get("flow_id")?,
        owner_id: row.try_get("owner_id")?,
        root_execution_id: row.try_get("root_execution_id")?,
        parent_execution_id: row.try_get("parent_execution_id")?,
        status: row.try_get("status")?,
        depth: row.try_get("execution_depth")?,
        options: row.try_get("options")?,
        integration: row.try_get("integration")?,
        external_events: row.try_get("external_events")?,
        pinned: row.try_get("pinned")?,
    }))
}
