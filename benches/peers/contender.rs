//! Who is measured: the worker, and an application of each SDK with the same workflows.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use fireflow_worker::{config, worker::Database};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};
use tokio_postgres::Client;

use super::{
    server::Stage,
    setup::{self, Lang},
    shapes::Shape,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Ours,
    TypeScript,
    Rust,
    Python,
}

/// How a contender looks for work.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    pub name: &'static str,
    pub interval: Duration,
}

const DEFAULT: Poll = Poll { name: "defaults", interval: Duration::from_secs(1) };
const FASTEST: Poll = Poll { name: "10 ms poll", interval: Duration::from_millis(10) };
/// Ours alone: enqueues are announced by a trigger.
const TRIGGER: Poll = Poll { name: "notify trigger", interval: Duration::from_secs(1) };

/// A running contender, killed when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Contender {
    pub const ALL: [Contender; 4] = [Contender::Ours, Contender::TypeScript, Contender::Rust, Contender::Python];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Ours => "ours",
            Contender::TypeScript => "typescript",
            Contender::Rust => "rust",
            Contender::Python => "python",
        }
    }

    pub fn polls(self) -> Vec<Poll> {
        if self == Contender::Ours { vec![DEFAULT, FASTEST, TRIGGER] } else { vec![DEFAULT, FASTEST] }
    }

    /// How long it takes until it looks as often as it is told: the SDKs begin with a second, and come down by a tenth
    /// each time.
    pub fn settling(self, poll: Poll) -> Duration {
        let ramps = self != Contender::Ours && poll.name == FASTEST.name;
        Duration::from_secs(if ramps { 12 } else { 2 })
    }

    pub fn default_poll(self) -> Poll {
        DEFAULT
    }

    pub fn fastest_poll(self) -> Poll {
        FASTEST
    }

    /// Schema and patterns; `None`, with the reason on stderr, where the SDK can't be had.
    pub async fn prepare(self, url: &str, sql: &Client) -> Option<()> {
        if self == Contender::Ours {
            let mut settings = config::Settings::default();
            settings.database.url = url.into();
            Database::connect(&settings).await.unwrap().ensure_schemas().await.unwrap();
            store(sql, "steps", &Shape::Chain.flow(1, &json!({"n": 1}))).await;
            store(sql, "slow", &delay()).await;
            for name in ["steps", "slow"] {
                enqueue(sql, &format!("pattern-{name}"), name).await;
            }
        }
        let running = self.start(url, 5, self.fastest_poll(), true).await?;
        let done =
            "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid LIKE 'pattern-%' AND status = 'SUCCESS'";
        while sql.query_one(done, &[]).await.unwrap().get::<_, i64>(0) < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        running.kill().await;
        Some(())
    }

    /// Starts it, and waits until it says that it is ready.
    pub async fn start(self, url: &str, slots: u32, poll: Poll, patterns: bool) -> Option<Running> {
        self.start_as("bench", "bench", url, slots, poll, patterns).await
    }

    /// As [`start`](Contender::start), one of several under names of their own, perhaps with queues of their own.
    pub async fn start_as(
        self,
        id: &str,
        queue: &str,
        url: &str,
        slots: u32,
        poll: Poll,
        patterns: bool,
    ) -> Option<Running> {
        let mut command = self.command()?;
        command.env("BENCH_DATABASE_URL", url).env("BENCH_SLOTS", slots.to_string());
        command.env("BENCH_POLL_MS", poll.interval.as_millis().to_string());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        if patterns {
            command.env("BENCH_PATTERNS", "1");
        }
        if self == Contender::Ours {
            let interval = format!("{}ms", poll.interval.as_millis());
            // Its default is its own.
            if poll.name == FASTEST.name {
                command.env("FIREFLOW__QUEUE__POLLING_INTERVAL", interval);
            }
            if poll.name == TRIGGER.name {
                command.env("FIREFLOW__QUEUE__NOTIFY_TRIGGER", "true");
                let migrate = Command::new(env!("CARGO_BIN_EXE_fireflow-worker"))
                    .arg("migrate")
                    .env("FIREFLOW__DATABASE__URL", url)
                    .env("FIREFLOW__QUEUE__NOTIFY_TRIGGER", "true")
                    .output();
                assert!(migrate.unwrap().status.success(), "migrate made the trigger");
            }
            for (key, value) in [
                ("DATABASE__URL", url),
                ("QUEUE__NAME", queue),
                ("QUEUE__WORKER_CONCURRENCY", &slots.to_string()),
                ("WORKER__APPLICATION_NAME", "bench"),
                ("WORKER__APPLICATION_VERSION", "1"),
                ("WORKER__ID", id),
                ("ADMIN__ENABLED", "false"),
            ] {
                command.env(format!("FIREFLOW__{key}"), value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        // Ours says it in its log, which is as it is by default.
        let (out, err) = (BufReader::new(child.stdout.take().unwrap()), BufReader::new(child.stderr.take().unwrap()));
        let (mut out, mut err) = (out.lines(), err.lines());
        if self == Contender::Ours {
            let mut said = String::new();
            loop {
                match err.next_line().await.unwrap() {
                    Some(line) if line.contains("serving") => break,
                    Some(line) => said = line,
                    None => panic!("the worker ended: {said}"),
                }
            }
        } else {
            let line = out.next_line().await.unwrap();
            if line.as_deref() != Some("ready") {
                while let Ok(Some(line)) = err.next_line().await {
                    eprintln!("{line}");
                }
                panic!("{} didn't start: {line:?}", self.name());
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = err.next_line().await {} });
        tokio::spawn(async move { while let Ok(Some(_)) = out.next_line().await {} });
        Some(Running { child })
    }

    fn command(self) -> Option<Command> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let lang = match self {
            Contender::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_fireflow-worker"));
                command.arg("run");
                return Some(command);
            }
            Contender::Rust => {
                let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("bench-rust");
                let built = Command::new(env!("CARGO"))
                    .args(["build", "--quiet", "--release", "--locked", "--manifest-path"])
                    .arg(source.join("rust/Cargo.toml"))
                    .arg("--target-dir")
                    .arg(&target)
                    .status();
                if !built.is_ok_and(|status| status.success()) {
                    eprintln!("skipped, the Rust SDK's application can't be built");
                    return None;
                }
                return Some(Command::new(target.join("release/fireflow-bench-rust")));
            }
            Contender::TypeScript => Lang::TypeScript,
            Contender::Python => Lang::Python,
        };
        let runtime = setup::available(lang)?;
        let script = runtime.folder.join("bench").with_extension(runtime.extension);
        fs::copy(source.join("app").with_extension(runtime.extension), &script).unwrap();
        let mut command = Command::new(&runtime.program);
        command.arg(script).current_dir(&runtime.folder);
        Some(command)
    }
}

