//! No secret is ever told: not by the log at any level and in either form, nor by status, rows, results, errors, or the list of
//! processes.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::client::SqlClient;
use super::support::flows::{FlowBuilder, echo};
use super::support::worker::{WorkerProcess, program};
use super::support::{TestDatabase, TestServer};

const TOKEN: &str = "hush-token-of-the-listener";

/// A worker with secrets of every kind, which meets trouble with each of them.
async fn play(format: &str) {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let role = format!("quiet_{}", &database.name()[5..15]);
    let sql = database.client().await;
    sql.batch_execute(&format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'hush-password'")).await.unwrap();
    std::fs::create_dir(folder.path().join("flows")).unwrap();
    write("flows/FROM_FILE", "hush-secret-of-a-file\n");
    let (password, token) = (write("password", "hush-password\n"), write("token", TOKEN));
    let socket = format!("unix:{}/admin.sock", folder.path().display());
    let secrets = folder.path().join("flows");

    client.store(&echo("echo")).await;
    let ask = [
        ("baseUri", json!("http://127.0.0.1:9")),
        ("path", json!("/secret://FROM_FILE")),
        ("headers", json!("Authorization: Bearer secret://FROM_FILE\nX-None: secret://PGPASSWORD")),
    ];
    client.store(&FlowBuilder::new("asks").node("ask", "HttpRequestNode", &ask).build()).await;
    let url = format!("postgresql://{role}@127.0.0.1:{}/{}", TestServer::get().port(), database.name());
    let settings = [
        ("log.level", "trace,tokio_postgres=trace,rustls=trace,hyper=trace"),
        ("log.format", format),
        ("database.password_file", &password),
        ("admin.enabled", "true"),
        ("admin.listen", &socket),
        ("admin.token_file", &token),
        ("secrets.folder", secrets.to_str().unwrap()),
        ("secrets.environment", "PGPASSWORD, DATABASE*, FIREFLOW*"),
    ];
    let worker = WorkerProcess::start(&url, "w1", &settings).await;
    client.enqueue("EX1", "echo", json!({"text": "hello"})).await;
    client.until("EX1", "SUCCESS").await;
    client.enqueue("EX2", "asks", json!({})).await;
    client.until("EX2", "SUCCESS").await;
    let mut answers = String::new();
    for (path, header) in [
        ("/status", format!("Bearer {TOKEN}")),
        ("/status", "Bearer hush-guess".into()),
        ("/livez", TOKEN.into()),
        ("/metrics", format!("Bearer {TOKEN}")),
    ] {
        let mut stream = tokio::net::UnixStream::connect(folder.path().join("admin.sock")).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {header}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_string(&mut answers).await.unwrap();
    }
    assert!(answers.contains("HTTP/1.1 200") && answers.contains("HTTP/1.1 401"), "{answers}");
    assert!(answers.contains("# TYPE fireflow_"), "no metrics: {answers}");
    // The password is wrong from now on.
    sql.batch_execute(&format!("ALTER ROLE {role} PASSWORD 'hush-other'")).await.unwrap();
    sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", &[&role]).await.unwrap();
    worker.says("password authentication failed").await;
    let pid = worker.pid().as_raw_nonzero();
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(arguments.contains("run"), "{arguments}");

    let log = worker.log();
    assert!(log.contains("DEBUG") && log.contains("EX2"), "the log is at work: {log}");
    for (what, text) in [("the log", &log), ("an answer", &answers), ("the arguments", &arguments)] {
        let line = text.lines().find(|line| line.contains("hush"));
        assert!(line.is_none(), "{what}: {line:?}");
    }
    let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('dbos', 'public')";
    for table in sql.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        let found = format!("SELECT count(*) FROM {table} t WHERE position('hush' in t::text) > 0");
        assert_eq!(sql.query_one(&found, &[]).await.unwrap().get::<_, i64>(0), 0, "{table}");
    }
    worker.kill().await;
}

#[tokio::test]
async fn no_secret_is_in_the_log_in_text_nor_anywhere_else() {
    play("text").await;
}

#[tokio::test]
async fn no_secret_is_in_the_log_in_json_nor_anywhere_else() {
    play("json").await;
}

/// What people paste into reports: the output of commands, with everything wrong that can be.
#[tokio::test]
async fn no_command_shows_the_password_of_its_url() {
    let good = TestServer::get().url("nowhere");
    let port = TestServer::get().port();
    for (url, environment) in [
        (good.clone(), None),
        (format!("postgresql://u:hush-1@127.0.0.1:{port}/postgres"), None),
        (format!("postgresql://u:hush-1@127.0.0.1:{port}/postgres?sslmode=hush"), None),
        (format!("postgresql://u:hush-1@127.0.0.1:{port}/postgres?sslmode=verify-ca"), None),
        (format!("postgresql://u:hush-1@127.0.0.1:{port}/postgres?unknown=hush-2"), None),
        (format!("postgresql://u:hush-1@127.0.0.1:port{port}/postgres"), None),
        (format!("host=127.0.0.1 port={port} user=u password='hush-1"), None),
        ("postgresql://u:hush-1@127.0.0.1:1/x".into(), None),
        (format!("postgresql://u@127.0.0.1:{port}/postgres"), Some(("PGPASSWORD", "hush-1"))),
    ] {
        for arguments in [&["check"][..], &["run"], &["migrate", "--dry-run"], &["enqueue", "x"], &["grants", "x"]] {
            let mut command = program(&url);
            command.args(arguments).envs(environment).env("FIREFLOW__LOG__LEVEL", "trace");
            command.env("FIREFLOW__DATABASE__STARTUP_WAIT", "0s").env("FIREFLOW__ADMIN__ENABLED", "false");
            let output = command.output().await.unwrap();
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(arguments[0] == "grants" || !output.status.success(), "{arguments:?} {url}: {said}");
            let password = good.split([':', '@']).nth(2).unwrap();
            assert!(!said.contains("hush-") && !said.contains(password), "{arguments:?} {url}: {said}");
        }
    }
}
