//! The worker processes, and each of their lives.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use crate::database::Database;
use crate::ledger::{Time, now};
use crate::proxy::Proxy;
use crate::support::worker::program;
use crate::verdict::Violations;

/// The lease of all workers: the shortest but one, so that faults outlast it soon.
pub const LEASE: Duration = Duration::from_secs(3);
/// What a drain may take.
pub const DRAIN: Duration = Duration::from_secs(2);
/// The queue with limits.
pub const MAIN: &str = "chaos-main";
/// The queue of parents and children: a parent holds its place in a queue's limit while it waits, so there is none here.
pub const FAMILIES: &str = "chaos-families";
/// The queue whose executions wait for their signal.
pub const SIGNALS: &str = "chaos-signals";
/// Most executions of the main queue over all workers.
pub const CONCURRENCY: i64 = 10;
/// Most executions of the main queue in one worker. All of them together could run more than the limit above.
pub const IN_ONE_WORKER: usize = 6;

/// What all workers are configured with.
fn settings(signals: bool) -> String {
    let queues = if signals {
        format!(
            "[[queue]]\nname = \"{SIGNALS}\"\nconcurrency = 500\nworker_concurrency = 6\npolling_interval = \"200ms\"\n"
        )
    } else {
        format!(
            "[[queue]]\nname = \"{MAIN}\"\nconcurrency = {CONCURRENCY}\nworker_concurrency = {IN_ONE_WORKER}\n\
             polling_interval = \"200ms\"\n\
             [[queue]]\nname = \"{FAMILIES}\"\nconcurrency = 500\nworker_concurrency = 4\npolling_interval = \"200ms\"\n"
        )
    };
    let start = if signals { "signal" } else { "immediate" };
    format!(
        "{queues}
         [database]
         connect_timeout = \"2s\"
         startup_wait = \"10m\"
         [worker]
         lease = \"{lease}s\"
         drain_timeout = \"{drain}s\"
         [execution]
         start = \"{start}\"
         start_timeout = \"1h\"
         max_recovery_attempts = 1000000
         [secrets]
         environment = [\"CHAOS_LIFE\"]
         [admin]
         enabled = false
         {MORE_SETTINGS}",
        lease = LEASE.as_secs(),
        drain = DRAIN.as_secs(),
    )
}

/// Crashes in a row, of which there are many here, must not park an execution.
const MORE_SETTINGS: &str = "[recovery]\nmax_crashes = 1000000";

/// One process, from its start to its end.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its name, as its nodes tell the ledger.
    pub name: String,
    /// The worker's id.
    pub worker: String,
    /// Before it was started.
    pub started: Time,
    /// After it had ended.
    pub ended: Option<Time>,
    /// It was killed, so that nothing was handed back.
    pub killed: bool,
    /// When it was stopped, and let go on.
    pub frozen: Vec<(Time, Time)>,
}

impl Life {
    /// How much of this time it was not frozen.
    pub fn awake(&self, from: Time, to: Time) -> Time {
        let asleep = |(begin, end): &(Time, Time)| (to.min(*end) - from.max(*begin)).max(0);
        (to - from).max(0) - self.frozen.iter().map(asleep).sum::<Time>()
    }
}

/// A worker that is always started again.
pub struct Worker {
    /// Its id.
    pub id: String,
    /// Its way to the database.
    pub proxy: Proxy,
    /// Something is being done to its process.
    pub busy: AtomicBool,
    url: String,
    folder: PathBuf,
    child: tokio::sync::Mutex<Option<Child>>,
    lives: Mutex<Vec<Life>>,
    violations: Violations,
}

impl Worker {
    /// A worker with its first life.
    pub async fn start(
        index: usize,
        signals: bool,
        database: &Database,
        folder: &Path,
        violations: &Violations,
    ) -> Arc<Worker> {
        let id = format!("w{}", index + 1);
        let proxy = Proxy::to(database.address()).await.unwrap();
        let url = database.worker_url(&id, proxy.port());
        std::fs::write(folder.join(format!("{id}.toml")), settings(signals)).unwrap();
        let worker = Worker {
            id,
            proxy,
            busy: AtomicBool::new(false),
            url,
            folder: folder.to_owned(),
            child: tokio::sync::Mutex::new(None),
            lives: Mutex::default(),
            violations: violations.clone(),
        };
        *worker.child.lock().await = Some(worker.spawn());
        Arc::new(worker)
    }

    /// All of its lives so far.
    pub fn lives(&self) -> Vec<Life> {
        self.lock().clone()
    }

