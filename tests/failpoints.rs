//! A worker is killed at each of the places between two durable statements (`src/failpoint.rs`), and a second one finishes:
//! every execution ends as it should, and what was recorded doesn't run again. A place that isn't reached fails the test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;

use fireflow_worker::failpoint::{ALL, Point};
use futures_util::{StreamExt as _, stream};
use rustix::process::Signal;
use serde_json::{Value as Json, json};
use support::{
    bench::Bench,
    flows::{FlowBuilder, echo, reporting},
    worker::WorkerProcess,
};

/// So many walks at once: most of the time each waits for a lease to end.
const AT_ONCE: usize = 6;

/// What goes on when the worker is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scene {
    /// An execution that reports to the ledger.
    Plain,
    /// The same, as another worker left it that is dead.
    Orphan,
    /// The same, as an executor left it that is to be adopted.
    Adopted,
    /// The same, as an earlier life of this worker left it.
    Own,
    /// The same, as if the answer to its claim had been lost.
    Stranded,
    /// One that waits for its start signal, which is there.
    Signal,
    /// One that was sent commands.
    Commanded,
    /// A parent with two children.
    Family,
    /// One that was started too often.
    Parked,
    /// One that doesn't end in time when the worker is told to.
    Drain,
}

/// Where a place is met; all of them, or this doesn't compile.
fn scene(point: Point) -> Scene {
    match point {
        Point::LeaseRegistering | Point::LeaseRegistered | Point::RecoveryBefore | Point::RecoverySettled => {
            Scene::Plain
        }
        Point::RecoveryOwn => Scene::Own,
        Point::RecoveryAfter => Scene::Orphan,
        Point::RecoveryAdopted => Scene::Adopted,
        Point::RecoveryStranded => Scene::Stranded,
        Point::DispatchRound | Point::ClaimBegun | Point::ClaimWritten | Point::ClaimCommitted | Point::FlowBegins => {
            Scene::Plain
        }
        Point::ClaimParking | Point::ClaimParked => Scene::Parked,
        Point::CheckpointBegun
        | Point::CheckpointLocked
        | Point::CheckpointSteps
        | Point::CheckpointAppends
        | Point::CheckpointRows => Scene::Plain,
        Point::CheckpointFinishes | Point::CheckpointWritten | Point::CheckpointCommitted => Scene::Plain,
        Point::OutcomeCommitted | Point::CheckpointAnswered => Scene::Plain,
        Point::CheckpointReceives | Point::MessageCommitted => Scene::Signal,
        Point::CheckpointConsumes => Scene::Commanded,
        Point::CheckpointStarts | Point::ChildCommitted => Scene::Family,
        Point::DrainAnnounced | Point::DrainHanding | Point::DrainHanded => Scene::Drain,
        Point::LeaseReleasing | Point::LeaseReleased => Scene::Drain,
    }
}

/// A place, and the how-manieth time that it is reached.
#[derive(Clone, Copy, Debug)]
struct Walk {
    number: usize,
    scene: Scene,
    point: Point,
    time: u32,
}

/// Each place the first time; those of a checkpoint for each of an execution's, and of a parent's.
fn walks() -> Vec<Walk> {
    let checkpoint = [Point::CheckpointBegun, Point::CheckpointWritten, Point::CheckpointCommitted];
    let first = ALL.iter().map(|point| (scene(*point), *point, 1));
    let own = checkpoint.into_iter().flat_map(|point| (2..=3).map(move |time| (Scene::Plain, point, time)));
    let family = [2, 3, 4].map(|time| (Scene::Family, Point::CheckpointCommitted, time));
    let all = first.chain(own).chain(family).enumerate();
    all.map(|(number, (scene, point, time))| Walk { number, scene, point, time }).collect()
}

/// A recorded step: workflow, number, name, output, when.
type Steps = Vec<(String, i32, String, Option<String>, Option<i64>)>;

impl Walk {
    fn name(self, what: &str) -> String {
        format!("{what}-{}", self.number)
    }

    fn place(self) -> String {
        format!("{} at the {}. time, in the scene {:?}", self.point.name(), self.time, self.scene)
    }

