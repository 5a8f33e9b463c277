//! The program as process 1: to it the kernel delivers only signals that it handles, and it inherits orphans.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::process::Command;

use super::container::{Container, children, possible};
use super::support::worker::PATIENCE;

/// A database that takes connections and says nothing; its URL.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://nobody@{}/nothing?sslmode=disable", listener.local_addr().unwrap());
    (listener, url)
}

/// Nothing of what the test does would end within that time by itself.
const LONG: &str = "10m";

#[tokio::test]
async fn a_signal_ends_a_command_that_doesn_t_handle_it() {
    if !possible() {
        return;
    }
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (database, url) = silent().await;
        let environment = [("DATABASE_URL", url.as_str()), ("FIREFLOW__DATABASE__CONNECT_TIMEOUT", LONG)];
        let mut container = Container::start(&["migrate"], &environment);
        let _connection = database.accept().await.unwrap();
        container.signal(signal);
        assert_eq!(container.ended().await, code, "{}", container.log());
    }
}

#[tokio::test]
async fn a_worker_that_waits_for_its_database_ends_when_it_is_told_to() {
    if !possible() {
        return;
    }
    let (database, url) = silent().await;
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("FIREFLOW__DATABASE__CONNECT_TIMEOUT", LONG),
        ("FIREFLOW__ADMIN__ENABLED", "false"),
    ];
    let mut container = Container::start(&["run"], &environment);
    let _connection = database.accept().await.unwrap();
    container.signal(Signal::TERM);
    assert_eq!(container.ended().await, 0, "{}", container.log());
    assert!(container.log().contains("SIGTERM"), "{}", container.log());
}

#[tokio::test]
async fn orphans_leave_nothing_behind() {
    if !possible() {
        return;
    }
    let (database, url) = silent().await;
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("FIREFLOW__DATABASE__CONNECT_TIMEOUT", LONG),
        ("FIREFLOW__ADMIN__ENABLED", "false"),
    ];
    let mut container = Container::start(&["run"], &environment);
    let _connection = database.accept().await.unwrap();
    // A shell among the container's processes starts something and goes. What it started lives until its input ends.
    let mut shell = Command::new("nsenter");
    shell.args(["--pid", "--target", &container.first().to_string(), "sh", "-c", "exec 3<&0; cat <&3 >&2 &"]);
    let mut shell = shell.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let input = shell.stdin.take();
    shell.wait().await.unwrap();
    let becomes = async |count: usize| {
        let reached = async {
            while children(container.first()).len() != count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE / 6, reached).await;
        assert!(reached.is_ok(), "not {count} children: {:?}", children(container.first()));
    };
    becomes(1).await;
    drop(input);
    becomes(0).await;
    container.signal(Signal::TERM);
    assert_eq!(container.ended().await, 0, "{}", container.log());
}
