//! What most tests of the worker stand on: a database with a queue and flows, a client, and a ledger.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use serde_json::Value as Json;

use super::{TestDatabase, client::SqlClient, ledger::Ledger, worker::WorkerProcess};

/// A database with a queue and flows, a client on it, and the ledger that the flows report to. Test files add what they
/// need in an `impl` of their own.
pub struct Bench {
    pub database: TestDatabase,
    pub client: SqlClient,
    pub ledger: Ledger,
}

impl Bench {
    /// With these flows; they are told where the ledger is.
    pub async fn with(flows: impl FnOnce(&str) -> Vec<Json>) -> Bench {
        let database = TestDatabase::new().await;
        let client = SqlClient::open(&database).await;
        let ledger = Ledger::open(&database).await;
        for flow in flows(ledger.base()) {
            client.store(&flow).await;
        }
        Bench { database, client, ledger }
    }

    /// A worker that serves the queue.
    pub async fn worker(&self, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        WorkerProcess::start(&self.database.url(), id, settings).await
    }
}