    fn spawn(&self) -> Child {
        let mut lives = self.lock();
        let name = format!("life-{}-{:04}", self.id, lives.len() + 1);
        let log = File::create(self.folder.join(format!("{name}.log"))).unwrap();
        let mut command = program(&self.url);
        command.arg("run").arg("--config").arg(self.folder.join(format!("{}.toml", self.id)));
        command.env("FIREFLOW__WORKER__ID", &self.id).env("CHAOS_LIFE", &name);
        command.stderr(Stdio::from(log));
        lives.push(Life {
            name,
            worker: self.id.clone(),
            started: now(),
            ended: None,
            killed: false,
            frozen: Vec::new(),
        });
        command.spawn().expect("the binary starts")
    }

    /// SIGKILL, and a new life.
    pub async fn kill(&self) {
        let mut child = self.child.lock().await;
        self.change(|life| life.killed = true);
        child.as_mut().unwrap().kill().await.unwrap();
        self.change(|life| life.ended = Some(now()));
        *child = Some(self.spawn());
    }

    /// SIGSTOP, and SIGCONT after a while.
    pub async fn freeze(&self, time: Duration) {
        let child = self.child.lock().await;
        let pid = pid(child.as_ref().unwrap());
        let from = now();
        self.change(|life| life.frozen.push((from, Time::MAX)));
        kill_process(pid, Signal::STOP).unwrap();
        tokio::time::sleep(time).await;
        kill_process(pid, Signal::CONT).unwrap();
        let to = now();
        self.change(|life| *life.frozen.last_mut().unwrap() = (from, to));
    }

    /// SIGTERM, a second one if asked for, and a new life when this one has ended.
    pub async fn restart(&self, second: Option<Duration>) {
        let mut child = self.child.lock().await;
        let child = &mut *child;
        let process = child.as_mut().unwrap();
        self.terminate(process, second).await;
        *child = Some(self.spawn());
    }

    /// SIGTERM for good.
    pub async fn stop(&self) {
        let child = self.child.lock().await.take();
        if let Some(mut process) = child {
            self.terminate(&mut process, None).await;
        }
    }

    async fn terminate(&self, process: &mut Child, second: Option<Duration>) {
        let began = now();
        kill_process(pid(process), Signal::TERM).unwrap();
        if let Some(pause) = second {
            tokio::time::sleep(pause).await;
            if process.try_wait().unwrap().is_none() {
                kill_process(pid(process), Signal::TERM).unwrap();
            }
        }
        // Each of its phases has a limit of its own, also while the database is away.
        match tokio::time::timeout(DRAIN + Duration::from_secs(40), process.wait()).await {
            Ok(status) => self.ended_well(status.unwrap(), "after SIGTERM"),
            Err(_) => {
                self.violations.add(format!("{} didn't end within {:?} of SIGTERM", self.name(), DRAIN * 21));
                self.change(|life| life.killed = true);
                process.kill().await.unwrap();
            }
        }
        let ended = now();
        self.change(|life| life.ended = Some(ended));
        self.violations.figure("longest drain", ended - began);
    }

    /// A worker never ends by itself. Looks now and then, for as long as it is polled.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let Ok(mut child) = self.child.try_lock() else { continue }; // something is being done to it
            let Some(process) = child.as_mut() else { return };
            if let Some(status) = process.try_wait().unwrap() {
                self.violations.add(format!("{} ended by itself with {status}", self.name()));
                self.change(|life| {
                    life.ended = Some(now());
                    life.killed = true;
                });
                *child = Some(self.spawn());
            }
        }
    }

    fn ended_well(&self, status: ExitStatus, when: &str) {
        if !status.success() {
            self.violations.add(format!("{} ended {when} with {status}", self.name()));
        }
    }

    fn name(&self) -> String {
        self.lock().last().map(|life| life.name.clone()).unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.lock().last_mut() {
            change(life);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Life>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Have its process to oneself; `None` when somebody else has.
    pub fn seize(self: &Arc<Worker>) -> Option<Seized> {
        self.busy.compare_exchange(false, true, SeqCst, SeqCst).ok().map(|_| Seized(self.clone()))
    }
}

/// A worker whose process nobody else touches; given back on drop.
pub struct Seized(pub Arc<Worker>);

impl Drop for Seized {
    fn drop(&mut self) {
        self.0.busy.store(false, SeqCst);
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().expect("it is not reaped yet").cast_signed()).unwrap()
}
