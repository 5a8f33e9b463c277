//! A real PgBouncer before the test's server, on a socket in a folder of its own; ends when it is dropped.
//!
//! Where it isn't installed, tests say so and pass; with `CI=true` they fail instead.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::{TestDatabase, TestServer};

/// The pooler's process.
pub struct PgBouncer {
    process: Child,
    folder: TempDir,
    user: String,
    password: String,
}

impl PgBouncer {
    /// Start one that has so many connections to the server. `None` where there is no PgBouncer.
    pub async fn start(database: &TestDatabase, mode: &str, connections: usize, more: &str) -> Option<PgBouncer> {
        let Some(program) = installed() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "PgBouncer is needed on a build server");
            eprintln!("skipped: PgBouncer isn't installed");
            return None;
        };
        let server = url::Url::parse(&database.url()).unwrap();
        let (user, password) = (server.username().to_owned(), server.password().unwrap().to_owned());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={port}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
             unix_socket_dir = {path}\nauth_type = trust\nauth_file = {path}/users.txt\nlogfile = {path}/log\n\
             pool_mode = {mode}\ndefault_pool_size = {connections}\nmax_client_conn = 200\n{more}\n",
            port = TestServer::get().port(),
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), settings).unwrap();
        std::fs::write(folder.path().join("users.txt"), format!("\"{user}\" \"{password}\"\n")).unwrap();
        // Like the server, it refuses to run as root: it runs as the server's account.
        let account = TestServer::get().folder().join("cluster").metadata().unwrap();
        let mut command = Command::new(program);
        command.arg(folder.path().join("pgbouncer.ini")).current_dir("/").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            for file in ["", "pgbouncer.ini", "users.txt"] {
                chown(folder.path().join(file), Some(account.uid()), Some(account.gid())).unwrap();
            }
            command.uid(account.uid()).gid(account.gid());
        }
        let process = command.spawn().unwrap();
        let pooler = PgBouncer { process, folder, user, password };
        pooler.ready().await;
        Some(pooler)
    }

    /// The database's URL through it.
    pub fn url(&self, database: &TestDatabase) -> String {
        let folder: String =
            url::form_urlencoded::byte_serialize(self.folder.path().as_os_str().as_encoded_bytes()).collect();
        format!("postgresql://{}:{}@{folder}:6432/{}", self.user, self.password, database.name())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn ready(&self) {
        let socket = self.folder.path().join(".s.PGSQL.6432");
        let start = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "PgBouncer doesn't start: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill(); // by its process id
        let _ = self.process.wait();
    }
}

/// A plain connection through a pooler; its session may change with each transaction.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection); // ends with its client
    client
}

/// Whether it keeps track of prepared statements, which is told by this setting. From 1.21 on.
pub fn knows_prepared_statements() -> bool {
    let Some(program) = installed() else { return false };
    let said = Command::new(program).arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.split_whitespace().nth(1).unwrap_or_default(); // "PgBouncer 1.18.0"
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (1, 21)
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
}
