//! Servers of one test alone, and what all these tests look at.

use std::os::unix::fs::PermissionsExt as _;

use fireflow_worker::postgres::embedded::{Data, Options, Server, locate};

use super::support::{
    client::SqlClient,
    flows::{FlowBuilder, echo},
    ledger::Ledger,
    worker::WorkerProcess,
};

/// A server of one test alone, that can be stopped and started again on the same port with the same data.
pub struct PrivateServer {
    folder: tempfile::TempDir,
    pub port: u16,
    pub url: String,
    pub server: Option<Server>,
}

impl PrivateServer {
    pub async fn new() -> PrivateServer {
        let folder = tempfile::tempdir().unwrap();
        // The server's account can reach it also when the tests run as root.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut private = PrivateServer { folder, port: 0, url: String::new(), server: None };
        private.start().await;
        private
    }

    pub async fn start(&mut self) {
        let data = Data::Kept(self.folder.path().join("data"));
        let port = Some(self.port).filter(|port| *port != 0);
        let server = Server::start(Options { programs: locate(None).unwrap(), data, port }).await.unwrap();
        self.port = server.port();
        self.url = server.url("postgres");
        self.server = Some(server);
    }

    pub async fn stop(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    /// Stop it for good.
    pub async fn stop_now(mut self) {
        self.stop().await;
    }
}

/// The flows `echo` and `long`, which is held in its middle.
pub async fn prepare(url: &str) -> (SqlClient, Ledger) {
    let client = SqlClient::open_at(url).await;
    let ledger = Ledger::open_at(url).await;
    client.store(&FlowBuilder::new("long").get("hold", ledger.base()).build()).await;
    client.store(&echo("echo")).await;
    (client, ledger)
}

/// Warnings and errors: an outage is told, not repeated.
pub fn complaints(worker: &WorkerProcess) -> Vec<String> {
    let log = worker.log();
    log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).map(str::to_owned).collect()
}

pub const STEPS: [&str; 4] = ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic", "updateToCompleted"];

pub async fn names(client: &SqlClient, id: &str) -> Vec<String> {
    client.steps(id).await.into_iter().map(|step| step.name).collect()
}
