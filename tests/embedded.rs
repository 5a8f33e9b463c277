//! The private PostgreSQL server: it starts, keeps its data, and never outlives its owner.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fireflow_worker::postgres::embedded::{Data, Error, Options, Server, locate};
use tokio_postgres::NoTls;

fn options(data: Data) -> Options {
    Options { programs: locate(None).expect("PostgreSQL's server programs are installed"), data, port: None }
}

fn kept(folder: &Path) -> Options {
    options(Data::Kept(folder.to_owned()))
}

/// A folder that the server's account can reach also when the tests run as root.
fn folder() -> tempfile::TempDir {
    folder_with_mode(0o755)
}

fn folder_with_mode(mode: u32) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    folder
}

async fn query(url: &str, sql: &str) -> String {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let value = client.query_one(sql, &[]).await.unwrap().get(0);
    drop(client);
    driver.await.unwrap().unwrap();
    value
}

async fn execute(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
}

fn runs(pid: u32) -> bool {
    // A dead process that nobody has collected yet is a zombie, not a server.
    let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap().stdout;
    let state = String::from_utf8_lossy(&state).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_kept_folder_keeps_its_data_and_is_durable() {
    let parent = folder();
    let path = parent.path().join("server");
    let server = Server::start(kept(&path)).await.unwrap();
    execute(&server.url("postgres"), "CREATE TABLE note (text text); INSERT INTO note VALUES ('here')").await;
    assert_eq!(query(&server.url("postgres"), "SHOW fsync").await, "on");
    assert_eq!(query(&server.url("postgres"), "SHOW server_encoding").await, "UTF8");
    assert_eq!(query(&server.socket_url("postgres"), "SELECT text FROM note").await, "here");
    let (pid, wrong) = (server.pid().unwrap(), server.url("postgres").replace("postgres:", "postgres:wrong"));
    assert!(tokio_postgres::connect(&wrong, NoTls).await.is_err(), "a password is asked for");
    server.stop().await;
    assert!(!runs(pid));

    let server = Server::start(kept(&path)).await.unwrap();
    assert_eq!(query(&server.url("postgres"), "SELECT text FROM note").await, "here");
}

#[tokio::test]
async fn secrets_in_the_folder_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parent = folder();
    let server = Server::start(kept(&parent.path().join("server"))).await.unwrap();
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(server.folder().join("password")), 0o600);
    assert_eq!(mode(server.folder().to_owned()), 0o700);
    assert!(!format!("{server:?}").contains(&std::fs::read_to_string(server.folder().join("password")).unwrap()));
}

#[tokio::test]
async fn a_folder_in_use_is_refused_with_the_process_that_holds_it() {
    let parent = folder();
    let path = parent.path().join("server");
    let _server = Server::start(kept(&path)).await.unwrap();
    let error = Server::start(kept(&path)).await.unwrap_err();
    assert!(matches!(&error, Error::InUse { holder, .. } if *holder == std::process::id().to_string()), "{error}");
}

#[tokio::test]
async fn dropping_a_temporary_server_leaves_nothing() {
    let server = Server::start(options(Data::Temporary)).await.unwrap();
    let (pid, path) = (server.pid().unwrap(), server.folder().to_owned());
    assert!(runs(pid) && path.exists());
    drop(server);
    assert!(!runs(pid) && !path.exists());
}

#[tokio::test]
async fn a_long_path_still_gets_a_socket() {
    let parent = folder();
    let path = parent.path().join("a, 'quoted' folder with a long name ".repeat(3));
    let server = Server::start(kept(&path)).await.unwrap();
    assert_eq!(query(&server.socket_url("postgres"), "SELECT 'ok'").await, "ok");
}

#[tokio::test]
async fn folders_that_are_not_ours_or_damaged_are_refused_and_left_alone() {
    let parent = folder();
    let foreign = parent.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("thesis.txt"), "mine").unwrap();
    assert!(matches!(Server::start(kept(&foreign)).await.unwrap_err(), Error::ForeignFolder { .. }));
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);

    let path = parent.path().join("server");
    Server::start(kept(&path)).await.unwrap().stop().await;
    let version = path.join("cluster/PG_VERSION");
    let good = std::fs::read_to_string(&version).unwrap();
    std::fs::write(&version, "9.6\n").unwrap();
    let error = Server::start(kept(&path)).await.unwrap_err();
    assert!(matches!(&error, Error::OtherVersion { found, .. } if found == "9.6"), "{error}");
    std::fs::write(&version, good).unwrap();

    std::fs::remove_file(path.join("cluster/global/pg_control")).unwrap();
    let error = Server::start(kept(&path)).await.unwrap_err();
    assert!(matches!(&error, Error::Start { tail, .. } if tail.contains("pg_control")), "{error}");
    std::fs::remove_file(path.join("password")).unwrap();
    assert!(matches!(Server::start(kept(&path)).await.unwrap_err(), Error::Damaged { .. }));
}

#[tokio::test]
async fn a_port_that_is_taken_gives_an_error_with_the_servers_own_words() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Some(taken.local_addr().unwrap().port());
    let error = Server::start(Options { port, ..options(Data::Temporary) }).await.unwrap_err();
    assert!(matches!(&error, Error::Start { tail, .. } if tail.contains("already in use")), "{error}");
}

/// Not a test of its own: the process that the next one kills. Starts a server in the folder of the variable, writes
/// its number to a file there, and waits for ever.
#[test]
#[ignore = "run by a_killed_owner_takes_its_server_along"]
fn owner() {
    let path = PathBuf::from(std::env::var("OWNER_FOLDER").expect("only run by the test that sets it"));
    let server = Server::start_blocking(&kept(&path)).unwrap();
    std::fs::write(path.with_extension("part"), server.pid().unwrap().to_string()).unwrap();
    std::fs::rename(path.with_extension("part"), path.with_extension("pid")).unwrap();
    std::thread::sleep(Duration::from_secs(300));
}

#[tokio::test]
async fn a_killed_owner_takes_its_server_along() {
    let parent = folder();
    let path = parent.path().join("server");
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "owner"])
        .env("OWNER_FOLDER", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the owner starts its server", || path.with_extension("pid").exists());
    let pid: u32 = std::fs::read_to_string(path.with_extension("pid")).unwrap().parse().unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("the server ends", || !runs(pid));
    Server::start(kept(&path)).await.expect("the folder can be used again");
}

#[tokio::test]
async fn a_leftover_server_is_stopped_before_a_new_one_starts() {
    let parent = folder();
    let path = parent.path().join("server");
    let first = Server::start(kept(&path)).await.unwrap();
    let pid = first.pid().unwrap();
    // As if neither destructor nor guardian had run: the lock's file is replaced, so that its holder looks dead.
    std::fs::remove_file(path.join("lock")).unwrap();
    std::fs::write(path.join("lock"), "1\n").unwrap();
    let second = Server::start(kept(&path)).await.unwrap();
    assert!(!runs(pid));
    assert_eq!(query(&second.url("postgres"), "SELECT 'ok'").await, "ok");
}

#[tokio::test]
async fn as_root_a_folder_that_the_servers_account_can_not_enter_is_named() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root changes its account");
        return;
    }
    let private = folder_with_mode(0o700);
    let error = Server::start(kept(&private.path().join("inner/server"))).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { blocked, .. } if blocked == private.path()), "{error}");
}
