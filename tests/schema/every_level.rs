//! Every statement of the worker, on every level that it may meet: what it writes is where the clients of that level look,
//! and it notices by itself that somebody has brought the schema forward.

use std::time::Duration;

use fireflow_worker::sysdb::doctor::{Examiner, Subject};
use fireflow_worker::sysdb::grants::{Purpose, Room};
use fireflow_worker::sysdb::operator::{Again, Filter, Fork, Operator, Outcome, Signal, Status, Unpaused};
use fireflow_worker::sysdb::retention::{Cursor, Retention, Walk};
use fireflow_worker::sysdb::schema::{SchemaName, app, ensure};
use fireflow_worker::sysdb::{
    Accounts, Append, Cause, Checkpoint, ChildStart, Claim, ClaimScope, Claimed, CommitError, Dead, EnqueueError,
    Enqueued, Finish, NewWorkflow, Notifier, Owner, PartitionLimits, QueueLimits, RateLimit, Receive, Reconcile,
    Registration, Rows, StepRecord, Suspicion, SystemDatabase, Taken, WorkflowId, Write, Writer, WriterHandle,
};
use serde_json::json;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::support::TestDatabase;

const QUEUE: &str = "levels";
const APPLICATION: &str = "app";

/// Take a fresh schema back to level 100.
pub async fn back_to_100(client: &mut Client) {
    ensure(client, &SchemaName::default()).await.unwrap();
    client.batch_execute(include_str!("level_100.sql")).await.unwrap();
}

/// Bring the schema from the level below to this one, by that level's file alone.
pub async fn step_to(client: &Client, level: i64) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/system");
    let number = format!("{level:04}_");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files = files.filter(|file| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(&number) && !name.ends_with("_baseline.sql")
    });
    let sql = std::fs::read_to_string(files.next().unwrap()).unwrap();
    assert!(files.next().is_none(), "one file a level");
    client.batch_execute(&sql.replace("{schema}", "\"dbos\"")).await.unwrap();
    client.execute("UPDATE dbos.dbos_migrations SET version = $1", &[&level]).await.unwrap();
}

#[tokio::test]
async fn all_statements_hold_on_every_level_from_100_on() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    back_to_100(&mut client).await;
    app::ensure(&mut client, &"fireflow_".parse().unwrap(), app::Part::Executions).await.unwrap();
    let stop = CancellationToken::new();
    let pool = database.pool().await;
    let sysdb = SystemDatabase::new(pool.clone(), SchemaName::default());
    let (notifier, notify) = Notifier::new(sysdb.clone(), stop.clone());
    let (writer, mut writers) = Writer::several(1, &sysdb, &notifier);
    let write = writers.remove(0);
    tokio::spawn(notify);
    tokio::spawn(write.run(stop.clone()));
    for level in 100..=125 {
        if level > 100 {
            step_to(&client, level).await;
            let changed = sysdb.look_again().await.unwrap();
            assert_eq!(changed, [101, 103, 104, 108, 109, 121, 123].contains(&level), "level {level}");
        }
        let standing = sysdb.standing().await.unwrap().unwrap();
        assert_eq!((standing.level, standing.has_payload_tables()), (level, level >= 109));
        assert_eq!(standing.shortfall().is_some(), level < 123);
        // What this worker has known since the step before, and what one knows that starts now.
        for (sysdb, who) in [(&sysdb, "old"), (&SystemDatabase::new(pool.clone(), SchemaName::default()), "new")] {
            let play = Play { level, who, sysdb, writer: &writer, sql: &client };
            play.queues().await;
            play.versions().await;
            play.enqueue().await;
            play.run().await;
            play.partitions().await;
            play.hand_over().await;
            play.examine().await;
            play.retention().await;
            play.operate().await;
        }
    }
    // And back, as after a failover to a server that hasn't got so far: the statement that fails makes it look again.
    let play = Play { level: 108, who: "back", sysdb: &sysdb, writer: &writer, sql: &client };
    play.versions().await;
    let (id, key) = (play.id("main"), play.name("key"));
    sysdb.enqueue(&workflow(&id, &key, "[1]")).await.unwrap();
    let claim = Claim { queue: QUEUE, rows: Rows::All, limit: 9, concurrency: None, rate: None };
    let owner = play.claim_one(&claim).await.owner;
    let back = "DROP TABLE dbos.workflow_input, dbos.workflow_output; UPDATE dbos.dbos_migrations SET version = 108";
    client.batch_execute(back).await.unwrap();
    play.commit(&owner, vec![Write::Finish(Finish { outcome: Ok("7".into()), legacy: false })]).await.unwrap();
    let output = "SELECT output FROM dbos.workflow_status WHERE workflow_uuid = $1";
    assert_eq!(play.text(output, &id).await.as_deref(), Some("7"));
    stop.cancel();
}