/// A flow that takes two seconds.
fn delay() -> Json {
    let config = json!({"id": "duration", "key": "duration", "type": "number"});
    json!({"id": "slow", "metadata": {"name": "slow"}, "edges": [], "nodes": [{
        "id": "wait", "type": "SleepNode", "metadata": {"type": "SleepNode", "version": 1},
        "systemPorts": {"execute": {"id": "__execute", "value": true}},
        "ports": [{"config": config, "value": 2000}], "schemaVersion": "v2"}]})
}

pub async fn store(sql: &Client, id: &str, flow: &Json) {
    let store = "INSERT INTO fireflow_flows (id, data, owner_id) VALUES ($1, $2, 'bench')";
    sql.execute(store, &[&id, flow]).await.unwrap();
}

/// An execution of a flow, as a client enqueues it.
pub async fn enqueue(sql: &Client, id: &str, flow: &str) {
    let task = json!({"executionId": id, "flowId": flow, "inputs": {}});
    let enqueue = "SELECT dbos.enqueue_workflow('executeFireFlow', 'bench', ARRAY[$2::text::json],
                          class_name => 'ExecutionWorkflows', workflow_id => $1)";
    sql.query(enqueue, &[&id, &task.to_string()]).await.unwrap();
}

impl Stage {
    /// As it was before there was a trigger.
    pub async fn unannounced(&self) {
        if self.contender == Contender::Ours {
            let drop = "DROP TRIGGER IF EXISTS fireflow_enqueued ON dbos.workflow_status;
                        DROP TRIGGER IF EXISTS fireflow_requeued ON dbos.workflow_status";
            self.sql.batch_execute(drop).await.unwrap();
        }
    }

    pub async fn run(&self, slots: u32, poll: Poll) -> Running {
        self.contender.start(&self.url, slots, poll, false).await.unwrap()
    }

    /// Several at once, with as many slots each, that share these queues.
    pub async fn fleet(&self, count: usize, queues: &[&str], slots: u32, poll: Poll) -> Vec<Running> {
        let mut fleet = Vec::with_capacity(count);
        for number in 0..count {
            let (id, queue) = (format!("bench-{number}"), queues[number % queues.len()]);
            fleet.push(self.contender.start_as(&id, queue, &self.url, slots, poll, false).await.unwrap());
        }
        fleet
    }
}
