//! The database under attack: a private server, a role for the workers, and an audit that the database keeps by itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fireflow_worker::config;
use fireflow_worker::postgres::embedded::{Data, Options, Server, locate};
use fireflow_worker::worker::Database as Schemas;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

/// An outage of the database that the harness makes ends long before.
const PATIENCE: Duration = Duration::from_secs(120);
/// The role of the workers, which has no special rights: a superuser knows no connection limit.
pub const ROLE: &str = "chaos_worker";
const PASSWORD: &str = "chaos";
const NAME: &str = "chaos";

/// Each change of a workflow's owner or status, and the record of its flow; whatever else happens to a recorded step.
/// In the transaction that does it, so that nothing is missing and nothing is too much.
const AUDIT: &str = "
CREATE TABLE chaos_audit (
    number    bigserial PRIMARY KEY,
    at        bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    workflow  text NOT NULL,
    what      text NOT NULL,
    before    text,
    executor  text,
    token     text
);
CREATE FUNCTION chaos_status() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_audit (workflow, what, before, executor, token)
    VALUES (NEW.workflow_uuid, NEW.status, OLD.status, NEW.executor_id, NEW.owner_xid);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_status AFTER UPDATE ON dbos.workflow_status FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.owner_xid IS DISTINCT FROM NEW.owner_xid)
    EXECUTE FUNCTION chaos_status();
CREATE FUNCTION chaos_recorded() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_audit (workflow, what) VALUES (NEW.workflow_uuid, 'flow recorded');
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_recorded AFTER INSERT ON dbos.operation_outputs FOR EACH ROW
    WHEN (NEW.function_name = 'executeFlowAtomic') EXECUTE FUNCTION chaos_recorded();
CREATE FUNCTION chaos_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_audit (workflow, what, before) VALUES (OLD.workflow_uuid, 'step changed', OLD.function_name);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_step_changed AFTER UPDATE ON dbos.operation_outputs FOR EACH ROW
    WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION chaos_step();
CREATE TRIGGER chaos_step_deleted AFTER DELETE ON dbos.operation_outputs FOR EACH ROW EXECUTE FUNCTION chaos_step()";

/// How a server is stopped.
#[derive(Clone, Copy, Debug)]
pub enum Shutdown {
    /// Sessions are ended, and a checkpoint is written.
    Fast,
    /// As in a crash: recovery at the next start.
    Immediate,
}

/// The server, and the way to it.
pub struct Database {
    folder: std::path::PathBuf,
    server: Mutex<Option<Server>>,
    port: u16,
    url: String,
}

impl Database {
    /// A new one in this folder, with the schemas of a worker and the audit.
    pub async fn create(folder: &Path) -> Database {
        // The server's account reaches it also when this runs as root.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let folder = folder.join("database");
        let server = start(&folder, None).await;
        let (port, admin_url) = (server.port(), server.url("postgres"));
        let url = server.url(NAME);
        let admin = connect(&admin_url).await.unwrap();
        // Processes die here, the machine doesn't: what was handed to the system stays, and a crash loses nothing
        // committed. `synchronous_commit` stays as it is.
        for sql in [
            "ALTER SYSTEM SET fsync = off",
            "ALTER SYSTEM SET full_page_writes = off",
            "SELECT pg_reload_conf()",
            &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"),
            &format!("CREATE DATABASE {NAME} OWNER {ROLE}"),
        ] {
            admin.batch_execute(sql).await.unwrap();
        }
        let database = Database { folder, server: Mutex::new(Some(server)), port, url };
        let mut settings = config::Settings::default();
        settings.database.url = database.worker_url("chaos", port);
        Schemas::connect(&settings).await.unwrap().ensure_schemas().await.unwrap();
        let client = connect(&database.worker_url("chaos", port)).await.unwrap();
        client.batch_execute(AUDIT).await.unwrap();
        database
    }

    /// Where the server is.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where a worker connects, whose way there begins at this port. Its sessions have its name.
    pub fn worker_url(&self, worker: &str, port: u16) -> String {
        format!("postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{port}/{NAME}?sslmode=disable&application_name={worker}")
    }

    /// Where the harness and its clients connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stop, wait, and start again.
    pub async fn restart(&self, how: Shutdown, pause: Duration) {
        let mut server = self.server.lock().await;
        if let Some(server) = server.take() {
            let pid = server.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
            if let (Shutdown::Immediate, Some(pid)) = (how, pid) {
                kill_process(pid, Signal::QUIT).unwrap(); // it is our child, and not reaped yet
            }
            server.stop().await;
        }
        tokio::time::sleep(pause).await;
        *server = Some(start(&self.folder, Some(self.port)).await);
    }

    /// Stop it for good.
    pub async fn stop(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.stop().await;
        }
    }
}

async fn start(folder: &Path, port: Option<u16>) -> Server {
    let programs = locate(None).expect("the tests need PostgreSQL's server programs");
    Server::start(Options { programs, data: Data::Kept(folder.to_owned()), port }).await.expect("PostgreSQL starts")
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection); // ends with its client
    Ok(client)
}

/// A connection of the harness or of one of its clients. It comes back when it is lost, and asks again until it is answered:
/// so all that it does may be done twice.
#[derive(Clone)]
pub struct Link {
    url: Arc<str>,
    client: Arc<Mutex<Option<Arc<Client>>>>,
}

impl Link {
    /// Connects when it is first used.
    pub fn to(url: &str) -> Link {
        Link { url: url.into(), client: Arc::default() }
    }

    /// The rows of a statement.
    ///
    /// # Panics
    /// When the database refuses it, or is away for longer than any fault.
    pub async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        let until = Instant::now() + PATIENCE;
        loop {
            let error = match self.client().await {
                Ok(client) => match client.query(sql, parameters).await {
                    Ok(rows) => return rows,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
            let passes = ["", "08", "53", "57", "40", "25"].contains(&code.get(..2).unwrap_or_default());
            assert!(passes && Instant::now() < until, "the harness's own statement failed: {error:?}: {sql}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A single number.
    pub async fn number(&self, sql: &str) -> i64 {
        self.query(sql, &[]).await[0].get(0)
    }

    /// The connection as it is now, for what must not be repeated.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn client(&self) -> Result<Arc<Client>, tokio_postgres::Error> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = Arc::new(connect(&self.url).await?);
        *held = Some(client.clone());
        Ok(client)
    }
}
