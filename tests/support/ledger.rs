//! What flows did, told by themselves: a server to which their HTTP requests report that they enter and leave, and
//! which adds each report to a table of the test's database. A report can be held until the test lets it go.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::{collections::HashSet, sync::Arc};

use axum::{Router, extract::Path, extract::State, http::StatusCode, routing::get};
use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{TestDatabase, worker::PATIENCE};

/// One connection keeps the order: a report that came after another's answer has the greater number.
const TABLE: &str = "
CREATE TABLE ledger (
    number    bigserial PRIMARY KEY,
    execution text NOT NULL,
    change    int NOT NULL CHECK (change IN (1, -1)),
    worker    text,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION no_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'append only'; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger EXECUTE FUNCTION no_change()";

/// The worker is the one that owns the execution at that moment.
const REPORT: &str = "
INSERT INTO ledger (execution, change, worker)
SELECT $1, $2, (SELECT executor_id FROM dbos.workflow_status WHERE workflow_uuid = $1)";

/// The running sum of entries and exits is how many are inside.
const MOST: &str = "
SELECT COALESCE(max(inside), 0) FROM (
    SELECT sum(change) OVER (PARTITION BY CASE WHEN $1 THEN worker END ORDER BY number) AS inside FROM ledger) s";

/// The server, and its table. Stops when dropped.
pub struct Ledger {
    base: String,
    state: Arc<Reports>,
    _stop: DropGuard,
}

struct Reports {
    client: Client,
    /// How many reports there are.
    written: watch::Sender<i64>,
    /// Executions whose held reports may go; `None` for all.
    released: watch::Sender<HashSet<Option<String>>>,
}

impl Ledger {
    /// Open a ledger in a database that has the schema of the queue.
    pub async fn open(database: &TestDatabase) -> Ledger {
        let client = database.client().await;
        client.batch_execute(TABLE).await.unwrap();
        let state =
            Arc::new(Reports { client, written: watch::Sender::new(0), released: watch::Sender::new(HashSet::new()) });
        let router = Router::new()
            .route("/enter/{execution}", get(enter))
            .route("/leave/{execution}", get(leave))
            .route("/hold/{execution}", get(hold))
            .with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                () = stopped => {}
            }
        });
        Ledger { base, state, _stop: stop.drop_guard() }
    }

    /// Where flows report: `/enter/ID` and `/leave/ID`, or `/hold/ID`, which enters, waits for
    /// [`release`](Ledger::release), and leaves.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Answer the held reports of this execution, now and from now on.
    pub fn release(&self, execution: &str) {
        self.state.released.send_modify(|released| _ = released.insert(Some(execution.into())));
    }

    /// Answer all held reports.
    pub fn release_all(&self) {
        self.state.released.send_modify(|released| _ = released.insert(None));
    }

    /// Wait until this execution has entered so many times.
    pub async fn entered(&self, execution: &str, times: i64) {
        let sql = "SELECT count(*) FROM ledger WHERE change = 1 AND execution = $1";
        self.until(&format!("{execution} enters for the {times}. time"), sql, &[&execution], times).await;
    }

    /// Wait until so many are inside.
    pub async fn inside(&self, count: i64) {
        let sql = "SELECT COALESCE(sum(change), 0) FROM ledger";
        self.until(&format!("{count} are inside"), sql, &[], count).await;
    }

    /// How often an execution entered.
    pub async fn entries(&self, execution: &str) -> i64 {
        self.number("SELECT count(*) FROM ledger WHERE change = 1 AND execution = $1", &[&execution]).await
    }

    /// Executions and how often each entered, where that isn't once.
    pub async fn not_once(&self) -> Vec<(String, i64)> {
        let sql = "SELECT execution, sum((change = 1)::int) FROM ledger GROUP BY 1 HAVING sum((change = 1)::int) <> 1";
        let rows = self.state.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// How many different executions entered.
    pub async fn executions(&self) -> i64 {
        self.number("SELECT count(DISTINCT execution) FROM ledger WHERE change = 1", &[]).await
    }

    /// The largest number inside at once.
    pub async fn most(&self) -> i64 {
        self.number(MOST, &[&false]).await
    }

    /// The largest number inside at once in one worker.
    pub async fn most_in_one_worker(&self) -> i64 {
        self.number(MOST, &[&true]).await
    }

    /// The workers that took part, with the number of executions of each.
    pub async fn workers(&self) -> Vec<(String, i64)> {
        let sql = "SELECT COALESCE(worker, ''), count(*) FROM ledger WHERE change = 1 GROUP BY 1 ORDER BY 1";
        let rows = self.state.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The executions in the order in which they entered.
    pub async fn order(&self) -> Vec<String> {
        let sql = "SELECT execution FROM ledger WHERE change = 1 ORDER BY number";
        self.state.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    async fn until(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
        wanted: i64,
    ) {
        let mut written = self.state.written.subscribe();
        let reached = async {
            loop {
                written.mark_unchanged();
                if self.number(sql, parameters).await >= wanted {
                    return;
                }
                written.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("waited in vain until {what}");
        }
    }

    async fn number(&self, sql: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> i64 {
        self.state.client.query_one(sql, parameters).await.unwrap().get(0)
    }
}

impl Reports {
    async fn write(&self, execution: &str, change: i32) -> Result<(), StatusCode> {
        self.client.execute(REPORT, &[&execution, &change]).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        self.written.send_modify(|written| *written += 1);
        Ok(())
    }
}

async fn enter(State(reports): State<Arc<Reports>>, Path(execution): Path<String>) -> Result<&'static str, StatusCode> {
    reports.write(&execution, 1).await?;
    Ok("entered")
}

async fn leave(State(reports): State<Arc<Reports>>, Path(execution): Path<String>) -> Result<&'static str, StatusCode> {
    reports.write(&execution, -1).await?;
    Ok("left")
}

/// A worker that dies, or gives up, closes the connection; then this ends where it waits, and the exit is missing.
async fn hold(State(reports): State<Arc<Reports>>, Path(execution): Path<String>) -> Result<&'static str, StatusCode> {
    reports.write(&execution, 1).await?;
    let me = Some(execution);
    let mut released = reports.released.subscribe();
    let free = released.wait_for(|released| released.contains(&None) || released.contains(&me)).await.is_ok();
    let (true, Some(execution)) = (free, me) else { return Err(StatusCode::SERVICE_UNAVAILABLE) };
    reports.write(&execution, -1).await?;
    Ok("held")
}