struct Play<'a> {
    level: i64,
    who: &'a str,
    sysdb: &'a SystemDatabase,
    writer: &'a WriterHandle,
    sql: &'a Client,
}

fn scope(executor: &str, version: &str) -> ClaimScope {
    ClaimScope {
        executor: executor.into(),
        application: APPLICATION.into(),
        version: version.into(),
        workflows: vec!["work".into()],
        class: "Works".into(),
        formats: vec!["portable_json".into()],
        max_input: 1 << 20,
        accounts: None,
    }
}

fn workflow<'n>(id: &WorkflowId, key: &'n str, inputs: &str) -> NewWorkflow<'n> {
    NewWorkflow {
        id: id.clone(),
        name: "work",
        class: "Works",
        queue: QUEUE,
        application: APPLICATION,
        inputs: inputs.into(),
        timeout_ms: None,
        deduplication_id: Some(key),
    }
}

impl Play<'_> {
    fn name(&self, what: &str) -> String {
        format!("{what}-{}-{}", self.level, self.who)
    }

    fn id(&self, what: &str) -> WorkflowId {
        WorkflowId::new(self.name(what))
    }

    async fn registered(&self, queue: &str) -> Option<QueueLimits> {
        let mut outlook = self.sysdb.outlook(&self.scope(), &[queue.to_owned()], &[]).await.unwrap();
        outlook.queues.remove(0).registered
    }

    fn scope(&self) -> ClaimScope {
        scope(&self.name("executor"), &self.name("v"))
    }

    /// One text of one row, or null.
    async fn text(&self, sql: &str, id: &WorkflowId) -> Option<String> {
        self.sql.query_opt(sql, &[&id.as_str()]).await.unwrap().and_then(|row| row.get(0))
    }

    async fn queues(&self) {
        let name = self.name("queue");
        let insert =
            "INSERT INTO dbos.queues (name, concurrency, worker_concurrency, rate_limit_max, rate_limit_period_sec,
                      partition_queue) VALUES ($1, 7, 3, 5, 2, true)";
        self.sql.execute(insert, &[&name]).await.unwrap();
        let limits = self.registered(&name).await.unwrap();
        let rate = Some(RateLimit { max: 5, period: Duration::from_secs(2) });
        // The generation before the payload tables goes by the flag: its limits are those of each partition.
        if self.level < 109 {
            let own = PartitionLimits { concurrency: Some(7), worker_concurrency: Some(3), rate };
            assert_eq!((limits.concurrency, limits.worker_concurrency, limits.rate), (None, None, None));
            assert_eq!(limits.partition, Some(own));
        } else {
            assert_eq!((limits.concurrency, limits.worker_concurrency, limits.rate), (Some(7), Some(3), rate));
            assert_eq!(limits.partition, None);
        }
        if self.level >= 108 {
            self.sql
                .execute("UPDATE dbos.queues SET partition_concurrency = 2 WHERE name = $1", &[&name])
                .await
                .unwrap();
            let limits = self.registered(&name).await.unwrap();
            assert_eq!((limits.concurrency, limits.partition.unwrap().concurrency), (Some(7), Some(2)));
        }
        if self.level >= 101 {
            let other = "UPDATE dbos.queues SET application_name = 'other' WHERE name = $1";
            self.sql.execute(other, &[&name]).await.unwrap();
            assert_eq!(self.registered(&name).await, None);
        }
        assert_eq!(self.registered("none").await, None);
    }

    async fn versions(&self) {
        let version = self.name("v");
        assert_eq!(self.sysdb.register_version(&version, APPLICATION).await.unwrap(), Registration::Ours);
        let other = self.sysdb.register_version(&version, "other").await.unwrap();
        // Before versions have owners they are there for all.
        let owned = self.level >= 103;
        assert_eq!(other, if owned { Registration::OwnedBy(APPLICATION.into()) } else { Registration::Ours });
        // The newest one is ours, also within one millisecond.
        let newest = "UPDATE dbos.application_versions SET version_timestamp = 1 + (SELECT max(version_timestamp)
                        FROM dbos.application_versions) WHERE version_name = $1";
        self.sql.execute(newest, &[&version]).await.unwrap();
    }

    async fn enqueue(&self) {
        let (id, key) = (self.id("main"), self.name("key"));
        let new = workflow(&id, &key, "[1]");
        assert_eq!(self.sysdb.enqueue(&new).await.unwrap(), Enqueued::New);
        assert_eq!(
            self.sysdb.enqueue(&NewWorkflow { inputs: "[2]".into(), ..new.clone() }).await.unwrap(),
            Enqueued::Known
        );
        let conflict = self.sysdb.enqueue(&NewWorkflow { name: "other", ..new.clone() }).await.unwrap_err();
        assert!(matches!(conflict, EnqueueError::Conflict { .. }), "{conflict}");
        let duplicate = self.sysdb.enqueue(&NewWorkflow { id: self.id("second"), ..new }).await.unwrap_err();
        assert!(matches!(duplicate, EnqueueError::Duplicate(_)), "{duplicate}");
        self.has_inputs(&id, "[1]").await;
        assert_eq!(self.sysdb.workflow(&id).await.unwrap().unwrap().status, "ENQUEUED");
    }

    /// That inputs are where clients of this level look, and nowhere else.
    async fn has_inputs(&self, id: &WorkflowId, inputs: &str) {
        let there = self.text("SELECT inputs FROM dbos.workflow_status WHERE workflow_uuid = $1", id).await;
        let apart = match self.level {
            ..109 => None,
            _ => self.text("SELECT inputs FROM dbos.workflow_input WHERE workflow_uuid = $1", id).await,
        };
        let expected = if self.level < 109 { (Some(inputs.to_owned()), None) } else { (None, Some(inputs.to_owned())) };
        assert_eq!((there, apart), expected, "{id}");
    }

    async fn claim_one(&self, claim: &Claim<'_>) -> Claimed {
        let claimed = self.sysdb.claim(&self.scope(), claim).await.unwrap().unwrap();
        let [claimed] = <[Claimed; 1]>::try_from(claimed).unwrap_or_else(|rows| panic!("{}: {rows:?}", self.name("")));
        claimed
    }

    async fn commit(&self, owner: &Owner, writes: Vec<Write>) -> Result<Option<String>, CommitError> {
        let received = self.writer.commit(Checkpoint { owner: owner.clone(), writes: writes.into() }).await?;
        Ok(received.map(|message| message.value))
    }

    /// A workflow's whole life: steps, a stream, a message, a child, the outcomes of both.
    async fn run(&self) {
        let limit = Claim { queue: QUEUE, rows: Rows::All, limit: 9, concurrency: None, rate: None };
        let (id, child) = (self.id("main"), self.id("child"));
        let claimed = self.claim_one(&limit).await;
        assert_eq!((&claimed.owner.id, claimed.inputs.as_deref(), claimed.inputs_size), (&id, Some("[1]"), 3));
        assert_eq!((claimed.legacy, claimed.has_history), (self.level < 109, false));
        let legacy = claimed.legacy;
        let owner = claimed.owner;

        assert!(self.sysdb.send(&id, "topic", &json!("GO")).await.unwrap());
        assert!(!self.sysdb.send(&self.id("nobody"), "topic", &json!("GO")).await.unwrap());
        let waiting = [(id.clone(), "topic".to_owned()), (id.clone(), "other".to_owned())];
        assert_eq!(self.sysdb.with_mail(&waiting).await.unwrap(), waiting[..1]);
        let step = StepRecord {
            function_id: 0,
            name: "step".into(),
            output: Some("1".into()),
            error: None,
            serialization: Some("portable_json".into()),
            child: None,
            started_at: 1,
            completed_at: 2,
        };
        let append = Append {
            key: "out".into(),
            values: vec!["\"a\"".into(), "\"b\"".into()],
            function_id: 0,
            serialization: Some("portable_json"),
        };
        let receive = Receive { topic: "topic".into(), function_id: 1, started_at: 3, completed_at: 4 };
        let start = ChildStart {
            id: child.as_str().into(),
            queue: QUEUE.into(),
            inputs: "[3]".into(),
            serialization: "portable_json",
            legacy,
        };
        let writes =
            vec![Write::Step(step.clone()), Write::Append(append), Write::Receive(receive), Write::Start(start)];
        assert_eq!(self.commit(&owner, writes).await.unwrap().as_deref(), Some("\"GO\""));
        let again = self.commit(&owner, vec![Write::Step(StepRecord { completed_at: 5, ..step.clone() })]).await;
        assert!(matches!(again, Err(CommitError::Nondeterminism { function_id: 0 })), "{again:?}");
        let history = self.sysdb.history(std::slice::from_ref(&id)).await.unwrap().remove(&id).unwrap();
        assert_eq!(history[0], step);
        assert_eq!((history[1].name.as_str(), history[1].output.as_deref()), ("DBOS.recv", Some("\"GO\"")));
        if self.level >= 104 {
            let owners =
                "SELECT string_agg(application_name, ' ') FROM dbos.operation_outputs WHERE workflow_uuid = $1";
            assert_eq!(self.text(owners, &id).await.as_deref(), Some("app app"));
        }
        if self.level >= 121 {
            let consumer = "SELECT consumed_by_function_id::text FROM dbos.notifications WHERE destination_uuid = $1";
            assert_eq!(self.text(consumer, &id).await.as_deref(), Some("1"));
        }
        assert_eq!(self.sysdb.stream(&id, "out", 1).await.unwrap(), ["\"b\""]);

        self.has_inputs(&child, "[3]").await;
        let rate = Some(RateLimit { max: 1000, period: Duration::from_secs(60) });
        let limit = Claim { concurrency: Some(2), rate, ..limit };
        let claimed = self.claim_one(&limit).await;
        assert_eq!((&claimed.owner.id, claimed.inputs.as_deref()), (&child, Some("[3]")));
        let finish = |outcome| vec![Write::Finish(Finish { outcome, legacy })];
        self.commit(&claimed.owner, finish(Err("oh".into()))).await.unwrap();
        let late = self.commit(&claimed.owner, finish(Ok("late".into()))).await;
        assert!(matches!(late, Err(CommitError::OwnershipLost)), "{late:?}");
        assert_eq!(self.sysdb.ended(&[id.clone(), child.clone()]).await.unwrap(), std::slice::from_ref(&child));
        assert_eq!(self.sysdb.astray(std::slice::from_ref(&owner)).await.unwrap(), []);
        self.commit(&owner, finish(Ok("9".into()))).await.unwrap();
        for (id, output, error) in [(&id, Some("9"), None), (&child, None, Some("oh"))] {
            let view = self.sysdb.workflow(id).await.unwrap().unwrap();
            assert_eq!((view.output.as_deref(), view.error.as_deref()), (output, error));
            let there = "SELECT coalesce(output, error) FROM dbos.workflow_status WHERE workflow_uuid = $1";
            let there = self.text(there, id).await;
            assert_eq!(there.as_deref(), if legacy { output.or(error) } else { None });
        }
    }

    async fn partitions(&self) {
        let enqueue = "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, application_name,
                       queue_partition_key, inputs, parent_workflow_id) VALUES ($1, 'ENQUEUED', 'work', $2, $3, $4, '[]', $5)";
        let queue = self.name("partitioned");
        for (id, key, parent) in [("k1", Some("k"), None), ("k2", Some("k"), None), ("keyless", None, Some("p"))] {
            let id = self.name(id);
            self.sql.execute(enqueue, &[&id, &queue, &APPLICATION, &key, &parent]).await.unwrap();
        }
        let mine = self.scope();
        assert_eq!(self.sysdb.partitions(&mine, &queue, Some(1), 9).await.unwrap(), ["k"]);
        let heads = self.sysdb.claim_heads(&mine, &queue, 9).await.unwrap();
        let [head] = heads.as_slice() else { panic!("{heads:?}") };
        assert_eq!((head.owner.id.clone(), head.legacy), (self.id("k1"), true));
        let claim = Claim { queue: &queue, rows: Rows::Keyless, limit: 9, concurrency: Some(2), rate: None };
        assert_eq!(self.claim_one(&claim).await.owner.id, self.id("keyless"));
        let rate = Some(RateLimit { max: 1000, period: Duration::from_secs(60) });
        let limits = PartitionLimits { concurrency: Some(2), worker_concurrency: None, rate };
        let rows = Rows::Partition { key: "k", limits: &limits };
        let claim = Claim { queue: &queue, rows, limit: 9, concurrency: None, rate: None };
        assert_eq!(self.claim_one(&claim).await.owner.id, self.id("k2"));
    }

    /// Rows that are taken away, given back, parked and swept.
    async fn hand_over(&self) {
        let (id, key) = (self.id("handed"), self.name("handed"));
        self.sysdb.enqueue(&workflow(&id, &key, "[]")).await.unwrap();
        let claim = Claim { queue: QUEUE, rows: Rows::All, limit: 9, concurrency: None, rate: None };
        let owner = self.claim_one(&claim).await.owner;
        let executor = self.name("executor");
        assert_eq!(self.sysdb.release(std::slice::from_ref(&owner)).await.unwrap(), 1);
        assert_eq!(self.sysdb.release(std::slice::from_ref(&owner)).await.unwrap(), 0);
        assert!(!self.sysdb.dead_letter(&owner, &[]).await.unwrap());

        let owner = self.claim_one(&claim).await.owner;
        assert_eq!(self.sysdb.release_stranded(&executor, APPLICATION, std::slice::from_ref(&owner)).await.unwrap(), 0);
        let long_ago = "UPDATE dbos.workflow_status SET started_at_epoch_ms = 1 WHERE workflow_uuid = $1";
        self.sql.execute(long_ago, &[&id.as_str()]).await.unwrap();
        // Not what this one claimed: an executor that leaves our token in a row that it claims says when.
        let lost = self.sysdb.astray(std::slice::from_ref(&owner)).await.unwrap();
        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].cause, Cause::Lost(Some("PENDING".into())));
        assert!(!self.sysdb.dead_letter(&owner, &[]).await.unwrap());
        assert_eq!(self.sysdb.release(std::slice::from_ref(&owner)).await.unwrap(), 0);
        let outcome = self.commit(&owner, vec![Write::Finish(Finish { outcome: Ok("1".into()), legacy: true })]).await;
        assert!(matches!(outcome, Err(CommitError::OwnershipLost)), "{outcome:?}");
        // The partitions' rows are running still, and just as stranded.
        assert_eq!(self.sysdb.release_stranded(&executor, APPLICATION, &[]).await.unwrap(), 1);

        self.claim_one(&claim).await;
        let (scope, accounts) = (self.scope(), Accounts::new(&"fireflow_".parse().unwrap(), 9));
        let reconcile = Reconcile { accounts: &accounts, scope: &scope, worked: "all" };
        let adopted = [executor];
        let adopt = Dead::Adopted(&adopted);
        assert_eq!(
            self.sysdb.left_behind(&reconcile, adopt, &[]).await.unwrap(),
            [""; 0],
            "an executor doesn't adopt itself"
        );
        let other = ClaimScope { executor: "other".into(), ..scope.clone() };
        let others = Reconcile { scope: &other, ..reconcile.clone() };
        assert_eq!(self.sysdb.left_behind(&others, adopt, &[]).await.unwrap().len(), 4);
        let expired = Dead::Expired { alive: &[], gone: &[] };
        assert_eq!(self.sysdb.reconcile(&reconcile, expired, None, &[]).await.unwrap(), []);
        let present = uuid::Uuid::new_v4();
        let earlier = Dead::Earlier { present, incarnation: None, host: None, reason: Some("it died") };
        assert_eq!(self.sysdb.reconcile(&reconcile, earlier, None, &[]).await.unwrap(), [], "not without the id");
        let register =
            "INSERT INTO fireflow_workers (id, incarnation, expires_at, state) VALUES ($1, $2, now(), 'running')";
        self.sql.execute(register, &[&adopted[0], &present]).await.unwrap();
        let recovered = self.sysdb.reconcile(&reconcile, earlier, None, &[]).await.unwrap();
        self.sql.batch_execute("DELETE FROM fireflow_workers").await.unwrap();
        let handed = recovered.iter().find(|row| row.id == self.name("handed")).unwrap();
        assert_eq!((handed.crashes, handed.parked.as_deref(), recovered.len()), (Some(1), None, 4), "{recovered:?}");
        assert!(!self.sysdb.settle_accounts(&accounts).await.unwrap(), "one crash makes no suspect");
        let suspicious = |suspicion| ClaimScope { accounts: Some((accounts.clone(), suspicion)), ..self.scope() };
        assert!(self.sysdb.claim(&suspicious(Suspicion::Sought), &claim).await.unwrap().unwrap().is_empty());
        let count = "UPDATE fireflow_crashes SET crashes = 2 WHERE workflow_id = $1";
        assert_eq!(self.sql.execute(count, &[&id.as_str()]).await.unwrap(), 1);
        assert!(self.sysdb.settle_accounts(&accounts).await.unwrap());
        assert!(self.sysdb.claim(&suspicious(Suspicion::Avoided), &claim).await.unwrap().unwrap().is_empty());
        let sought = self.sysdb.claim(&suspicious(Suspicion::Sought), &claim).await.unwrap().unwrap();
        assert_eq!(sought.len(), 1);
        assert_eq!(self.sysdb.release(&[sought[0].owner.clone()]).await.unwrap(), 1);

        let owner = self.claim_one(&claim).await.owner;
        assert!(self.sysdb.dead_letter(&owner, &[]).await.unwrap());
        let cancel = "UPDATE dbos.workflow_status SET status = 'CANCELLED' WHERE workflow_uuid = $1";
        self.sql.execute(cancel, &[&id.as_str()]).await.unwrap();
        let write = |taken| {
            assert_eq!(taken, Taken::Cancelled);
            fireflow_worker::sysdb::ApplicationWrite {
                statement: "SELECT $1::jsonb".into(),
                row: json!({}),
                merges: false,
            }
        };
        assert!(self.sysdb.settle(&id, write).await.unwrap());

        let sweep = "INSERT INTO dbos.workflow_status (workflow_uuid, status, queue_name, delay_until_epoch_ms,
                     workflow_deadline_epoch_ms) VALUES ($1 || 'd', 'DELAYED', 'none', 1, NULL), ($1, 'ENQUEUED', 'none', NULL, 1)";
        self.sql.execute(sweep, &[&self.name("swept")]).await.unwrap();
        assert_eq!(self.sysdb.release_delayed(APPLICATION).await.unwrap(), 1);
        assert_eq!(self.sysdb.cancel_expired(APPLICATION).await.unwrap(), 1);
        let theirs = "INSERT INTO dbos.workflow_status (workflow_uuid, status, queue_name, executor_id)
                      VALUES ($1, 'PENDING', $1, 'sdk')";
        let queue = self.name("theirs");
        self.sql.execute(theirs, &[&queue]).await.unwrap();
        assert_eq!(self.sysdb.tokenless_executors(&queue).await.unwrap(), ["sdk"]);
    }

    /// What the doctor asks.
    async fn examine(&self) {
        let subject = Subject {
            application: APPLICATION.into(),
            version: self.name("v"),
            workflow: "work".into(),
            class: "Works".into(),
            formats: vec!["portable_json".into()],
            queues: vec![QUEUE.into(), self.name("queue")],
            patience: Duration::ZERO,
        };
        let prefix = "fireflow_".parse().unwrap();
        let examiner = Examiner::new(self.sysdb.clone(), prefix, subject, Duration::from_secs(60), 1000);
        for purpose in [Purpose::Worker, Purpose::Retention] {
            assert_eq!(examiner.lacking(purpose.grants(), &[Room::System, Room::Executions]).await.unwrap(), [""; 0]);
        }
        let missing = examiner.indexes(self.level).await.unwrap();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(examiner.tables().await.unwrap().iter().any(|table| table.name == "workflow_status"));
        assert!(examiner.finished(-1000).await.unwrap().count > 0);
        let with_tables = examiner.orphans(1000).await.unwrap();
        assert!(with_tables.is_empty(), "{with_tables:?}");
        assert_eq!(examiner.latest_version().await.unwrap().unwrap().name, self.name("v"));
        // From level 101 on its owner is another application.
        let registered = examiner.registered().await.unwrap();
        assert_eq!(registered[0].owner.as_deref(), (self.level >= 101).then_some("other"));
        assert!(examiner.workers().await.unwrap().is_empty());
        for versions in [vec![], vec![self.name("v"), String::new()]] {
            assert!(examiner.waiting("q", &versions).await.unwrap().is_empty());
            examiner.strangers(&versions).await.unwrap();
            examiner.tokenless_executors("q").await.unwrap();
        }
        assert!(examiner.overdue().await.unwrap().is_empty() && examiner.expired_deadlines().await.unwrap().is_empty());
        let held = examiner.held().await.unwrap();
        assert!(held.iter().any(|held| held.executor == "sdk" && !held.registered), "{held:?}");
        assert!(examiner.parked().await.unwrap().is_empty());
        let used = examiner.queues_in_use().await.unwrap();
        assert!(used.iter().any(|used| used.queue == self.name("partitioned") && used.count == 3), "{used:?}");
        assert!(examiner.crashed(9).await.unwrap().is_empty());
        assert!(examiner.old_pins().await.unwrap().is_empty() && examiner.old_contents().await.unwrap().is_empty());
    }

    /// What ended goes, with all that is its own, and nothing else.
    async fn retention(&self) {
        let retention = Retention {
            application: Some(APPLICATION.into()),
            workflow: "work".into(),
            statuses: vec!["SUCCESS".into()],
            before: self.sysdb.before_now(-60_000).await.unwrap(),
            executions: true,
            dry_run: true,
        };
        let prefix = "fireflow_".parse().unwrap();
        let remove = async |dry_run, walk| {
            let retention = Retention { dry_run, ..retention.clone() };
            self.sysdb.remove_ended(&retention, &prefix, walk, &Cursor::default(), 10_000).await.unwrap()
        };
        let dry = remove(true, Walk::Ended).await;
        assert_eq!(dry.workflows, [("SUCCESS".to_owned(), 1)], "{}", self.name("main"));
        let payloads = if self.level < 109 { 0 } else { 2 };
        assert_eq!((dry.removed.steps, dry.removed.stream_items, dry.removed.messages), (2, 2, 1));
        assert_eq!((dry.removed.payloads, dry.next), (payloads, None));
        let done = remove(false, Walk::Ended).await;
        assert_eq!((done.workflows, done.removed), (dry.workflows, dry.removed));
        assert!(self.sysdb.workflow(&self.id("main")).await.unwrap().is_none());
        assert!(self.sysdb.workflow(&self.id("child")).await.unwrap().is_some(), "it failed, and those stay");
        assert_eq!(remove(false, Walk::Undated).await.workflows, []);
        let tables = self.sysdb.orphaned_tables().await.unwrap();
        assert_eq!(
            tables.len(),
            match self.level {
                ..109 => 0,
                109 => 2,
                _ => 3,
            }
        );
        for table in tables {
            let (gone, _) =
                self.sysdb.remove_orphans(table, retention.before, false, &Cursor::default(), 10_000).await.unwrap();
            assert_eq!(gone, 0, "{table}");
        }
        assert_eq!(self.sysdb.remove_contents(&prefix, false, 10).await.unwrap(), 0);
    }

    /// What operators ask and do.
    async fn operate(&self) {
        let operator = Operator::new(self.sysdb, &"fireflow_".parse().unwrap(), APPLICATION);
        let (id, key, queue) = (self.id("operated"), self.name("operated-key"), self.name("operated-queue"));
        let new = NewWorkflow { queue: &queue, ..workflow(&id, &key, r#"{"positionalArgs":[{"flowId":"f"}]}"#) };
        assert_eq!(self.sysdb.enqueue(&new).await.unwrap(), Enqueued::New);
        let step = "INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, function_name, output)
                    SELECT $1, n, 'DBOS.recv', '1' FROM generate_series(0, 3) n";
        self.sql.execute(step, &[&id.as_str()]).await.unwrap();
        let message = json!("GO");
        assert!(self.sysdb.send(&id, "T", &message).await.unwrap());
        let ids = [id.as_str().to_owned()];

        let filter = Filter { queue: Some(queue.clone()), statuses: vec![Status::Queued], ..Filter::default() };
        let page = operator.list(&filter, None, 10).await.unwrap();
        assert_eq!((page.executions.len(), page.more), (1, false));
        assert!(page.executions[0].inputs.as_deref().is_some_and(|inputs| inputs.contains("flowId")), "{page:?}");
        let by_age =
            operator.list(&Filter { queue: Some(queue.clone()), ..Filter::default() }, None, 10).await.unwrap();
        assert_eq!(by_age.executions[0].id, id);
        let details = operator.details(&id, 5).await.unwrap();
        assert_eq!((details.step_count, details.unread.as_slice()), (4, &[("T".to_owned(), 1)][..]));

        let cancelled = operator.cancel_trees(&ids, &[]).await;
        assert!(cancelled.failed.is_none(), "{cancelled:?}");
        assert_eq!((cancelled.changed.len(), cancelled.changed[0].outcome), (1, Outcome::Done));
        assert!(operator.descendants(&ids, &Status::ALL).await.unwrap().is_empty());
        let signal = || Signal { topic: "T", message: &message };
        let marks = operator.marks(&ids, &["DBOS.recv"]).await.unwrap();
        assert_eq!(marks[id.as_str()], [(0, "DBOS.recv".to_owned(), true, false)], "the first of its kind");
        let was = operator.standings(&ids).await.unwrap()[id.as_str()].status.clone();
        let again = Again { id: ids[0].clone(), was, step: Some(1), queue: queue.clone(), partition: None };
        let rewound = operator.run_again(std::slice::from_ref(&again), &signal()).await.unwrap();
        assert_eq!(rewound[0].outcome, Outcome::Done);
        let rewound = operator.run_again(&[again], &signal()).await.unwrap();
        assert_eq!(rewound[0].outcome, Outcome::Changed, "it waits by now");
        assert_eq!(operator.next_step(&id).await.unwrap(), 1);
        assert_eq!(self.sysdb.unread(&id, "T", 10, 100).await.unwrap().len(), 1, "the old one went, the signal came");
        let fork = self.id("forked");
        let options = Fork {
            id: &fork,
            step: 1,
            queue: Some(&queue),
            partition: None,
            version: None,
            timeout_ms: Some(1000),
            signal: Some(signal()),
        };
        assert_eq!(operator.fork(&id, &options).await.unwrap().steps, 1);
        let taken = operator.list(&Filter { parent: Some("x".into()), ..filter.clone() }, None, 1).await.unwrap();
        assert!(taken.executions.is_empty());
        let forked = operator.named(&[fork.as_str().to_owned()]).await.unwrap().0;
        assert!(forked[0].inputs.as_deref().is_some_and(|inputs| inputs.contains("flowId")), "where it is looked for");
        assert_eq!(operator.resume(&ids, &[], Some(&queue)).await.unwrap()[0].outcome, Outcome::Done);
        assert!(operator.unserved_versions(&ids).await.unwrap().is_empty());
        assert!(operator.knows_queue(&queue).await.unwrap() && !operator.knows_queue("nobody's").await.unwrap());
        assert_eq!(operator.running(&queue).await.unwrap(), 0);

        let pause = operator.pause(&queue, "tests", None).await.unwrap();
        assert!(pause.new && !pause.pause.registered);
        let (reports, _) = operator.queues(std::slice::from_ref(&queue), &[]).await.unwrap();
        assert_eq!((reports[0].queued, reports[0].pause.is_some(), reports[0].oldest.is_some()), (2, true, true));
        assert!(operator.queues(&[], &[]).await.unwrap().0.len() > 1);
        assert_eq!(operator.unpause(&queue).await.unwrap(), Unpaused::Resumed);
        assert!(operator.workers("work").await.unwrap().0.iter().all(|worker| worker.incarnation.is_none()));
        assert!(operator.drain(None, false, "tests").await.unwrap().is_empty());
        let mut now = operator.now(Some(&queue)).await.unwrap();
        assert!(operator.news(&mut now).await.unwrap().0.is_empty());
        let cancelled = operator.cancel(&[id.as_str().to_owned(), fork.as_str().to_owned()], &[]).await;
        assert_eq!(cancelled.changed.len(), 2);
        assert_eq!(operator.news(&mut now).await.unwrap().0.len(), 2, "both ended");
    }
}
