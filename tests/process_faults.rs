//! Faults of the process and its machine: standing still, no memory, logs that can't be written, clocks that are set,
//! threads that are taken.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "process_faults/clocks.rs"]
mod clocks;
#[path = "process_faults/fence.rs"]
mod fence;
#[path = "process_faults/hogs.rs"]
mod hogs;
mod support;

use std::{io::Write as _, os::unix::process::ExitStatusExt as _, process::Stdio, time::Duration};

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::json;
use support::{
    bench::Bench,
    flows::{FlowBuilder, echo},
    worker::{PATIENCE, WorkerProcess, program},
};
use tokio::process::{Child, Command};

/// With the flows `long` (enters, is held, leaves) and `echo`.
async fn bench() -> Bench {
    Bench::with(|ledger| {
        let long = FlowBuilder::new("long").get("hold", ledger).output("reply", "hold", "response");
        vec![long.build(), echo("echo")]
    })
    .await
}

/// Enqueue a long execution, and wait until it is in its middle, with all events up to there written.
async fn begin(bench: &Bench, id: &str) {
    bench.client.enqueue(id, "long", json!({"hold": format!("/hold/{id}")})).await;
    bench.ledger.entered(id, 1).await;
    bench.client.until_event(id, "node:started").await;
}

/// A worker whose log goes where the test wants it to.
fn with_log(url: &str, id: &str, lease: &str, log: impl Into<Stdio>) -> Child {
    with_log_of(program(url), id, lease, log)
}

fn with_log_of(mut command: Command, id: &str, lease: &str, log: impl Into<Stdio>) -> Child {
    command.arg("run").env("FIREFLOW__QUEUE__POLLING_INTERVAL", "50ms").env("FIREFLOW__WORKER__LEASE", lease);
    command.env("FIREFLOW__WORKER__ID", id).env("FIREFLOW__ADMIN__ENABLED", "false");
    command.env("FIREFLOW__LOG__LEVEL", "info").stderr(log).spawn().unwrap()
}

/// When the worker's lease was last renewed, and under which incarnation; `None` when it isn't held now.
async fn lease(bench: &Bench, id: &str) -> Option<(String, uuid::Uuid)> {
    let sql = "SELECT renewed_at::text, incarnation FROM fireflow_workers WHERE id = $1 AND expires_at > now()";
    let row = bench.client.sql().query_opt(sql, &[&id]).await.unwrap()?;
    Some((row.get(0), row.get(1)))
}

