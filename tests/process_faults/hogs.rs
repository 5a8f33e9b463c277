//! A worker inside a program whose threads are all taken.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use fireflow_worker::{
    config::{Database, Settings},
    worker::{Drain, Phase, Shutdown, Status, Stuck, Worker},
};
use serde_json::json;
use tokio::runtime::Handle;

use super::{PATIENCE, begin, bench, lease, stays_held};

/// A worker on a runtime with a single thread of its own.
struct Program {
    runtime: Handle,
    status: Arc<Status>,
    shutdown: Shutdown,
    stuck: Arc<Mutex<Vec<Stuck>>>,
    thread: JoinHandle<()>,
}

impl Program {
    fn start(url: String, id: &str) -> Program {
        let mut settings = Settings { database: Database { url, ..Database::default() }, ..Settings::default() };
        settings.worker.id = Some(id.into());
        settings.worker.lease = std::time::Duration::from_secs(4);
        let stuck: Arc<Mutex<Vec<Stuck>>> = Arc::default();
        let told = stuck.clone();
        let worker = Worker::new(settings).on_stuck(move |stuck| told.lock().unwrap().push(stuck.clone()));
        let (status, shutdown) = (worker.status(), worker.shutdown());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let thread = std::thread::spawn(move || {
            let worker = runtime.spawn(worker.run()); // on the one thread
            runtime.block_on(worker).unwrap().unwrap();
        });
        Program { runtime: handle, status, shutdown, stuck, thread }
    }

    /// Take its one thread until the answer is dropped. Returns when it is taken.
    async fn hog(&self) -> mpsc::Sender<()> {
        let (end, ended) = mpsc::channel::<()>();
        let (begun, began) = tokio::sync::oneshot::channel();
        self.runtime.spawn(async move {
            begun.send(()).unwrap();
            let _ = ended.recv(); // blocks the thread
        });
        began.await.unwrap();
        end
    }

    async fn stop(self) {
        self.shutdown.begin(Drain::Graceful);
        tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap();
    }
}

/// Whether the thread that renews the lease has said nothing for longer than it ever does while there is one. Silence ends a
/// watchdog's pings (tests/service.rs).
fn is_silent(program: &Program) -> bool {
    let silent = program.status.silent_for(std::time::Duration::from_secs(2));
    silent.iter().any(|silence| silence.name == "renewal of the lease")
}

#[tokio::test]
async fn a_flow_that_takes_every_thread_does_not_cost_the_lease() {
    let bench = bench().await;
    let program = Program::start(bench.database.url(), "hogged");
    begin(&bench, "EX1").await;
    let other = bench.worker("w2", &[("worker.lease", "4s")]).await; // who would take over
    let hog = program.hog().await;
    stays_held(&bench, "hogged", 8).await; // for two leases
    assert!(!is_silent(&program), "the lease is kept");
    bench.ledger.release("EX1");
    drop(hog);
    let row = bench.client.until("EX1", "SUCCESS").await;
    assert_eq!((row.executor.as_deref(), row.attempts), (Some("hogged"), 1));
    assert_eq!(bench.ledger.entries("EX1").await, 1);
    assert!(!other.log().contains("back on the queue"), "{}", other.log());
    assert!(program.stuck.lock().unwrap().is_empty() && !is_silent(&program));
    assert!(other.stop().await.success());
    program.stop().await;
}

#[tokio::test]
async fn what_can_not_be_stopped_is_told_to_the_program_and_writes_nothing_more() {
    let bench = bench().await;
    let program = Program::start(bench.database.url(), "hogged");
    begin(&bench, "EX1").await;
    let hog = program.hog().await;
    let (_, incarnation) = lease(&bench, "hogged").await.unwrap();
    bench.ledger.release("EX1"); // it would go on now
    let taken = "UPDATE fireflow_workers SET incarnation = gen_random_uuid() WHERE id = 'hogged'";
    bench.client.execute(taken, &[]).await;
    let told = async {
        while program.stuck.lock().unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the program is told");
    let stuck = program.stuck.lock().unwrap()[0].clone();
    assert_eq!((stuck.worker.as_str(), stuck.executions), ("hogged", 1));
    assert!(stuck.to_string().contains("1 executions could not be stopped"), "{stuck}");
    // Under a lease that has ended, nobody says any more that all is well: a manager's watchdog would end the process.
    let silent = async {
        while !is_silent(&program) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, silent).await.expect("the pings end");
    let steps = bench.client.steps("EX1").await;
    drop(hog);
    // It finds out, and begins a new life, which runs the execution again; that alone records its end.
    let row = bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(row.attempts, 2);
    assert_eq!(bench.client.steps("EX1").await[..steps.len()], steps[..]);
    assert_ne!(lease(&bench, "hogged").await.unwrap().1, incarnation);
    assert_eq!(program.status.phase(), Phase::Running);
    bench.client.enqueue("EX2", "echo", json!({})).await;
    bench.client.until("EX2", "SUCCESS").await;
    program.stop().await;
}
