//! A script that speaks JSON lines, as a child process.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::setup::Runtime;

/// How long a script may take until it is ready: an interpreter, an SDK, and for executors a migration.
const START_LIMIT: Duration = Duration::from_secs(90);

/// How many lines of the script's log a failure shows.
const LOG_LINES: usize = 40;

/// A started script. Killed when dropped.
pub struct Script {
    pub child: Child,
    pub stdin: ChildStdin,
    pub stdout: Lines<BufReader<ChildStdout>>,
    pub log: Log,
}

/// The last lines that the script wrote to its stderr.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines as one text.
    pub fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

impl Script {
    /// Starts `driver` or `executor` and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends or stays silent instead; with the end of its log.
    pub async fn start(runtime: &Runtime, name: &str, environment: &[(&str, &str)]) -> Script {
        let script = runtime.folder.join(name).with_extension(runtime.extension);
        let mut command = Command::new(&runtime.program);
        // The Rust SDK's is the program.
        if !runtime.extension.is_empty() {
            command.arg(script).arg(runtime.package);
        }
        let mut child = command
            .current_dir(&runtime.folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {}: {error}", runtime.program.display()));
        let stdin = child.stdin.take().expect("stdin is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let log = Log::default();
        let collected = log.clone();
        // Ends with the pipe, and so with the child.
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                collected.add(line);
            }
        });
        let first = tokio::time::timeout(START_LIMIT, stdout.next_line()).await;
        let ready = matches!(&first, Ok(Ok(Some(line))) if serde_json::from_str::<Value>(line).is_ok_and(|line| line["ready"] == true));
        assert!(ready, "{name} did not start ({first:?}):\n{}", log.text());
        Script { child, stdin, stdout, log }
    }
}
