//! The faults, and how often each comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::database::{Database, Link, ROLE, Shutdown};
use crate::proxy::Cut;
use crate::workers::{LEASE, MAIN, Worker};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    KillAll,
    FreezeLong,
    FreezeShort,
    Drain,
    DrainTwice,
    EndSessions,
    EndAllSessions,
    RestartFast,
    RestartImmediate,
    CutNow,
    CutMidStatement,
    CutBeforeCommit,
    CutAfterCommit,
    Stall,
    Refuse,
    LockRows,
    LockTable,
    NoConnections,
    ReadOnly,
    OldSnapshot,
}

/// Each with its weight, and the name that the table has for it.
const FAULTS: [(Fault, u32, &str); 21] = [
    (Fault::Kill, 18, "SIGKILL of a worker"),
    (Fault::KillAll, 1, "SIGKILL of all workers at once"),
    (Fault::FreezeLong, 8, "SIGSTOP for longer than the lease, SIGCONT"),
    (Fault::FreezeShort, 4, "SIGSTOP for less than the lease, SIGCONT"),
    (Fault::Drain, 8, "SIGTERM and restart"),
    (Fault::DrainTwice, 6, "two SIGTERM and restart"),
    (Fault::EndSessions, 8, "sessions of a worker terminated"),
    (Fault::EndAllSessions, 3, "sessions of all workers terminated"),
    (Fault::RestartFast, 2, "PostgreSQL restarted (fast)"),
    (Fault::RestartImmediate, 3, "PostgreSQL restarted (immediate, with crash recovery)"),
    (Fault::CutNow, 8, "connections of a worker cut"),
    (Fault::CutMidStatement, 8, "connection cut in mid-statement"),
    (Fault::CutBeforeCommit, 8, "connection cut before a COMMIT arrives"),
    (Fault::CutAfterCommit, 8, "connection cut before a COMMIT's answer arrives"),
    (Fault::Stall, 6, "connections of a worker hang, up to twice the lease"),
    (Fault::Refuse, 4, "a worker can't connect for seconds"),
    (Fault::LockRows, 6, "status rows locked by somebody else"),
    (Fault::LockTable, 4, "table of status rows locked by somebody else"),
    (Fault::NoConnections, 3, "no connection left for the workers"),
    (Fault::ReadOnly, 3, "database read-only"),
    (Fault::OldSnapshot, 3, "somebody's transaction stays open for seconds"),
];

/// At most so many at once.
const AT_ONCE: usize = 4;

/// What was done, by name.
pub type Tally = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// Does things to the workers and their database.
pub struct Faults {
    pub database: Arc<Database>,
    pub workers: Vec<Arc<Worker>>,
    pub tally: Tally,
    pub link: Link,
}

impl Faults {
    /// Go on until `until`, with pauses of this length on average; returns when all is as it was.
    pub async fn inject(&self, seed: u64, until: Instant, pause: Duration) {
        let mut random = SmallRng::seed_from_u64(seed);
        let total: u32 = FAULTS.iter().map(|(_, weight, _)| weight).sum();
        let mut going_on = JoinSet::new();
        // What concerns the whole database goes on alone among its kind.
        let whole = Arc::new(tokio::sync::Mutex::new(()));
        while Instant::now() < until {
            tokio::time::sleep(pause.mul_f64(random.random_range(0.2..1.8))).await;
            while going_on.try_join_next().is_some() {}
            let mut drawn = random.random_range(0..total);
            let fits = |(_, weight, _): &&(Fault, u32, &str)| match drawn.checked_sub(*weight) {
                Some(left) => {
                    drawn = left;
                    false
                }
                None => true,
            };
            let &(fault, _, name) = FAULTS.iter().find(fits).unwrap_or(&FAULTS[0]);
            if going_on.len() >= AT_ONCE {
                continue;
            }
            let Some(worker) = self.workers.choose(&mut random).cloned() else { return };
            let act = Act {
                database: self.database.clone(),
                workers: self.workers.clone(),
                worker,
                link: self.link.clone(),
                random: SmallRng::seed_from_u64(random.random()),
                whole: whole.clone(),
            };
            let tally = self.tally.clone();
            going_on.spawn(async move {
                if act.perform(fault).await {
                    *tally.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
                }
            });
        }
        while let Some(done) = going_on.join_next().await {
            done.unwrap();
        }
    }
}

/// One fault.
struct Act {
    database: Arc<Database>,
    workers: Vec<Arc<Worker>>,
    worker: Arc<Worker>,
    link: Link,
    random: SmallRng,
    whole: Arc<tokio::sync::Mutex<()>>,
}

