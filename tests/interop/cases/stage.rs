//! What a scenario needs: a database with the example flows, the real clients on it, and a worker.

use std::{
    path::Path,
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::Mutex};

use crate::{
    interop::{
        client::{Client, ClientError},
        setup::Lang,
    },
    support::{
        TestDatabase,
        client::SqlClient,
        worker::{PATIENCE, WorkerProcess, program},
    },
};

/// Executor id of the scenarios' worker.
pub const WORKER: &str = "interop-worker";
/// The queue that it serves unless told otherwise.
pub const QUEUE: &str = "fireflow-executions";

/// A prepared database and what is connected to it.
pub struct Stage {
    /// The real clients, one a language.
    pub clients: Vec<Client>,
    /// The test's own looks at the tables.
    pub sql: tokio_postgres::Client,
    /// Whether inputs and results have tables of their own, or are in `workflow_status` as in the generation before.
    pub has_payload_tables: bool,
    // Last: it is dropped when nobody is connected any more.
    /// The database.
    pub database: TestDatabase,
}

impl Stage {
    /// A fresh database with the example flows, and both clients. `None`, with a word on stderr, where an SDK is missing.
    pub async fn set() -> Option<Stage> {
        let database = TestDatabase::new().await;
        Stage::on(database).await
    }

    /// As [`Stage::set`], on a database that others may have used before.
    pub async fn on(database: TestDatabase) -> Option<Stage> {
        command(&database.url(), &["migrate"]).await.unwrap_or_else(|error| panic!("{error}"));
        Stage::as_it_is(database).await
    }

    /// As [`Stage::on`], and whatever level the system schema is at, it stays there.
    pub async fn as_it_is(database: TestDatabase) -> Option<Stage> {
        let url = database.url();
        SqlClient::open(&database).await; // makes the application's tables
        let (prepared, typescript, python) =
            tokio::join!(store_examples(&url), Client::typescript(&url), Client::python(&url));
        prepared.unwrap_or_else(|error| panic!("the example flows can't be stored: {error}"));
        let sql = database.client().await;
        let tables = "SELECT to_regclass('dbos.workflow_output') IS NOT NULL";
        let has_payload_tables = sql.query_one(tables, &[]).await.expect("the query runs").get(0);
        Some(Stage { clients: vec![typescript?, python?], sql, has_payload_tables, database })
    }

    /// Start more clients; false, with a word on stderr, where an SDK is missing.
    pub async fn join(&mut self, langs: &[Lang]) -> bool {
        let url = self.database.url();
        let clients = langs.iter().map(|lang| Client::start(*lang, Some(&url), None));
        let clients = futures_util::future::join_all(clients).await;
        let before = self.clients.len();
        self.clients.extend(clients.into_iter().flatten());
        self.clients.len() == before + langs.len()
    }

    /// A worker on this database. `settings` are dotted keys and values.
    pub async fn worker(&self, settings: &[(&str, &str)]) -> WorkerProcess {
        self.worker_named(WORKER, settings).await
    }

    /// A worker with another id.
    pub async fn worker_named(&self, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        WorkerProcess::start(&self.database.url(), id, settings).await
    }

    /// The client of one language.
    pub fn client(&self, lang: Lang) -> &Client {
        self.clients.iter().find(|client| client.lang() == lang).expect("there is one a language")
    }

