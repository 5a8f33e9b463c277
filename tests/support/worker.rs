//! The real binary as a child process: its log is readable, it takes signals, and it is killed when dropped.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use std::{process::ExitStatus, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

/// A worker may take so long to say or do what a test waits for; on a loaded machine all is slow.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_fireflow-worker");

/// A running worker.
pub struct WorkerProcess {
    child: Child,
    log: watch::Receiver<String>,
}

impl WorkerProcess {
    /// Start a worker with this id on a database, and wait until it serves. `settings` are dotted keys and values.
    pub async fn start(url: &str, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        let worker = WorkerProcess::spawn(url, id, settings);
        worker.says("serving").await;
        worker
    }

    /// Start a worker by a configuration file of this content, and wait until it serves.
    pub async fn with_file(url: &str, id: &str, toml: &str) -> WorkerProcess {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let mut command = program(url);
        command.arg("run").arg("--config").arg(file.path());
        let worker = WorkerProcess::launch(command, id, &[]);
        worker.says("serving").await; // it has read the file
        worker
    }

    /// As [`start`](WorkerProcess::start), without waiting.
    pub fn spawn(url: &str, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        let mut command = program(url);
        command.arg("run").env("FIREFLOW__QUEUE__POLLING_INTERVAL", "50ms");
        WorkerProcess::launch(command, id, settings)
    }

    /// As [`spawn`](WorkerProcess::spawn), of another program, such as an earlier version.
    pub fn spawn_program(program: &str, url: &str, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        let mut command = program_at(program, url);
        command.arg("run").env("FIREFLOW__QUEUE__POLLING_INTERVAL", "50ms");
        WorkerProcess::launch(command, id, settings)
    }

    /// As [`spawn`](WorkerProcess::spawn); the setting `failpoints` says where it is killed.
    pub fn with_failpoints(url: &str, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        let mut command = program(url);
        command.arg("run").env("FIREFLOW__QUEUE__POLLING_INTERVAL", "50ms");
        let (failpoints, settings): (Vec<_>, Vec<_>) = settings.iter().partition(|(key, _)| *key == "failpoints");
        command.envs(failpoints.iter().map(|(_, rules)| ("FIREFLOW_FAILPOINTS", rules)));
        WorkerProcess::launch(command, id, &settings)
    }

    /// As [`spawn`](WorkerProcess::spawn), in this network namespace.
    pub fn spawn_within(namespace: &str, url: &str, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, PROGRAM, "run"]);
        clean(&mut command, url).env("FIREFLOW__QUEUE__POLLING_INTERVAL", "50ms");
        WorkerProcess::launch(command, id, settings)
    }

    /// Start a worker by this configuration file, which may change later, with the command as the test wants it.
    pub fn by_file(url: &str, id: &str, file: &std::path::Path, change: impl FnOnce(&mut Command)) -> WorkerProcess {
        let mut command = program(url);
        command.arg("run").arg("--config").arg(file).env("FIREFLOW__WORKER__ID", id);
        change(&mut command);
        WorkerProcess::follow(command)
    }

    fn launch(mut command: Command, id: &str, settings: &[(&str, &str)]) -> WorkerProcess {
        command.env("FIREFLOW__WORKER__ID", id).env("FIREFLOW__ADMIN__ENABLED", "false");
        command.env("FIREFLOW__LOG__LEVEL", "debug");
        for (key, value) in settings {
            command.env(format!("FIREFLOW__{}", key.replace('.', "__").to_ascii_uppercase()), value);
        }
        WorkerProcess::follow(command)
    }

    fn follow(mut command: Command) -> WorkerProcess {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let (sender, log) = watch::channel(String::new());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|log| {
                    log.push_str(&line);
                    log.push('\n');
                });
            }
        });
        WorkerProcess { child, log }
    }

    /// What its admin listener answers: the code, and the whole answer.
    pub async fn ask(&self, path: &str) -> (u16, String) {
        self.says("address=").await;
        let log = self.log();
        let address = log.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    /// Ask until the answer has this code; the answer.
    pub async fn until_answer(&self, path: &str, code: u16) -> String {
        let asked = async {
            loop {
                let (found, answer) = self.ask(path).await;
                if found == code {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        answer.unwrap_or_else(|_| panic!("{path} never answers {code}:\n{}", self.log()))
    }

    /// Wait until the log holds this text.
    pub async fn says(&self, text: &str) {
        let mut log = self.log.clone();
        let said = log.wait_for(|log| log.contains(text));
        match tokio::time::timeout(PATIENCE, said).await {
            Ok(Ok(_)) => {}
            _ => panic!("the worker didn't say {text:?}:\n{}", self.log()),
        }
    }

    /// Wait until the log holds this text so many times.
    pub async fn says_times(&self, text: &str, times: usize) {
        let mut log = self.log.clone();
        let said = log.wait_for(|log| log.matches(text).count() >= times);
        let said = tokio::time::timeout(PATIENCE, said).await.is_ok_and(|said| said.is_ok());
        assert!(said, "the worker didn't say {text:?} {times} times:\n{}", self.log());
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().expect("it runs").cast_signed()).unwrap()
    }

    /// Send it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// SIGKILL, and wait until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and its exit status.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Its exit status, when it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("the worker didn't end:\n{}", self.log()),
        }
    }
}

/// The binary with nothing of this process's environment but what it needs, on a database. Killed when dropped.
pub fn program(url: &str) -> Command {
    program_at(PROGRAM, url)
}

/// As [`program`], at another path.
pub fn program_at(path: &str, url: &str) -> Command {
    let mut command = Command::new(path);
    clean(&mut command, url);
    command
}

fn clean<'a>(command: &'a mut Command, url: &str) -> &'a mut Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("DATABASE_URL", url);
    command.env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true)
}
