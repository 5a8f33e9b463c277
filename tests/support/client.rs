//! A client of the queue that speaks nothing but SQL, and looks at what became of its executions.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::time::Duration;

use fireflow_worker::{config, worker::Database};
use serde_json::{Value as Json, json};
use tokio_postgres::{Client, types::ToSql};

use super::{TestDatabase, worker::PATIENCE};

/// The queue that workers serve by default.
pub const QUEUE: &str = "fireflow-executions";
const LOOK: Duration = Duration::from_millis(20);

/// A connection to a database with the schemas of a worker.
pub struct SqlClient(Client);

/// A row to enqueue as it is.
pub struct Raw<'a> {
    pub id: &'a str,
    pub inputs: &'a str,
    pub serialization: Option<&'a str>,
    pub class: Option<&'a str>,
    pub config: Option<&'a str>,
    pub priority: i32,
}

impl<'a> Raw<'a> {
    pub fn new(id: &'a str, serialization: Option<&'a str>, inputs: &'a str) -> Raw<'a> {
        Raw { id, inputs, serialization, class: Some("ExecutionWorkflows"), config: None, priority: 0 }
    }
}

/// A recorded step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub function_id: i32,
    pub name: String,
    pub output: Option<String>,
    pub completed_at: i64,
}

/// A workflow as its client sees it.
#[derive(Clone, Debug)]
pub struct Row {
    pub status: String,
    pub attempts: i64,
    pub executor: Option<String>,
    pub output: Option<String>,
    pub error: Option<String>,
}

impl Row {
    /// The result of a workflow with portable JSON.
    pub fn result(&self) -> Json {
        serde_json::from_str(self.output.as_deref().unwrap_or_else(|| panic!("no result: {self:?}"))).unwrap()
    }

    /// The text of the error.
    pub fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_else(|| panic!("no error: {self:?}"))
    }
}

impl SqlClient {
    /// Make the schemas, and connect.
    pub async fn open(database: &TestDatabase) -> SqlClient {
        SqlClient::open_at(&database.url()).await
    }

    /// As [`open`](SqlClient::open), by URL.
    pub async fn open_at(url: &str) -> SqlClient {
        let mut settings = config::Settings::default();
        settings.database.url = url.into();
        Database::connect(&settings).await.unwrap().ensure_schemas().await.unwrap();
        SqlClient::attach(url).await
    }