/// Watch a lease through this many renewals: it must never end or change hands.
async fn stays_held(bench: &Bench, id: &str, renewals: usize) {
    let (mut last, incarnation) = lease(bench, id).await.unwrap();
    let mut seen = 0;
    let watch = async {
        while seen < renewals {
            let (renewed, same) = lease(bench, id).await.expect("the lease is held");
            assert_eq!(same, incarnation);
            seen += usize::from(renewed != last);
            last = renewed;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, watch).await.expect("the lease is renewed");
}

/// Rows that each client writes, told by the name that it connects with.
const AUDIT: &str = "
CREATE TABLE public.audit (number bigserial PRIMARY KEY, client text, relation text, what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO public.audit (client, relation, what)
    VALUES (current_setting('application_name'), TG_TABLE_NAME, TG_OP || ' ' || CASE TG_OP WHEN 'DELETE' THEN OLD::text ELSE NEW::text END);
    RETURN NULL;
END $$;
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['dbos.workflow_status', 'dbos.workflow_output', 'dbos.operation_outputs', 'dbos.streams',
                                'dbos.notifications', 'fireflow_executions', 'fireflow_flow_pins'] LOOP
        EXECUTE format('CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION note()', name);
    END LOOP;
END $$";

#[tokio::test]
async fn a_process_that_stood_still_writes_nothing_and_comes_back_clean() {
    let bench = bench().await;
    bench.client.sql().batch_execute(AUDIT).await.unwrap();
    let url = |name: &str| {
        let url = bench.database.url();
        format!("{url}{}application_name={name}", if url.contains('?') { '&' } else { '?' })
    };
    let zombie = WorkerProcess::start(&url("w1"), "w1", &[("worker.lease", "5s")]).await;
    begin(&bench, "EX1").await;
    let heir = WorkerProcess::start(&url("w2"), "w2", &[("worker.lease", "5s")]).await;
    zombie.signal(Signal::STOP);
    // What its flow waits for arrives while it stands still, so it has something to write when it wakes up.
    bench.ledger.release("EX1");
    let row = bench.client.until("EX1", "SUCCESS").await;
    assert_eq!(row.executor.as_deref(), Some("w2"));
    assert_eq!(bench.ledger.entries("EX1").await, 2);
    assert_eq!(lease(&bench, "w1").await, None);
    let (steps, events) = (bench.client.steps("EX1").await, bench.client.events("EX1").await);
    let written = "SELECT count(*), COALESCE(max(number), 0) FROM audit WHERE client = 'w1'";
    let before = bench.client.sql().query_one(written, &[]).await.unwrap();
    let before: (i64, i64) = (before.get(0), before.get(1));
    assert!(before.0 > 0, "the audit knows it");

    zombie.signal(Signal::CONT);
    zombie.says("lease lost").await;
    zombie.says("stood still for").await;
    zombie.says("execution stopped").await;
    let serving = async {
        while zombie.log().matches("serving queue").count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, serving).await.unwrap_or_else(|_| panic!("{}", zombie.log()));
    let since = "SELECT relation || ' ' || what FROM audit WHERE client = 'w1' AND number > $1";
    let since = bench.client.sql().query(since, &[&before.1]).await.unwrap();
    let since: Vec<String> = since.iter().map(|row| row.get(0)).collect();
    assert_eq!(since, Vec::<String>::new(), "{}", zombie.log());
    assert_eq!((bench.client.steps("EX1").await, bench.client.events("EX1").await), (steps, events));

    assert!(heir.stop().await.success());
    bench.client.enqueue("EX2", "echo", json!({})).await;
    assert_eq!(bench.client.until("EX2", "SUCCESS").await.executor.as_deref(), Some("w1"), "it serves again");
    assert!(zombie.stop().await.success());
}

#[tokio::test]
async fn a_short_stop_costs_nothing() {
    let bench = bench().await;
    let worker = bench.worker("w1", &[("worker.lease", "30s")]).await;
    begin(&bench, "EX1").await;
    let (_, incarnation) = lease(&bench, "w1").await.unwrap();
    worker.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(1)).await;
    worker.signal(Signal::CONT);
    bench.ledger.release("EX1");
    assert_eq!(bench.client.until("EX1", "SUCCESS").await.attempts, 1);
    assert_eq!((bench.ledger.entries("EX1").await, lease(&bench, "w1").await.unwrap().1), (1, incarnation));
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_worker_without_memory_dies_and_another_goes_on() {
    let bench = bench().await;
    let mut worker = bench.worker("w1", &[("worker.lease", "3s")]).await;
    begin(&bench, "EX1").await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid().as_raw_nonzero())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.strip_suffix("kB")).unwrap();
    let most = (size.trim().parse::<u64>().unwrap() << 10) + (1 << 20);
    prlimit(Some(worker.pid()), Resource::As, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
    bench.client.enqueue("EX2", "echo", json!({"text": "x".repeat(14 << 20)})).await;
    let status = worker.ended().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{}", worker.log());
    assert!(worker.log().contains("memory allocation of"), "{}", worker.log());

    let other = bench.worker("w2", &[("worker.lease", "3s")]).await;
    bench.ledger.entered("EX1", 2).await;
    bench.ledger.release("EX1");
    for id in ["EX1", "EX2"] {
        assert_eq!(bench.client.until(id, "SUCCESS").await.executor.as_deref(), Some("w2"));
    }
    assert!(other.stop().await.success());
}

#[tokio::test]
async fn logs_that_can_not_be_written_stop_nothing() {
    let bench = bench().await;
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (id, log) in [("full", Stdio::from(full)), ("closed", Stdio::from(closed))] {
        let mut worker = with_log(&bench.database.url(), id, "30s", log);
        let run = format!("EX-{id}");
        bench.client.enqueue(&run, "long", json!({"hold": format!("/hold/{run}")})).await;
        bench.ledger.entered(&run, 1).await;
        // What it would like to tell the most is a trouble.
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'fireflow-worker'";
        assert!(bench.client.sql().query_one(cut, &[]).await.unwrap().get::<_, i64>(0) > 0);
        bench.ledger.release(&run);
        assert_eq!(bench.client.until(&run, "SUCCESS").await.attempts, 1);
        stop(&mut worker, 0).await;
    }
    // Nor does it hide how a command ends.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut refused = program(&bench.database.url());
    let refused = refused.args(["enqueue", "no-such-flow"]).stdout(Stdio::null()).stderr(full).status();
    assert_eq!(refused.await.unwrap().code(), Some(1));
}

/// SIGTERM, and the exit code.
async fn stop(worker: &mut Child, code: i32) {
    let pid = rustix::process::Pid::from_raw(worker.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = tokio::time::timeout(PATIENCE, worker.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(code));
}

/// A log that nobody reads blocks whoever writes to it: here all that this process does, but not the thread of the lease.
#[tokio::test]
async fn a_process_that_is_stuck_keeps_its_lease_and_ends_itself_when_it_has_lost_it() {
    let bench = bench().await;
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut worker = with_log(&bench.database.url(), "w1", "6s", writer.try_clone().unwrap());
    begin(&bench, "EX1").await;
    let (progress, mut filled) = tokio::sync::watch::channel(());
    // Ends when the test drops the other end of the pipe.
    let filler = std::thread::spawn(move || {
        while writer.write_all(b".").is_ok() {
            progress.send_replace(())
        }
    });
    while tokio::time::timeout(Duration::from_millis(500), filled.changed()).await.is_ok() {}
    stays_held(&bench, "w1", 6).await;
    let row = bench.client.row("EX1").await.unwrap();
    assert_eq!((row.status.as_str(), row.attempts), ("PENDING", 1));

    // Somebody else has its id now, and it can't even say so.
    bench.client.execute("UPDATE fireflow_workers SET incarnation = gen_random_uuid() WHERE id = 'w1'", &[]).await;
    let status = tokio::time::timeout(PATIENCE, worker.wait()).await.expect("it ends itself").unwrap();
    assert_eq!(status.code(), Some(71));
    drop(reader);
    filler.join().unwrap();
    assert_eq!(bench.client.row("EX1").await.unwrap().status, "PENDING");
    let heir = bench.worker("w1", &[("worker.lease", "2s")]).await;
    bench.ledger.release("EX1");
    assert_eq!(bench.client.until("EX1", "SUCCESS").await.attempts, 2);
    assert!(heir.stop().await.success());
}
