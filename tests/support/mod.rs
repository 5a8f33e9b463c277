//! A real PostgreSQL for the tests: one private server a test process, a database of its own for each test.
//!
//! The server sits in a static, which is never dropped. That is fine: it stops itself when its process ends, however
//! that ends (see the guardian of `postgres::embedded`), and takes its folder along. So a failing, panicking or killed
//! test run leaves nothing behind, and runners that give each test a process of its own work as well.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

pub mod bench;
pub mod client;
pub mod flows;
pub mod ledger;
pub mod node;
pub mod pgbouncer;
pub mod scrape;
pub mod tripwire;
pub mod worker;
pub mod yaml;

use std::sync::OnceLock;

use fireflow_worker::postgres::embedded::{Data, Options, Server, locate};
use fireflow_worker::postgres::{self, DatabaseUrl, Pool, Settings};
use tokio_postgres::{Client, NoTls};

/// The server of this test process.
pub struct TestServer;

impl TestServer {
    /// Started when it is first asked for.
    pub fn get() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| {
            let programs = locate(None).expect("the tests need PostgreSQL's server programs");
            let options = Options { programs, data: Data::Temporary, port: None };
            Server::start_blocking(&options).expect("the test server starts")
        })
    }
}

/// A fresh, empty database; dropped with this value, together with all sessions on it.
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// Create one.
    pub async fn new() -> TestDatabase {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        // The first one starts the server, which blocks.
        let server = tokio::task::spawn_blocking(TestServer::get).await.unwrap();
        let (admin, connection) = tokio_postgres::connect(&server.url("postgres"), NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        drop(admin);
        driver.await.unwrap().unwrap();
        TestDatabase { name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, with the password.
    pub fn url(&self) -> String {
        TestServer::get().url(&self.name)
    }

    /// Its URL, parsed.
    pub fn parsed_url(&self) -> DatabaseUrl {
        self.url().parse().unwrap()
    }

    /// The default settings with its URL.
    pub fn settings(&self) -> Settings {
        Settings::new(self.parsed_url())
    }

    /// A pool of the worker's own kind.
    pub async fn pool(&self) -> Pool {
        postgres::connect(&self.settings()).await.unwrap()
    }

    /// A plain connection, for a test's own looks at the tables.
    pub async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection); // ends with its client
        client
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // Best effort, and not on the test's runtime, which may be ending. The server's folder goes in any case.
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let task = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (admin, connection) = tokio_postgres::connect(&TestServer::get().url("postgres"), NoTls)
                    .await
                    .map_err(std::io::Error::other)?;
                tokio::spawn(connection);
                admin.batch_execute(&sql).await.map_err(std::io::Error::other)
            })
        });
        let _ = task.join();
    }
}
