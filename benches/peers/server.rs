//! The one server that all are measured on: durable, with PostgreSQL's defaults, and a database for each contender.

use std::process::Command;

use fireflow_worker::postgres::embedded::{Data, Options, Server, locate};
use tokio_postgres::{Client, NoTls};

use super::{contender::Contender, process, rows::Rows};

pub struct Bench {
    server: Server,
    pub programs: fireflow_worker::postgres::embedded::Programs,
    _folder: tempfile::TempDir,
}

/// A contender on its own database.
pub struct Stage {
    pub contender: Contender,
    pub url: String,
    pub sql: Client,
    pub rows: Rows,
    /// The server's main process, whose family's time is PostgreSQL's.
    pub server: u32,
}

impl Bench {
    pub async fn start() -> Bench {
        let programs = locate(None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let data = Data::Kept(folder.path().join("data"));
        let options = Options { programs: programs.clone(), data, port: None };
        let server = Server::start(options.clone()).await.unwrap();
        let admin = connect(&server.url("postgres")).await;
        for setting in [
            "shared_preload_libraries = 'pg_stat_statements'",
            "track_functions = none",
            "autovacuum_naptime = '10s'",
            "max_connections = 500", // for fifty workers
        ] {
            admin.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
        }
        drop(server);
        let server = Server::start(options).await.unwrap();
        Bench { server, programs, _folder: folder }
    }

    pub async fn database(&self, name: &str) -> (String, Client) {
        let admin = connect(&self.server.url("postgres")).await;
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = self.server.url(name);
        let sql = connect(&url).await;
        sql.batch_execute("CREATE EXTENSION pg_stat_statements SCHEMA public").await.unwrap();
        (url, sql)
    }

    /// Its database with the patterns of its rows; `None` where the contender can't be had.
    pub async fn stage(&self, contender: Contender) -> Option<Stage> {
        let (url, sql) = self.database(contender.name()).await;
        contender.prepare(&url, &sql).await?;
        let rows = Rows::like_patterns(&sql).await;
        Some(Stage { contender, url, sql, rows, server: self.server.pid().unwrap() })
    }

    /// A program of PostgreSQL's, on a database by its socket.
    pub fn program(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.programs.program(name));
        command.arg(self.server.url(database));
        command
    }

    pub fn server(&self) -> u32 {
        self.server.pid().unwrap()
    }
}

impl Stage {
    pub async fn history(&mut self, count: usize) {
        self.rows.finished(&self.sql, count).await;
        self.settle().await;
    }

    /// Vacuumed, analysed, and nothing left to write: all begin alike.
    pub async fn settle(&self) {
        self.sql.batch_execute("VACUUM ANALYZE").await.unwrap();
        self.sql.batch_execute("CHECKPOINT").await.unwrap();
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Seconds of CPU that the server and its children have taken.
    pub fn server_cpu(&self) -> f64 {
        process::family_cpu(self.server)
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection); // ends with its client
    client
}
