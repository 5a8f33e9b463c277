//! One database, the executors on it, and what clients do to it in SQL.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use fireflow_worker::config;
use fireflow_worker::postgres::{Parameter, Pool, Statements};
use fireflow_worker::sysdb::schema::SchemaName;
use fireflow_worker::sysdb::{ClaimScope, Notifier, SystemDatabase, Writer, WriterHandle};
use fireflow_worker::worker::Database;
use serde_json::Value;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::model::{Mail, Row, State, Step};
use crate::operation::Queue;
use crate::support::TestDatabase;

/// Workflows of a case: few, so that operations meet.
pub const ROWS: usize = 4;
/// Executors, each with a pool and a writer of its own.
pub const EXECUTORS: usize = 3;
/// Most PENDING rows of the limited queue.
pub const LIMIT: u32 = 2;

/// An executor's connections and its writer.
pub struct Executor {
    pub sysdb: SystemDatabase,
    pub writer: WriterHandle,
}

/// What all cases share.
pub struct Stage {
    pub executors: Vec<Executor>,
    client: Pool,
    cases: AtomicU32,
    stop: CancellationToken,
    _database: TestDatabase,
}

impl Stage {
    pub async fn new() -> Stage {
        let database = TestDatabase::new().await;
        let mut settings = config::Settings::default();
        settings.database.url = database.url();
        Database::connect(&settings).await.unwrap().ensure_schemas().await.unwrap();
        let stop = CancellationToken::new();
        let mut executors = Vec::new();
        for _ in 0..EXECUTORS {
            let pool = database.pool().await;
            let sysdb = SystemDatabase::new(pool, "dbos".parse::<SchemaName>().unwrap());
            let (notifier, notify) = Notifier::new(sysdb.clone(), stop.clone());
            let (writer, mut writers) = Writer::several(1, &sysdb, &notifier);
            let write = writers.remove(0);
            tokio::spawn(notify);
            tokio::spawn(write.run(stop.clone()));
            executors.push(Executor { sysdb, writer });
        }
        let client = database.pool().await;
        Stage { executors, client, cases: AtomicU32::new(0), stop, _database: database }
    }

    /// A case with ids of its own.
    pub fn case(&self) -> Case<'_> {
        Case { stage: self, number: self.cases.fetch_add(1, Ordering::Relaxed), unique: AtomicI64::new(1) }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Names of one case, and its clients.
pub struct Case<'a> {
    pub stage: &'a Stage,
    number: u32,
    unique: AtomicI64,
}

