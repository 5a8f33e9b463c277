//! A server as an operator sets it up: with its own configuration, and perhaps a standby.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fireflow_worker::postgres::embedded::locate;
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, NoTls};

use super::support::worker::PATIENCE;

/// One server's data, and the server while it runs. Goes when dropped.
pub struct Cluster {
    folder: tempfile::TempDir,
    pub port: u16,
    server: Option<Child>,
}

impl Cluster {
    /// A fresh one with these lines in its configuration; not started.
    pub fn new(configuration: &str) -> Cluster {
        let cluster = Cluster::place();
        run(program("initdb").args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(cluster.data()));
        let basic = "fsync = off\nshared_buffers = 16MB\nlisten_addresses = '127.0.0.1'\nmax_connections = 60\n";
        std::fs::write(cluster.data().join("extra.conf"), format!("{basic}{configuration}\n")).unwrap();
        let main = cluster.data().join("postgresql.conf");
        let text = std::fs::read_to_string(&main).unwrap();
        std::fs::write(&main, format!("{text}\ninclude 'extra.conf'\n")).unwrap();
        let who = cluster.data().join("pg_hba.conf");
        let text = std::fs::read_to_string(&who).unwrap();
        std::fs::write(&who, format!("{text}\nhost all all all trust\n")).unwrap();
        cluster
    }

    /// A standby of this one, which streams under this name; not started.
    pub fn standby(&self, name: &str) -> Cluster {
        let standby = Cluster::place();
        let from = format!("host=127.0.0.1 port={} user=postgres application_name={name}", self.port);
        run(program("pg_basebackup").args(["-R", "-X", "stream", "-c", "fast", "-d", &from, "-D"]).arg(standby.data()));
        standby
    }

    fn place() -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Cluster { folder, port, server: None }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Start the server in this network namespace.
    pub fn start_within(&mut self, namespace: &str) {
        self.launch(&["ip", "netns", "exec", namespace]);
    }

    /// Start the server; whether it takes connections yet is another matter.
    pub fn start(&mut self) {
        self.launch(&[]);
    }

    fn launch(&mut self, by: &[&str]) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = program_by(by, "postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-k"]).arg(self.folder.path());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap());
    }

    /// End it as a crash does.
    pub fn crash(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let _ = kill_process(Pid::from_raw(server.id().cast_signed()).unwrap(), Signal::QUIT);
        server.wait().unwrap();
    }

    pub fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Its socket needs no network.
    pub fn socket_url(&self) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgresql://postgres@{folder}:{}/postgres?sslmode=disable", self.port)
    }

    /// A session, as soon as it takes one.
    pub async fn client(&self) -> Client {
        self.client_at(&self.url()).await
    }

    /// As [`client`](Cluster::client), by this way.
    pub async fn client_at(&self, url: &str) -> Client {
        let connect = async {
            loop {
                match tokio_postgres::connect(url, NoTls).await {
                    Ok((client, connection)) => {
                        tokio::spawn(connection); // ends with its client
                        return client;
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, connect).await {
            Ok(client) => client,
            Err(_) => {
                panic!("no server:\n{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default())
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.crash();
    }
}

/// A program of PostgreSQL, as an account that it takes, and which doesn't outlive this test.
fn program(name: &str) -> Command {
    program_by(&[], name)
}

fn program_by(by: &[&str], name: &str) -> Command {
    let path = locate(None).unwrap().bin.join(name).display().to_string();
    let mut words: Vec<&str> = by.to_vec();
    if rustix::process::geteuid().is_root() {
        words.extend(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=QUIT"]);
    }
    words.push(&path);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
