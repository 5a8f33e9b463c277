//! Chaos: real workers, a real database and real clients, with faults from all sides, and a ledger that shows whether anything was
//! lost, done twice, or done by two at once.
//!
//! ```text
//! cargo test --test chaos                                  half a minute
//! cargo test --release --test chaos -- --long 20m          as long as asked, with a client of the TypeScript SDK
//!     [--seed N] [--workers N] [--keep]
//! ```
//!
//! Three records are compared at the end: what clients were told (`clients.rs`), what nodes did and in which process
//! (`ledger.rs`), and how each execution's row changed, which a trigger writes in the same transaction (`database.rs`).
//! `verdict.rs` says what must hold. On a violation the exit code is 1, and the folder with logs, ledger and violations stays.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]
#![allow(clippy::print_stdout, reason = "it has no harness that would print for it")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "figures for people"
)]

mod clients;
mod database;
mod faults;
mod ledger;
mod options;
mod proxy;
mod sdk;
mod verdict;
mod work;
mod workers;

#[path = "../interop/mod.rs"]
mod interop;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use clients::{Clients, Known};
use database::{Database, Link};
use faults::{Faults, Tally};
use ledger::Ledger;
use options::{Options, Task};
use verdict::{Counts, Judge, Violations};
use workers::{CONCURRENCY, LEASE, MAIN, Worker};