    /// Connect to a database that has the schemas.
    pub async fn attach(url: &str) -> SqlClient {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection); // ends with its client
        SqlClient(client)
    }

    /// The connection itself.
    pub fn sql(&self) -> &Client {
        &self.0
    }

    /// Run one statement; gives the number of rows.
    pub async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> u64 {
        self.0.execute(sql, parameters).await.unwrap()
    }

    /// Store a flow.
    pub async fn store(&self, flow: &Json) {
        let id = flow["id"].as_str().unwrap();
        self.store_as(id, flow).await;
    }

    /// Store anything as a flow.
    pub async fn store_as(&self, id: &str, data: &Json) {
        let sql = "INSERT INTO fireflow_flows (id, data, owner_id) VALUES ($1, $2, 'tests')";
        self.execute(sql, &[&id, data]).await;
    }

    /// Make the execution's row, as Fireflow's server does before it enqueues.
    pub async fn create_execution(&self, id: &str, flow: &str) {
        let sql = "INSERT INTO fireflow_executions (id, flow_id, owner_id, root_execution_id, options, integration,
                          external_events) VALUES ($1, $2, 'tests', $1, '{}', '{}', '[]')";
        self.execute(sql, &[&id, &flow]).await;
    }

    /// Enqueue an execution of a flow.
    pub async fn enqueue(&self, id: &str, flow: &str, inputs: Json) {
        self.enqueue_task(id, &json!({"executionId": id, "flowId": flow, "inputs": inputs})).await;
    }

    /// Enqueue any task.
    pub async fn enqueue_task(&self, id: &str, task: &Json) {
        let sql = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY[$2::text::json],
                          class_name => 'ExecutionWorkflows', workflow_id => $3, deduplication_id => $3)";
        self.0.query_one(sql, &[&QUEUE, &task.to_string(), &id]).await.unwrap();
    }

    /// Enqueue a row as it is.
    pub async fn enqueue_raw(&self, raw: &Raw<'_>) {
        let sql = "WITH inputs AS (INSERT INTO dbos.workflow_input (workflow_uuid, inputs) VALUES ($1, $2))
                   INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, serialization, class_name,
                          config_name, priority)
                   VALUES ($1, 'ENQUEUED', 'executeFireFlow', $3, $4, $5, $6, $7)";
        let Raw { id, inputs, serialization, class, config, priority } = raw;
        self.execute(sql, &[id, inputs, &QUEUE, serialization, class, config, priority]).await;
    }

    /// Send a message to a workflow.
    pub async fn send(&self, id: &str, topic: &str, message: Json) {
        let sql = "SELECT dbos.send_message($1, $2::text::json, $3)";
        self.0.query_one(sql, &[&id, &message.to_string(), &topic]).await.unwrap();
    }

    /// Cancel as an SDK does.
    pub async fn cancel(&self, id: &str) {
        let sql = "UPDATE dbos.workflow_status
                      SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL, deduplication_id = NULL,
                          started_at_epoch_ms = NULL, completed_at = (extract(epoch FROM now()) * 1000)::bigint
                    WHERE workflow_uuid = $1 AND status NOT IN ('SUCCESS', 'ERROR')";
        assert_eq!(self.execute(sql, &[&id]).await, 1);
    }

    /// A workflow's row.
    pub async fn row(&self, id: &str) -> Option<Row> {
        let sql = "SELECT w.status, COALESCE(w.recovery_attempts, 0), w.executor_id, o.output, o.error
                     FROM dbos.workflow_status w LEFT JOIN dbos.workflow_output o USING (workflow_uuid)
                    WHERE workflow_uuid = $1";
        let row = self.0.query_opt(sql, &[&id]).await.unwrap()?;
        Some(Row {
            status: row.get(0),
            attempts: row.get(1),
            executor: row.get(2),
            output: row.get(3),
            error: row.get(4),
        })
    }

    /// Wait until a workflow has this status.
    pub async fn until(&self, id: &str, status: &str) -> Row {
        let sql = "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = $1 AND status = $2";
        if !self.comes_true(sql, &[&id, &status], 1).await {
            panic!("{id} did not become {status}: {:?}", self.row(id).await);
        }
        self.row(id).await.unwrap()
    }

    /// Wait until so many workflows have this status.
    pub async fn until_count(&self, status: &str, count: i64) {
        let sql = "SELECT count(*) FROM dbos.workflow_status WHERE status = $1";
        if !self.comes_true(sql, &[&status], count).await {
            let sql = "SELECT status, count(*) FROM dbos.workflow_status GROUP BY 1";
            let rows = self.0.query(sql, &[]).await.unwrap();
            let found: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            panic!("not {count} workflows became {status}: {found:?}");
        }
    }

    /// Wait until a statement counts this; false when that takes too long.
    pub async fn comes_true(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)], count: i64) -> bool {
        let reached = async {
            while self.0.query_one(sql, parameters).await.unwrap().get::<_, i64>(0) != count {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.is_ok()
    }

    /// The recorded steps of a workflow.
    pub async fn steps(&self, id: &str) -> Vec<Step> {
        let sql = "SELECT function_id, function_name, output, completed_at_epoch_ms FROM dbos.operation_outputs
                    WHERE workflow_uuid = $1 ORDER BY function_id";
        let rows = self.0.query(sql, &[&id]).await.unwrap();
        let step = |row: &tokio_postgres::Row| Step {
            function_id: row.get(0),
            name: row.get(1),
            output: row.get(2),
            completed_at: row.get(3),
        };
        rows.iter().map(step).collect()
    }

    /// Wait until a step of this name is recorded.
    pub async fn until_step(&self, id: &str, name: &str) {
        let sql = "SELECT count(*) FROM dbos.operation_outputs WHERE workflow_uuid = $1 AND function_name = $2";
        if !self.comes_true(sql, &[&id, &name], 1).await {
            panic!("{id} has no step {name}: {:?}", self.steps(id).await);
        }
    }

    /// The event stream of an execution: offset, index and type of each event.
    pub async fn events(&self, id: &str) -> Vec<(i32, i64, String)> {
        let sql = r#"SELECT "offset", value FROM dbos.streams WHERE workflow_uuid = $1 AND key = 'events' ORDER BY 1"#;
        let rows = self.0.query(sql, &[&id]).await.unwrap();
        rows.iter()
            .map(|row| {
                let event: Json = serde_json::from_str(row.get(1)).unwrap();
                let event = &event["event"];
                (row.get(0), event["index"].as_i64().unwrap(), event["type"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    /// Wait until an event of this type is on an execution's stream: the engine may be ahead of it.
    pub async fn until_event(&self, id: &str, kind: &str) {
        let sql = "SELECT LEAST(count(*), 1) FROM dbos.streams
                    WHERE workflow_uuid = $1 AND key = 'events' AND value::jsonb #>> '{event,type}' = $2";
        if !self.comes_true(sql, &[&id, &kind], 1).await {
            panic!("{id} has no event {kind}: {:?}", self.events(id).await);
        }
    }

    /// Status and error of an execution's row.
    pub async fn execution(&self, id: &str) -> Option<(String, Option<String>)> {
        let sql = "SELECT status, error_message FROM fireflow_executions WHERE id = $1";
        let row = self.0.query_opt(sql, &[&id]).await.unwrap()?;
        Some((row.get(0), row.get(1)))
    }

    /// Wait until an execution's row has this status; gives its error.
    pub async fn until_execution(&self, id: &str, status: &str) -> Option<String> {
        let sql = "SELECT count(*) FROM fireflow_executions WHERE id = $1 AND status = $2";
        if !self.comes_true(sql, &[&id, &status], 1).await {
            panic!("execution {id} did not become {status}: {:?}", self.execution(id).await);
        }
        self.execution(id).await.unwrap().1
    }
}