    /// What is on the queue before the worker starts.
    async fn set(self, bench: &Bench) {
        let id = self.name("EX");
        let (flow, inputs) = match self.scene {
            Scene::Family => ("family", json!({})),
            Scene::Parked => ("echo", json!({})),
            Scene::Drain => ("held", json!({"hold": format!("/hold/{id}")})),
            _ => ("work", json!({"enter": format!("/enter/{id}"), "leave": format!("/leave/{id}")})),
        };
        let debug = self.scene == Scene::Commanded; // or commands are looked for in the midst of the run
        let task = json!({"executionId": id, "flowId": flow, "inputs": inputs, "debug": debug}).to_string();
        let enqueue = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY[$2::text::json], class_name => 'ExecutionWorkflows',
                              workflow_id => $3, application_name => $4)";
        bench.client.sql().query_one(enqueue, &[&self.name("queue"), &task, &id, &self.name("app")]).await.unwrap();
        match self.scene {
            Scene::Signal => bench.client.send(&id, "START_SIGNAL", json!("go")).await,
            Scene::Commanded => {
                for command in ["PAUSE", "RESUME"] {
                    bench.client.send(&id, "COMMAND", json!({"command": command})).await;
                }
            }
            Scene::Parked => {
                let often = "UPDATE dbos.workflow_status SET recovery_attempts = 200 WHERE workflow_uuid = $1";
                bench.client.execute(often, &[&id]).await;
            }
            Scene::Orphan => self.leave(bench, &self.name("lost"), true).await,
            Scene::Own => self.leave(bench, &self.name("a"), true).await,
            Scene::Adopted => self.leave(bench, &self.name("sdk"), false).await,
            Scene::Stranded => self.leave(bench, &self.name("nobody"), false).await,
            Scene::Plain | Scene::Family | Scene::Drain => {}
        }
    }

    /// As an executor left it that died.
    async fn leave(self, bench: &Bench, executor: &str, registered: bool) {
        let take = "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = $2, owner_xid = 'gone',
                           started_at_epoch_ms = 1, recovery_attempts = 1, application_version = '1.0.0'
                     WHERE workflow_uuid = $1";
        assert_eq!(bench.client.execute(take, &[&self.name("EX"), &executor]).await, 1);
        if registered {
            let die = "INSERT INTO fireflow_workers (id, incarnation, expires_at, state)
                       VALUES ($1, gen_random_uuid(), now(), 'running')";
            bench.client.execute(die, &[&executor]).await;
        }
    }

    /// Another worker, when the lease has ended, or the same one, which goes on at once.
    fn second(self) -> String {
        if self.comes_back() { self.name("a") } else { self.name("b") }
    }

    fn comes_back(self) -> bool {
        self.number.is_multiple_of(2) || self.scene == Scene::Drain
    }

    fn settings(self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("queue.name", self.name("queue")),
            ("worker.application_name", self.name("app")),
            ("worker.lease", if self.comes_back() { "1m" } else { "4s" }.into()),
            ("worker.drain_timeout", "0s".into()),
            ("log.level", "info".into()),
        ];
        match self.scene {
            Scene::Signal => settings.push(("execution.start", "signal".into())),
            Scene::Adopted => settings.push(("recovery.adopt_executors", self.name("sdk"))),
            _ => {}
        }
        settings
    }

    async fn steps(self, bench: &Bench) -> Steps {
        let sql = "SELECT o.workflow_uuid, function_id, function_name, o.output, completed_at_epoch_ms
                     FROM dbos.operation_outputs o JOIN dbos.workflow_status w USING (workflow_uuid)
                    WHERE w.application_name = $1 ORDER BY 1, 2";
        let rows = bench.client.sql().query(sql, &[&self.name("app")]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect()
    }

    async fn play(self, bench: &Bench) {
        let (id, place, url) = (self.name("EX"), self.place(), bench.database.url());
        self.set(bench).await;
        let settings = self.settings();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let rule = format!("{}=kill@{}", self.point.name(), self.time);
        let first = [settings.as_slice(), &[("failpoints", rule.as_str())]].concat();
        let mut worker = WorkerProcess::with_failpoints(&url, &self.name("a"), &first);
        match self.scene {
            Scene::Drain => {
                bench.ledger.entered(&id, 1).await;
                worker.signal(Signal::TERM);
            }
            Scene::Stranded => {
                // From now on its own, and under a token that it doesn't run.
                worker.says("serving").await;
                let claimed = "UPDATE dbos.workflow_status SET executor_id = $2 WHERE workflow_uuid = $1";
                assert_eq!(bench.client.execute(claimed, &[&id, &self.name("a")]).await, 1);
            }
            _ => {}
        }
        let status = worker.ended().await;
        assert_eq!(status.signal(), Some(9), "never killed: {place}\n{}", worker.log());

        let before = self.steps(bench).await;
        let entries = bench.ledger.entries(&id).await;
        bench.ledger.release(&id);
        let worker = WorkerProcess::start(&url, &self.second(), &settings).await;
        if self.scene == Scene::Parked {
            bench.client.until(&id, "MAX_RECOVERY_ATTEMPTS_EXCEEDED").await;
            assert_eq!(self.steps(bench).await, [], "{place}");
        } else {
            bench.client.until(&id, "SUCCESS").await;
            assert_eq!(bench.client.execution(&id).await.unwrap().0, "completed", "{place}");
            self.ended_well(bench, &before, entries).await;
        }
        assert!(worker.stop().await.success(), "{place}");
    }

    async fn ended_well(self, bench: &Bench, before: &Steps, entries: i64) {
        let (id, place) = (self.name("EX"), self.place());
        // What was recorded is there as it was, and the numbers have no gaps but for a wait that wasn't needed.
        let after = self.steps(bench).await;
        for step in before {
            assert!(after.contains(step), "{place}: {step:?} isn't in {after:?}");
        }
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (workflow, _, name, ..) in &after {
            names.entry(workflow).or_default().push(name);
        }
        let run = ["DBOS.writeStream", "updateToRunning", "executeFlowAtomic"];
        let expected: Vec<&str> = match self.scene {
            Scene::Signal => vec![run[0], "DBOS.recv", run[1], run[2]],
            Scene::Family => {
                let children = ["executeFireFlow", "executeFireFlow", "DBOS.getResult", "DBOS.getResult"];
                run.into_iter().chain(children).collect()
            }
            _ => run.to_vec(),
        };
        let expected: Vec<&str> = expected.into_iter().chain(["updateToCompleted"]).collect();
        assert_eq!(names[id.as_str()], expected, "{place}");
        assert_eq!(names.len(), if self.scene == Scene::Family { 3 } else { 1 }, "{place}: {names:?}");
        let open = "SELECT count(*) FROM dbos.workflow_status WHERE application_name = $1 AND status <> 'SUCCESS'";
        assert!(bench.client.comes_true(open, &[&self.name("app")], 0).await, "{place}");
        // A run that is recorded doesn't run again; one that was cut off does, once.
        let ran = before.iter().any(|(workflow, _, name, ..)| *workflow == id && name == "executeFlowAtomic");
        if self.scene != Scene::Family {
            let now = bench.ledger.entries(&id).await;
            assert!((1..=2).contains(&now) && (!ran || now == entries), "{place}: {entries} entries, then {now}");
        }
        let events = bench.client.events(&id).await;
        let offsets: Vec<i32> = events.iter().map(|(offset, ..)| *offset).collect();
        assert_eq!(offsets, (0..i32::try_from(events.len()).unwrap()).collect::<Vec<_>>(), "{place}");
        let count = |kind: &str| events.iter().filter(|(.., its)| its == kind).count();
        assert_eq!(count("execution:created"), 1, "{place}: {events:?}");
        assert!((1..=2).contains(&count("flow:started")) && count("flow:completed") >= 1, "{place}: {events:?}");
        let read = "SELECT count(*) FROM dbos.notifications WHERE destination_uuid = $1 AND NOT consumed";
        assert!(bench.client.comes_true(read, &[&id], 0).await, "{place}");
    }
}