/// When faults have ended, everything ends within this.
const REST: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let options = match options::read(std::env::args().skip(1)) {
        Ok(Task::Run(options)) => options,
        Ok(Task::List { ignored }) => {
            if !ignored {
                println!("chaos: test");
            }
            return ExitCode::SUCCESS;
        }
        Ok(Task::Nothing) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if runtime.block_on(run(&options)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All is well?
async fn run(options: &Options) -> bool {
    println!("chaos: seed {}, {} workers, {:?} of faults", options.seed, options.workers, options.time);
    let folder = tempfile::Builder::new().prefix("fireflow-chaos-").tempdir().unwrap();
    let violations = Violations::default();
    let database = Arc::new(Database::create(folder.path()).await);
    let link = Link::to(database.url());
    let ledger = Ledger::open(&folder.path().join("ledger.txt")).await.unwrap();
    for flow in work::flows(ledger.base()) {
        let sql = "INSERT INTO fireflow_flows (id, data, owner_id) VALUES ($1, $2, 'chaos')";
        link.query(sql, &[&flow["id"].as_str(), &flow]).await;
    }
    let mut workers = Vec::new();
    for index in 0..options.workers {
        // A third of them, and one at least beside another.
        let signals = index % 3 == 2 || options.workers > 3 && index + 1 == options.workers;
        workers.push(Worker::start(index, signals, &database, folder.path(), &violations).await);
    }
    let (over, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut beside = Vec::new();
    for worker in workers.clone() {
        let over = over.clone();
        beside.push(tokio::spawn(async move { _ = over.run_until_cancelled(worker.watch()).await }));
    }
    beside.push(tokio::spawn(limits(Link::to(database.url()), violations.clone(), over.clone())));

    let until = Instant::now() + options.time;
    let known = Known::default();
    let clients = Arc::new(Clients { link: link.clone(), known: known.clone(), violations: violations.clone() });
    let clients = tokio::spawn({
        let (stop, seed) = (stop.clone(), options.seed);
        async move { clients.run(seed, until, stop).await }
    });
    if options.long {
        let url = database.url().to_owned();
        beside.push(tokio::spawn(sdk::run(url, known.clone(), violations.clone(), until)));
    }
    let tally = Tally::default();
    let faults = Faults {
        database: database.clone(),
        workers: workers.clone(),
        tally: tally.clone(),
        link: Link::to(database.url()),
    };
    let pace = if options.long { Duration::from_millis(1600) } else { Duration::from_millis(900) };
    let telling = tokio::spawn(progress(known.clone(), tally.clone(), options.long, over.clone()));
    faults.inject(options.seed, until, pace).await;

    // Everything is as it was; now everything ends.
    let rest = Instant::now() + REST;
    while Instant::now() < rest && !known.lock().under_way.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Children of those that were cancelled.
    let active = "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED')";
    while Instant::now() < rest && link.number(active).await > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.cancel();
    clients.await.unwrap();
    over.cancel();
    for task in beside {
        task.await.unwrap();
    }
    telling.await.unwrap();
    for worker in &workers {
        worker.stop().await;
    }

    let mut lives: Vec<_> = workers.iter().flat_map(|worker| worker.lives()).collect();
    lives.sort_by_key(|life| life.started);
    logs(folder.path(), &violations);
    let judge = Judge { link: &link, known: &known, lives, work: ledger.entries(), violations: &violations };
    let counts = judge.judge().await;
    report(options, &tally, &known, &counts, &violations);
    let found = violations.texts();
    if !found.is_empty() || options.keep {
        std::fs::write(folder.path().join("violations.txt"), found.join("\n")).unwrap();
        keep_audit(&link, folder.path()).await;
    }
    database.stop().await;
    if !found.is_empty() || options.keep {
        let kept = folder.keep();
        println!("logs of the workers, ledger, audit and violations are in {}", kept.display());
    }
    if !found.is_empty() {
        println!("FAILED: {} violations; again with: cargo test --test chaos -- --seed {}", found.len(), options.seed);
    }
    found.is_empty()
}

/// The limit over all workers holds at every instant that is looked at.
async fn limits(link: Link, violations: Violations, over: CancellationToken) {
    let sql = format!("SELECT count(*) FROM dbos.workflow_status WHERE queue_name = '{MAIN}' AND status = 'PENDING'");
    while !over.is_cancelled() {
        let running = link.number(&sql).await;
        if running > CONCURRENCY {
            violations.add(format!("{running} executions are PENDING on a queue with concurrency {CONCURRENCY}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A line now and then.
async fn progress(known: Known, tally: Tally, long: bool, over: CancellationToken) {
    let began = Instant::now();
    let pause = Duration::from_secs(if long { 30 } else { 10 });
    while over.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let faults: u64 = tally.lock().unwrap().values().sum();
        let (ended, under_way) = {
            let known = known.lock();
            (known.ended.len(), known.under_way.len())
        };
        let seconds = began.elapsed().as_secs();
        println!("chaos: {seconds} s, {faults} faults, {ended} executions ended, {under_way} under way");
    }
}

/// A panic in a worker is a bug, whatever became of it.
fn logs(folder: &Path, violations: &Violations) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = std::fs::read_to_string(&path).unwrap();
            for line in log.lines().filter(|line| line.contains("panicked")) {
                violations.add(format!("{}: {line}", path.display()));
            }
        }
    }
}

/// The audit of the database, which goes with its server.
async fn keep_audit(link: &Link, folder: &Path) {
    let sql =
        "SELECT concat_ws(' ', number, at, workflow, what, before, executor, token) FROM chaos_audit ORDER BY number";
    let lines: Vec<String> = link.query(sql, &[]).await.iter().map(|row| row.get(0)).collect();
    std::fs::write(folder.join("audit.txt"), lines.join("\n")).unwrap();
}

fn report(options: &Options, tally: &Tally, known: &Known, counts: &Counts, violations: &Violations) {
    let line = |name: &str, value: String| println!("| {name} | {value} |");
    println!("\n| seed {} | |\n|---|---|", options.seed);
    let tally = tally.lock().unwrap();
    line("**faults**", tally.values().sum::<u64>().to_string());
    tally.iter().for_each(|(name, count)| line(name, count.to_string()));
    for (name, count) in &known.lock().actions {
        line(&format!("clients: {name}"), count.to_string());
    }
    line("**executions**", counts.executions.to_string());
    line("of these accepted from clients; the others are children", counts.accepted.to_string());
    counts.statuses.iter().for_each(|(status, count)| line(status, count.to_string()));
    line("claims", counts.claims.to_string());
    line("lives of workers", counts.lives.to_string());
    line("nodes that ran again, as their flow was not recorded", counts.again.to_string());
    line("nodes that ran on after their worker's claim had ended", counts.overlaps.to_string());
    for (name, seconds) in violations.figures() {
        line(&format!("{name}, s"), format!("{seconds:.2}"));
    }
    line(&format!("it may be, s (lease {} s)", LEASE.as_secs()), format!("{:.2}", verdict::WINDOW as f64 / 1e6));
    line("**lost**", counts.lost.to_string());
    line("**duplicates**", counts.duplicates.to_string());
    line("**violations**", violations.texts().len().to_string());
    println!();
}
