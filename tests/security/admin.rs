//! The admin listener: who may ask for what, where it listens, and how little a client can take of it.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fireflow_worker::admin::{self, Admin};
use fireflow_worker::config::{self, Settings};
use fireflow_worker::worker::{Status, Worker};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use super::support::worker::program;

const TOKEN: &str = "hush-0123456789abcdef";

fn settings(listen: &str, token_file: Option<&Path>) -> config::Admin {
    config::Admin {
        listen: listen.parse().unwrap(),
        token_file: token_file.map(Into::into),
        ..config::Admin::default()
    }
}

fn status(worker: &str) -> Arc<Status> {
    let mut settings = Settings::default();
    settings.worker.id = Some(worker.into());
    Worker::new(settings).status()
}

async fn start(settings: &config::Admin) -> Admin {
    admin::start(settings, status("w1")).await.unwrap()
}

async fn connect(admin: &Admin) -> TcpStream {
    TcpStream::connect(("127.0.0.1", admin.address().unwrap().port())).await.unwrap()
}

/// The whole answer to a request, of a connection that is closed after it.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, header: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn code(admin: &Admin, path: &str, header: &str) -> u16 {
    let answer = ask(connect(admin).await, path, header).await;
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn with_a_token_all_but_probes_need_it_and_it_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let admin = start(&settings(listen, Some(&file))).await;
        assert_eq!(code(&admin, "/livez", "").await, 200);
        assert_eq!(code(&admin, "/readyz", "").await, 503, "it is starting");
        for (header, expected) in [
            (String::new(), 401),
            (format!("Authorization: Bearer {TOKEN}\r\n"), 200),
            (format!("authorization: bearer {TOKEN}\r\n"), 200),
            (format!("Authorization: Bearer {}\r\n", &TOKEN[1..]), 401),
            (format!("Authorization: Bearer {TOKEN}x\r\n"), 401),
            (format!("Authorization: Basic {TOKEN}\r\n"), 401),
            ("Authorization: Bearer \r\n".into(), 401),
        ] {
            assert_eq!(code(&admin, "/status", &header).await, expected, "{header}");
            let unknown = code(&admin, "/nothing", &header).await;
            assert!(unknown == 404 || unknown == expected, "{header}: {unknown}");
        }
        assert!(ask(connect(&admin).await, "/status", "").await.contains("www-authenticate: Bearer"));
        admin.stop().await;
    }
    let admin = start(&settings("127.0.0.1:0", Some(&file))).await;
    let (old, new) = (format!("Authorization: Bearer {TOKEN}\r\n"), "Authorization: Bearer next-0123456789\r\n");
    std::fs::write(&file, "next-0123456789").unwrap();
    assert_eq!(code(&admin, "/status", &old).await, 503, "too short: nobody is let in");
    std::fs::write(&file, "next-0123456789ab").unwrap();
    assert_eq!(code(&admin, "/status", &old).await, 401);
    assert_eq!(code(&admin, "/status", new).await, 401);
    assert_eq!(code(&admin, "/status", "Authorization: Bearer next-0123456789ab\r\n").await, 200);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(code(&admin, "/status", "Authorization: Bearer next-0123456789ab\r\n").await, 503);
    assert_eq!(code(&admin, "/livez", "").await, 200);
    admin.stop().await;
}

#[tokio::test]
async fn why_a_worker_is_not_ready_is_for_those_who_may_ask_for_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    // Nobody listens there, so it waits, and says for whom.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = Settings::default();
    config.database.url = format!("postgres://{free}/db");
    let worker = Worker::new(config);
    let (status, shutdown) = (worker.status(), worker.shutdown());
    let running = worker.start();
    let waits = async {
        while !status.unready().unwrap().contains(&free.to_string()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waits).await.unwrap();
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    for (token_file, listen, header, told) in [
        (Some(file.as_path()), "127.0.0.1:0", bearer.as_str(), true),
        (Some(&file), "127.0.0.1:0", "", false),
        (Some(&file), "127.0.0.1:0", "Authorization: Bearer another-0123456789\r\n", false),
        (None, "0.0.0.0:0", "", false),
        (None, "127.0.0.1:0", "", true),
    ] {
        let admin = admin::start(&settings(listen, token_file), status.clone()).await.unwrap();
        let answer = ask(connect(&admin).await, "/readyz", header).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            (body == "starting\n", body.contains(&free.to_string())),
            (!told, told),
            "{listen} {header}: {body}"
        );
        admin.stop().await;
    }
    shutdown.begin(fireflow_worker::worker::Drain::Graceful);
    running.ended().await.unwrap();
}