/// Emits two events, with a listener each.
fn family() -> Json {
    let event = |name: &str| [("eventName", json!(name))];
    FlowBuilder::new("family")
        .node("first", "EventEmitterNode", &event("one"))
        .node("second", "EventEmitterNode", &event("other"))
        .node("on-one", "EventListenerNodeV2", &event("one"))
        .node("on-other", "EventListenerNodeV2", &event("other"))
        .build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_may_be_killed_between_any_two_durable_statements() {
    let bench = Bench::with(|ledger| {
        let held = FlowBuilder::new("held").get("hold", ledger).build();
        vec![reporting("work", ledger), echo("echo"), family(), held]
    })
    .await;
    let only = std::env::var("FAILPOINT").ok();
    let chosen = walks().into_iter().filter(|walk| only.as_deref().is_none_or(|only| walk.point.name() == only));
    let began = std::time::Instant::now();
    let walked: Vec<()> = stream::iter(chosen).map(|walk| walk.play(&bench)).buffer_unordered(AT_ONCE).collect().await;
    assert!(!walked.is_empty(), "there is no such place");
    eprintln!("{} places in {:.0?}", walked.len(), began.elapsed());
}

/// An error is never the end of it: the next look is there within a second, and it is told once.
#[tokio::test]
async fn a_sweep_that_fails_is_repeated_until_it_works() {
    let bench = Bench::with(|_| vec![echo("echo")]).await;
    // The first look is that of the start.
    let settings = [("worker.lease", "2s"), ("failpoints", "recovery.before=error@2")];
    let worker = WorkerProcess::with_failpoints(&bench.database.url(), "w1", &settings);
    worker.says("serving").await;
    bench.client.enqueue("EX1", "echo", json!({})).await;
    let taken = "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = 'lost', owner_xid = 'gone',
                        started_at_epoch_ms = 1 WHERE workflow_uuid = 'EX1' AND status = 'ENQUEUED'";
    if bench.client.execute(taken, &[]).await == 1 {
        let die = "INSERT INTO fireflow_workers (id, incarnation, expires_at, state)
                   VALUES ('lost', gen_random_uuid(), now(), 'running')";
        bench.client.execute(die, &[]).await;
    }
    worker.says("can't look for dead workers; trying again until it works").await;
    worker.says("recovery works again").await;
    bench.client.until("EX1", "SUCCESS").await;
    assert!(worker.stop().await.success());
}
