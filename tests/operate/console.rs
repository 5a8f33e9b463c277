//! Running the program's commands, as scripts do.

use std::process::Stdio;

use serde_json::Value as Json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::support::worker::{PATIENCE, program};

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// What it wrote to stdout.
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Run a command.
pub async fn run(url: &str, arguments: &[&str]) -> Ended {
    run_with(url, arguments, "").await
}

/// Run a command with this on its stdin.
pub async fn run_with(url: &str, arguments: &[&str], stdin: &str) -> Ended {
    let mut command = program(url);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(stdin.as_bytes()).await; // it need not read
    drop(input);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// The command has to succeed.
pub async fn done(url: &str, arguments: &[&str]) -> Ended {
    let ended = run(url, arguments).await;
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    ended
}

/// The command has to be refused, with this text.
pub async fn refused(url: &str, arguments: &[&str], text: &str) -> Ended {
    let ended = run(url, arguments).await;
    assert_eq!(ended.code, 1, "{arguments:?}: {ended:?}");
    assert!(ended.err.contains(text), "{arguments:?}: {ended:?}");
    ended
}

/// The command is used in a wrong way, as this text says.
pub async fn misused(url: &str, arguments: &[&str], text: &str) -> Ended {
    let ended = run(url, arguments).await;
    assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
    assert!(ended.err.contains(text), "{arguments:?}: {ended:?}");
    ended
}

/// A command that goes on, whose lines are read one by one.
pub struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    pub fn start(url: &str, arguments: &[&str]) -> Follower {
        let mut child = program(url).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Follower { child, lines }
    }

    /// The next line.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("a line in time").unwrap().expect("it goes on")
    }

    /// The next line of JSON for which this holds.
    pub async fn until(&mut self, fits: impl Fn(&Json) -> bool) -> Json {
        loop {
            let line = serde_json::from_str(&self.line().await).unwrap();
            if fits(&line) {
                return line;
            }
        }
    }

    /// Its exit code, when it has ended.
    pub async fn ended(mut self) -> i32 {
        while let Ok(Ok(Some(_))) = tokio::time::timeout(PATIENCE, self.lines.next_line()).await {}
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code().unwrap()
    }
}