impl Case<'_> {
    /// Never the same again in this case.
    pub fn unique(&self) -> i64 {
        self.unique.fetch_add(1, Ordering::Relaxed)
    }

    pub fn application(&self) -> String {
        format!("case-{}", self.number)
    }

    pub fn id(&self, row: usize) -> String {
        format!("case-{}-w{row}", self.number)
    }

    pub fn executor(&self, executor: usize) -> String {
        format!("case-{}-e{executor}", self.number)
    }

    pub fn queue(&self, queue: Queue) -> String {
        match queue {
            Queue::Plain => format!("case-{}-plain", self.number),
            Queue::Limited => format!("case-{}-limited", self.number),
            Queue::Internal => "_dbos_internal_queue".into(),
        }
    }

    pub fn scope(&self, executor: usize) -> ClaimScope {
        ClaimScope {
            executor: self.executor(executor),
            application: self.application(),
            version: "v1".into(),
            workflows: vec!["work".into()],
            class: "Works".into(),
            formats: vec!["portable_json".into()],
            max_input: 1 << 20,
            accounts: None,
        }
    }

    /// A client's statements in one transaction, as many times as the server asks for by deadlocks; gives the last one's
    /// rows. None when a message has no destination.
    async fn execute(&self, statements: &[&str], parameters: &[&dyn Parameter]) -> Option<u64> {
        loop {
            let mut client = self.stage.client.get().await.unwrap();
            let transaction = client.transaction().await.unwrap();
            let mut result = Ok(0);
            for statement in statements {
                result = transaction.execute(statement, parameters).await;
                if result.is_err() {
                    break;
                }
            }
            match result {
                Ok(rows) => {
                    transaction.commit().await.unwrap();
                    return Some(rows);
                }
                Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {}
                Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => return None,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// Enqueue with a delay that is over.
    pub async fn postpone(&self, row: usize, inputs: &str) -> bool {
        let sql = "WITH new AS (
                     INSERT INTO dbos.workflow_status (workflow_uuid, status, name, class_name, queue_name,
                            application_name, serialization, recovery_attempts, delay_until_epoch_ms)
                     VALUES ($1, 'DELAYED', 'work', 'Works', $2, $3, 'portable_json', 0, 1)
                     ON CONFLICT DO NOTHING RETURNING workflow_uuid)
                   INSERT INTO dbos.workflow_input (workflow_uuid, inputs) SELECT workflow_uuid, $4 FROM new
                   ON CONFLICT (workflow_uuid) DO UPDATE SET inputs = EXCLUDED.inputs";
        let (queue, application) = (self.queue(Queue::Plain), self.application());
        self.execute(&[sql], &[&self.id(row), &queue, &application, &inputs]).await == Some(1)
    }

    /// Let this incarnation have the worker's id.
    pub async fn register(&self, worker: &str, incarnation: uuid::Uuid) {
        let sql = "INSERT INTO fireflow_workers (id, incarnation, expires_at, state) VALUES ($1, $2, now(), 'running')
                   ON CONFLICT (id) DO UPDATE SET incarnation = EXCLUDED.incarnation";
        assert_eq!(self.execute(&[sql], &[&worker, &incarnation]).await, Some(1));
    }

    pub async fn cancel(&self, row: usize) -> bool {
        let sql = "UPDATE dbos.workflow_status
                      SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL, deduplication_id = NULL,
                          started_at_epoch_ms = NULL, updated_at = (extract(epoch FROM now()) * 1000)::bigint,
                          completed_at = (extract(epoch FROM now()) * 1000)::bigint
                    WHERE workflow_uuid = $1 AND status NOT IN ('SUCCESS', 'ERROR')";
        self.execute(&[sql], &[&self.id(row)]).await == Some(1)
    }

    pub async fn resume(&self, row: usize) -> bool {
        let sql = "UPDATE dbos.workflow_status
                      SET status = 'ENQUEUED', owner_xid = NULL, workflow_deadline_epoch_ms = NULL,
                          deduplication_id = NULL, started_at_epoch_ms = NULL, completed_at = NULL,
                          recovery_attempts = 0, queue_name = '_dbos_internal_queue',
                          updated_at = (extract(epoch FROM now()) * 1000)::bigint
                    WHERE workflow_uuid = $1 AND status NOT IN ('SUCCESS', 'ERROR')";
        self.execute(&[sql], &[&self.id(row)]).await == Some(1)
    }

    pub async fn delete(&self, row: usize) -> bool {
        let statements = [
            "DELETE FROM dbos.workflow_input WHERE workflow_uuid = $1",
            "DELETE FROM dbos.workflow_output WHERE workflow_uuid = $1",
            "DELETE FROM dbos.operation_outputs WHERE workflow_uuid = $1",
            "DELETE FROM dbos.workflow_status WHERE workflow_uuid = $1",
        ];
        self.execute(&statements, &[&self.id(row)]).await == Some(1)
    }

    /// A client's delete locks nothing until it comes to the status row, so a checkpoint may slip in before that. What it
    /// leaves behind is for retention; here it goes at once.
    pub async fn collect_orphans(&self) {
        let ids: Vec<String> = (0..ROWS).map(|row| self.id(row)).collect();
        for table in ["workflow_input", "workflow_output", "operation_outputs"] {
            let sql = format!(
                "DELETE FROM dbos.{table} t WHERE workflow_uuid = ANY($1)
                    AND NOT EXISTS (SELECT FROM dbos.workflow_status w WHERE w.workflow_uuid = t.workflow_uuid)"
            );
            self.execute(&[&sql], &[&ids]).await;
        }
    }

    /// Send a message; the times differ, so that the oldest one is known.
    pub async fn send(&self, row: usize, value: &str, at: i64) -> bool {
        let sql =
            "INSERT INTO dbos.notifications (destination_uuid, topic, message, serialization, created_at_epoch_ms)
                   VALUES ($1, 'topic', $2, 'portable_json', $3)";
        self.execute(&[sql], &[&self.id(row), &value, &at]).await.is_some()
    }

    /// Let an active workflow's deadline pass.
    pub async fn pass_deadline(&self, row: usize) -> bool {
        let sql = "UPDATE dbos.workflow_status SET workflow_deadline_epoch_ms = 1
                    WHERE workflow_uuid = $1 AND status IN ('ENQUEUED', 'PENDING', 'DELAYED')";
        self.execute(&[sql], &[&self.id(row)]).await == Some(1)
    }

    /// Make a workflow older, the earlier ones more so, since claims by age need ages that differ.
    pub async fn age(&self, row: usize) {
        let sql = "UPDATE dbos.workflow_status SET created_at = created_at - $2 WHERE workflow_uuid = $1";
        let older = (ROWS - row) as i64 * 1000;
        self.execute(&[sql], &[&self.id(row), &older]).await;
    }

    /// PENDING rows of the limited queue.
    pub async fn pending(&self) -> i64 {
        let sql = "SELECT count(*) FROM dbos.workflow_status WHERE queue_name = $1 AND status = 'PENDING'";
        let client = self.stage.client.get().await.unwrap();
        client.query_one(sql, &[&self.queue(Queue::Limited)]).await.unwrap().get(0)
    }

    /// Everything about the case's workflows that operations change.
    pub async fn snapshot(&self) -> State {
        let sql = r#"
            SELECT w.workflow_uuid, w.status, w.owner_xid, w.executor_id, w.queue_name, w.recovery_attempts,
                   w.started_at_epoch_ms IS NOT NULL, w.completed_at IS NOT NULL,
                   w.workflow_deadline_epoch_ms IS NOT NULL, i.inputs, o.output, o.error,
                   (SELECT json_agg(json_build_array(function_id, function_name, output, completed_at_epoch_ms)
                                    ORDER BY function_id)
                      FROM dbos.operation_outputs s WHERE s.workflow_uuid = w.workflow_uuid),
                   (SELECT json_agg(json_build_array(key, "offset", value) ORDER BY key, "offset")
                      FROM dbos.streams s WHERE s.workflow_uuid = w.workflow_uuid),
                   (SELECT json_agg(json_build_array(message, consumed, consumed_by_function_id)
                                    ORDER BY created_at_epoch_ms)
                      FROM dbos.notifications n WHERE n.destination_uuid = w.workflow_uuid)
              FROM dbos.workflow_status w LEFT JOIN dbos.workflow_input i USING (workflow_uuid)
              LEFT JOIN dbos.workflow_output o USING (workflow_uuid) WHERE w.workflow_uuid = ANY($1)"#;
        let ids: Vec<String> = (0..ROWS).map(|row| self.id(row)).collect();
        let client = self.stage.client.get().await.unwrap();
        let mut state = State::default();
        for row in client.query(sql, &[&ids]).await.unwrap() {
            let list = |column: usize| match row.get::<_, Option<Value>>(column) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let number = |value: &Value| value.as_i64().unwrap();
            let mut streams: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
            for item in list(13) {
                streams.entry(text(&item[0]).unwrap()).or_default().push((number(&item[1]), text(&item[2]).unwrap()));
            }
            let step = |item: &Value| {
                let step =
                    Step { name: text(&item[1]).unwrap(), output: text(&item[2]), completed_at: number(&item[3]) };
                (i32::try_from(number(&item[0])).unwrap(), step)
            };
            let mail = |item: &Value| Mail {
                value: text(&item[0]).unwrap(),
                consumed_by: item[1].as_bool().unwrap().then(|| item[2].as_i64().unwrap()),
            };
            let place = ids.iter().position(|id| *id == row.get::<_, String>(0)).unwrap();
            state.rows[place] = Some(Row {
                status: row.get(1),
                token: row.get(2),
                executor: row.get(3),
                queue: row.get(4),
                attempts: row.get(5),
                started: row.get(6),
                completed: row.get(7),
                deadline: row.get(8),
                inputs: row.get(9),
                output: row.get(10),
                error: row.get(11),
                steps: list(12).iter().map(step).collect(),
                streams,
                mail: list(14).iter().map(mail).collect(),
            });
        }
        state
    }
}