#[tokio::test]
async fn without_a_token_other_machines_get_probes_and_this_one_gets_all() {
    let here = start(&settings("127.0.0.1:0", None)).await;
    assert_eq!((code(&here, "/livez", "").await, code(&here, "/status", "").await), (200, 200));
    here.stop().await;
    let all = start(&settings("0.0.0.0:0", None)).await;
    assert_eq!((code(&all, "/livez", "").await, code(&all, "/status", "").await), (200, 403));
    assert!(ask(connect(&all).await, "/status", "").await.contains("admin.token_file"));
    all.stop().await;
    let allowed = config::Admin { allow_unauthenticated: true, ..settings("0.0.0.0:0", None) };
    let open = start(&allowed).await;
    assert_eq!(code(&open, "/status", "").await, 200);
    open.stop().await;
}

#[tokio::test]
async fn a_unix_socket_is_for_its_group_and_replaces_only_what_nobody_listens_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listen = format!("unix:{}", path.display());
    drop(UnixListener::bind(&path).unwrap()); // left by a process that was killed
    let admin = start(&settings(&listen, None)).await;
    assert!(admin.address().is_none());
    let metadata = path.metadata().unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    let answer = ask(UnixStream::connect(&path).await.unwrap(), "/status", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"worker\":\"w1\""), "{answer}");
    let again = admin::start(&settings(&listen, None), status("w2")).await;
    let error = again.err().unwrap().to_string();
    assert!(error.contains("another process listens there") && error.contains("admin.listen"), "{error}");
    assert!(ask(UnixStream::connect(&path).await.unwrap(), "/status", "").await.contains("w1"), "it is left alone");
    admin.stop().await;
    assert!(!path.exists() && folder.path().read_dir().unwrap().next().is_none(), "nothing is left behind");

    std::fs::write(&path, "something").unwrap();
    let taken = admin::start(&settings(&listen, None), status("w1")).await;
    assert!(taken.err().unwrap().to_string().contains("something else than a socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "something");
    let nowhere = format!("unix:{}/none/admin.sock", folder.path().display());
    let error = admin::start(&settings(&nowhere, None), status("w1")).await.err().unwrap();
    assert!(error.to_string().contains("make the folder"), "{error}");
}

#[tokio::test]
async fn a_client_gets_only_so_much() {
    let admin = start(&settings("127.0.0.1:0", None)).await;
    // A head that is too large, and one of too many lines.
    let large = format!("X-Large: {}\r\n", "x".repeat(64 * 1024));
    assert_eq!(code(&admin, "/livez", &large).await, 431);
    let many: String = (0..100).map(|line| format!("X-{line}: x\r\n")).collect();
    assert_eq!(code(&admin, "/livez", &many).await, 431);
    assert_eq!(code(&admin, &format!("/{}", "x".repeat(64 * 1024)), "").await / 100, 4);
    // One that doesn't end: the connection is closed.
    let mut slow = connect(&admin).await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut silent = connect(&admin).await;
    let began = std::time::Instant::now();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), slow.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    tokio::time::timeout(Duration::from_secs(60), silent.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    assert_eq!(code(&admin, "/livez", "").await, 200);
    admin.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_hold_up_no_stop() {
    let admin = start(&settings("127.0.0.1:0", None)).await;
    let mut held = Vec::new();
    for _ in 0..128 {
        held.push(connect(&admin).await);
    }
    // All of them are taken before it is asked.
    for stream in &mut held {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
    }
    let late = connect(&admin).await;
    let answer = tokio::spawn(ask(late, "/livez", ""));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!answer.is_finished(), "there is no seat");
    held.pop();
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 200"));
    let began = std::time::Instant::now();
    admin.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_listener_that_can_not_be_as_it_is_configured_ends_the_start_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "hush").unwrap();
    let token = token.to_str().unwrap();
    for (variables, parts) in [
        (vec![("FIREFLOW__ADMIN__TOKEN_FILE", token)], ["admin.token_file", "at least 16"]),
        (vec![("FIREFLOW__ADMIN__TOKEN_FILE", "/nowhere/token")], ["admin.token_file", "/nowhere/token"]),
        (vec![("FIREFLOW__ADMIN__LISTEN", "everywhere")], ["admin.listen", "unix:/run/fireflow/admin.sock"]),
        (vec![("FIREFLOW__ADMIN__LISTEN", "unix:relative")], ["admin.listen", "absolute path"]),
        (
            vec![("FIREFLOW__ADMIN__TOKEN_FILE", token), ("FIREFLOW__ADMIN__ALLOW_UNAUTHENTICATED", "true")],
            ["admin.allow_unauthenticated", "admin.token_file"],
        ),
    ] {
        for command in ["run", "check"] {
            let mut program = program("postgres://127.0.0.1:1/x");
            let output = program.arg(command).envs(variables.clone()).output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{command} {variables:?}: {said}");
            assert!(parts.iter().all(|part| said.contains(part)) && !said.contains("hush"), "{variables:?}: {said}");
        }
    }
}