impl Act {
    /// Do it, and undo it. False when there was no occasion.
    async fn perform(mut self, fault: Fault) -> bool {
        let time = |random: &mut SmallRng, from: f64, to: f64| Duration::from_secs_f64(random.random_range(from..to));
        let random = &mut self.random;
        let lease = LEASE.as_secs_f64();
        match fault {
            Fault::Kill | Fault::FreezeLong | Fault::FreezeShort | Fault::Drain | Fault::DrainTwice => {
                // Half of them at most are down or frozen, so that the work goes on.
                let busy = self.workers.iter().filter(|worker| worker.busy.load(std::sync::atomic::Ordering::SeqCst));
                if busy.count() * 2 >= self.workers.len() {
                    return false;
                }
                let Some(seized) = self.worker.seize() else { return false };
                match fault {
                    Fault::Kill => seized.0.kill().await,
                    Fault::FreezeLong => seized.0.freeze(time(random, lease * 1.1, lease * 2.0)).await,
                    Fault::FreezeShort => seized.0.freeze(time(random, 0.1, lease * 0.7)).await,
                    Fault::Drain => seized.0.restart(None).await,
                    _ => seized.0.restart(Some(time(random, 0.0, 0.5))).await,
                }
            }
            Fault::KillAll => {
                let seized: Vec<_> = self.workers.iter().filter_map(Worker::seize).collect();
                futures_util::future::join_all(seized.iter().map(|seized| seized.0.kill())).await;
            }
            Fault::EndSessions => self.end_sessions(Some(&self.worker.id)).await,
            Fault::EndAllSessions => self.end_sessions(None).await,
            Fault::RestartFast | Fault::RestartImmediate => {
                let Ok(_alone) = self.whole.try_lock() else { return false };
                let how = if fault == Fault::RestartFast { Shutdown::Fast } else { Shutdown::Immediate };
                // Mostly shorter than the lease.
                let pause =
                    if random.random_bool(0.2) { time(random, 1.0, lease + 1.0) } else { time(random, 0.0, 0.7) };
                self.database.restart(how, pause).await;
            }
            Fault::CutNow => self.worker.proxy.cut(Cut::Now),
            Fault::CutMidStatement => return self.cut(Cut::MidStatement).await,
            Fault::CutBeforeCommit => return self.cut(Cut::BeforeCommit).await,
            Fault::CutAfterCommit => return self.cut(Cut::AfterCommit).await,
            Fault::Stall => {
                let time = time(random, 0.3, lease * 2.0);
                self.worker.proxy.stall(time).await;
            }
            Fault::Refuse => {
                let time = time(random, 0.5, lease * 1.5);
                self.worker.proxy.refuse(time).await;
            }
            Fault::LockRows => {
                let sql = format!(
                    "SELECT workflow_uuid FROM dbos.workflow_status
                      WHERE queue_name = '{MAIN}' AND status IN ('PENDING', 'ENQUEUED')
                      ORDER BY random() LIMIT 10 FOR UPDATE"
                );
                let time = time(random, 0.3, 2.5);
                return self.hold(&sql, time).await;
            }
            Fault::LockTable => {
                let Ok(_alone) = self.whole.try_lock() else { return false };
                let mode = if random.random_bool(0.5) { "EXCLUSIVE" } else { "ACCESS EXCLUSIVE" };
                let time = time(random, 0.2, 1.5);
                return self.hold(&format!("LOCK TABLE dbos.workflow_status IN {mode} MODE"), time).await;
            }
            Fault::NoConnections => {
                let Ok(_alone) = self.whole.try_lock() else { return false };
                let time = time(random, 0.5, 2.5);
                self.link.query(&format!("ALTER ROLE {ROLE} CONNECTION LIMIT 1"), &[]).await;
                self.end_sessions(None).await;
                tokio::time::sleep(time).await;
                self.link.query(&format!("ALTER ROLE {ROLE} CONNECTION LIMIT -1"), &[]).await;
            }
            Fault::ReadOnly => {
                let Ok(_alone) = self.whole.try_lock() else { return false };
                let time = time(random, 0.3, 2.0);
                // A session has it from its start.
                self.link.query(&format!("ALTER ROLE {ROLE} SET default_transaction_read_only = on"), &[]).await;
                self.end_sessions(None).await;
                tokio::time::sleep(time).await;
                self.link.query(&format!("ALTER ROLE {ROLE} RESET default_transaction_read_only"), &[]).await;
            }
            Fault::OldSnapshot => {
                let time = time(random, 1.0, 6.0);
                let sql = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dbos.queues";
                return self.hold(sql, time).await;
            }
        }
        true
    }

    /// The sessions of one worker end, or those of all.
    async fn end_sessions(&self, of: Option<&str>) {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE usename = $1 AND ($2::text IS NULL OR application_name = $2)";
        self.link.query(sql, &[&ROLE, &of]).await;
    }

    /// Cut at an occasion; there is one within a second on a busy worker.
    async fn cut(&self, when: Cut) -> bool {
        self.worker.proxy.cut(when);
        tokio::time::sleep(Duration::from_secs(1)).await;
        !self.worker.proxy.forget()
    }

    /// A transaction of somebody else that is open for a while. False when it could not be had.
    async fn hold(&self, sql: &str, time: Duration) -> bool {
        let somebody = Link::to(self.database.url());
        let held = async {
            let client = somebody.client().await?;
            client.batch_execute(&format!("SET lock_timeout = '2s'; BEGIN; {sql}")).await?;
            tokio::time::sleep(time).await;
            client.batch_execute("ROLLBACK").await
        };
        held.await.is_ok() // other faults hit it as well
    }
}