    /// One row of one column, once there is one for which `fits` holds.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn until<T>(&self, query: &str, id: &str, fits: impl Fn(&T) -> bool) -> T
    where
        T: for<'a> tokio_postgres::types::FromSql<'a> + std::fmt::Debug,
    {
        let mut seen = None;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let row = self.sql.query_opt(query, &[&id]).await.expect("the query runs");
                match row.map(|row| row.get::<_, Option<T>>(0)) {
                    Some(Some(value)) if fits(&value) => return value,
                    other => seen = other,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        match found.await {
            Ok(value) => value,
            Err(_) => panic!("{id}: waited in vain for {query}; last: {seen:?}"),
        }
    }

    /// A workflow's status now.
    pub async fn status(&self, id: &str) -> String {
        let query = "SELECT status FROM dbos.workflow_status WHERE workflow_uuid = $1";
        self.sql.query_one(query, &[&id]).await.expect("there is such a workflow").get(0)
    }

    /// Wait until the status of an execution's row is this one; gives the row's error text.
    pub async fn execution_has(&self, id: &str, status: &str) -> Option<String> {
        let query = "SELECT status FROM fireflow_executions WHERE id = $1";
        self.until::<String>(query, id, |found| found == status).await;
        let query = "SELECT error_message FROM fireflow_executions WHERE id = $1";
        self.sql.query_one(query, &[&id]).await.expect("it is there").get(0)
    }

    /// Wait until the engine runs a node of this execution.
    pub async fn engine_runs(&self, id: &str) {
        let query = "SELECT count(*) FROM dbos.streams WHERE workflow_uuid = $1 AND value LIKE '%\"node:started\"%'";
        self.until::<i64>(query, id, |started| *started > 0).await;
    }
}

/// A stage with a worker at its defaults, for scenarios that need nothing else and keep to ids of their own: those that run
/// at the same time share one, which ends with the last of them. (It must not be a static itself: those are never dropped,
/// and the worker would outlive the tests.)
pub fn shared(scenario: impl AsyncFnOnce(&Stage)) {
    /// On which the stage lives, since it outlives the test that made it.
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
    static CURRENT: Mutex<Weak<(WorkerProcess, Stage)>> = Mutex::const_new(Weak::new());
    RUNTIME.block_on(async {
        let mut current = CURRENT.lock().await;
        let served = match current.upgrade() {
            Some(served) => served,
            None => {
                let Some(stage) = Stage::set().await else { return };
                let served = Arc::new((stage.worker(&[]).await, stage));
                *current = Arc::downgrade(&served);
                served
            }
        };
        drop(current);
        scenario(&served.1).await;
    });
}

/// Store the examples, with the program's own command.
async fn store_examples(url: &str) -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flows");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files: Vec<String> = entries.flatten().map(|entry| entry.path().display().to_string()).collect();
    let arguments: Vec<&str> = ["flow", "push"].into_iter().chain(files.iter().map(String::as_str)).collect();
    command(url, &arguments).await
}

/// Run a command of the program on a database.
pub async fn command(url: &str, arguments: &[&str]) -> Result<(), String> {
    let output = program(url).args(arguments).output().await.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// The fields of an enqueue of the flow workflow.
pub fn execution(id: &str, flow: &str, inputs: Value) -> Value {
    task(id, json!([{"flowId": flow, "inputs": inputs}]))
}

/// The fields of an enqueue of the flow workflow with any arguments.
pub fn task(id: &str, args: Value) -> Value {
    json!({"workflow": "executeFireFlow", "class": "ExecutionWorkflows", "queue": QUEUE, "id": id, "args": args})
}

/// The fields with some more, which replace those of the same name.
pub fn with(mut fields: Value, more: Value) -> Value {
    for (key, value) in more.as_object().expect("fields are an object") {
        fields[key] = value.clone();
    }
    fields
}

/// The fields of an enqueue that takes long enough for anything: three nodes sleep, one of them for an hour.
pub fn long(id: &str) -> Value {
    execution(id, "parallel", json!({"duration": 3_600_000}))
}

/// The outputs in a result that a client got.
///
/// # Panics
/// When it got an error.
pub fn outputs(result: Result<Value, ClientError>) -> Value {
    result.unwrap_or_else(|error| panic!("{error:?}"))["outputs"].take()
}

/// The names of steps as a client lists them.
pub fn names(steps: &[Value]) -> Vec<&str> {
    steps.iter().filter_map(|step| step["name"].as_str()).collect()
}
