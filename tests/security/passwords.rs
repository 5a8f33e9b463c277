//! Where passwords come from, in which order, and what is told when none fits.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::json;

use super::support::client::SqlClient;
use super::support::flows::echo;
use super::support::worker::{WorkerProcess, program};
use super::support::{TestDatabase, TestServer};

/// A database, a role of its own that may do all and has a password, and a folder.
struct Place {
    database: TestDatabase,
    role: String,
    folder: tempfile::TempDir,
}

impl Place {
    async fn new() -> Place {
        let database = TestDatabase::new().await;
        let role = format!("pw_{}", &database.name()[5..15]);
        let sql = format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'hush-right'");
        database.client().await.batch_execute(&sql).await.unwrap();
        Place { database, role, folder: tempfile::tempdir().unwrap() }
    }

    /// The URL without a password.
    fn url(&self) -> String {
        format!("postgresql://{}@127.0.0.1:{}/{}", self.role, TestServer::get().port(), self.database.name())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A line of a password file for this role.
    fn line(&self, password: &str) -> String {
        format!("127.0.0.1:*:*:{}:{password}\n", self.role)
    }

    /// What `check` says with these variables, and how it ends.
    async fn check(&self, variables: &[(&str, &Path)]) -> (i32, String) {
        let output = program(&self.url()).arg("check").envs(variables.iter().copied()).output().await.unwrap();
        (output.status.code().unwrap(), said(&output))
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const FILE: &str = "FIREFLOW__DATABASE__PASSWORD_FILE";

#[tokio::test]
async fn a_password_is_found_wherever_it_may_be() {
    let place = Place::new().await;
    let right = place.write("right", "hush-right\n");
    let passfile = place.write("passfile", &format!("# mine\nother:*:*:*:hush-other\n{}", place.line("hush-right")));
    let home = place.folder.path().join("home");
    place.write("home/.pgpass", &place.line("hush-right"));
    let credentials = place.folder.path().join("credentials");
    place.write("credentials/database-password", "hush-right");
    for source in [
        (FILE, right.as_path()),
        ("PGPASSWORD", Path::new("hush-right")),
        ("PGPASSFILE", &passfile),
        ("HOME", &home),
        ("CREDENTIALS_DIRECTORY", &credentials),
    ] {
        let (code, said) = place.check(&[source]).await;
        assert_eq!(code, 0, "{source:?}: {said}");
        assert!(!said.contains("hush"), "{said}");
    }
    let output =
        program(&format!("{}?passfile={}", place.url(), passfile.display())).arg("check").output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    // The URL itself may be a credential, with its password or without.
    place.write("credentials/database-url", &place.url());
    let mut command = program("postgres://localhost/unused");
    let config = place.write("worker.toml", "[database]\nurl = \"postgres://localhost/unused\"\n");
    command.env_remove("DATABASE_URL").env("CREDENTIALS_DIRECTORY", &credentials).arg("--config").arg(config);
    let output = command.arg("check").output().await.unwrap();
    assert!(output.status.success(), "{}", said(&output));

    // Flows elsewhere have a password of their own.
    let flows = ("FIREFLOW__DATABASE__FLOWS_URL", place.url());
    let flows = (flows.0, Path::new(&flows.1));
    let (code, text) = place.check(&[(FILE, &right), flows]).await;
    assert!(code == 69 && text.contains("no database.flows_password_file"), "{text}");
    let (code, text) = place.check(&[(FILE, &right), flows, ("FIREFLOW__DATABASE__FLOWS_PASSWORD_FILE", &right)]).await;
    assert_eq!(code, 0, "{text}");
}

#[tokio::test]
async fn what_is_wrong_with_a_password_is_told_by_its_source() {
    let place = Place::new().await;
    let wrong = place.write("wrong", "hush-wrong\n");
    let open = place.write("open", &place.line("hush-right"));
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let empty = place.write("empty", "\n");
    let two = place.write("two", "hush-one\nhush-two\n");
    let source = |path: &Path| format!("(the password is from database.password_file {})", path.display());
    for (variables, code, parts) in [
        (vec![(FILE, wrong.as_path())], 69, vec!["password authentication failed".to_owned(), source(&wrong)]),
        // The file counts, and the URL before it.
        (vec![(FILE, &wrong), ("PGPASSWORD", Path::new("hush-right"))], 69, vec![source(&wrong)]),
        (
            vec![("PGPASSWORD", Path::new("hush-guess"))],
            69,
            vec!["(the password is from PGPASSWORD)".into(), "check user and password".into()],
        ),
        (
            vec![("PGPASSFILE", &open)],
            69,
            vec!["wants a password, and there is none".into(), "others may use it (mode 0644); chmod 0600".into()],
        ),
        (vec![], 69, vec!["no password in the URL, no database.password_file, no PGPASSWORD, no password file".into()]),
        (vec![(FILE, &empty)], 78, vec!["database.password_file".into(), "it is empty".into()]),
        (vec![(FILE, &two)], 78, vec!["database.password_file".into(), "more than one line".into()]),
        (vec![(FILE, Path::new("/nowhere/password"))], 78, vec!["/nowhere/password".into(), "No such file".into()]),
    ] {
        let (ended, said) = place.check(&variables).await;
        assert_eq!(ended, code, "{variables:?}: {said}");
        for part in &parts {
            assert!(said.contains(part), "{variables:?}: {said}");
        }
        assert!(!said.contains("hush"), "{said}");
    }
    let with = place.url().replace('@', ":hush-right@");
    let output = program(&with).arg("check").env(FILE, &wrong).output().await.unwrap();
    assert!(output.status.success(), "the URL's own password counts: {}", said(&output));
    // On the command line it is for all to see.
    let output = program(&place.url()).args(["check", "--database-url", &with]).output().await.unwrap();
    let text = said(&output);
    assert!(output.status.success() && text.contains("password in --database-url can be seen"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}

#[tokio::test]
async fn a_password_that_is_replaced_is_used_from_the_next_connection_on() {
    let place = Place::new().await;
    let client = SqlClient::open(&place.database).await;
    client.store(&echo("echo")).await;
    let file = place.write("password", "hush-right\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let worker = WorkerProcess::start(&place.url(), "w1", &[("database.password_file", file.to_str().unwrap())]).await;
    worker.says("every user of this machine may read this file").await;
    let sql = place.database.client().await;
    sql.batch_execute(&format!("ALTER ROLE {} PASSWORD 'hush-next'", place.role)).await.unwrap();
    place.write("password", "hush-next\n");
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
    let gone = sql.query(cut, &[&place.role]).await.unwrap().len();
    assert!(gone > 1, "{gone} sessions");
    client.enqueue("EX1", "echo", json!({"text": "after"})).await;
    client.until("EX1", "SUCCESS").await;
    let log = worker.log();
    assert!(!log.contains("hush"), "{log}");
    assert!(worker.stop().await.success());
}
