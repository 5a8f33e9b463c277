//! Schemas from the time when each language's SDK counted for itself are brought to what the newest SDK makes of them,
//! by what is there; whatever interrupts it.

use std::process::Command;

use fireflow_worker::sysdb::schema::{Advanced, Error, SchemaName, State, advance, ensure, inspect, plan_forward};
use serde_json::Value;
use tokio_postgres::Client;

use super::forward::{assert_kept, assert_same, fresh, level, rows, until};
use crate::sdk::{self, Lang};
use crate::support::TestDatabase;
use crate::support::worker::program;
use crate::{dbos_python, describe};

/// The level of the SDK that Fireflow's own worker was made with.
const FIREFLOW: i64 = 28;

/// Nobody migrates this database.
const UNLOCKED: &str = "SELECT 1 WHERE NOT EXISTS (
    SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
     WHERE locktype = 'advisory' AND datname = current_database())";

/// Make schemas by an SDK's own migrations, up to a level or all: `name=level`, `name`. False where there is no SDK.
fn make(lang: Lang, database: &TestDatabase, schemas: &[String]) -> bool {
    let Some(runtime) = sdk::available(lang) else { return false };
    let mut command = Command::new(&runtime.program);
    command.arg(runtime.folder.join("levels.mjs")).arg(database.url()).arg(runtime.package).args(schemas);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

fn schema(name: &str) -> SchemaName {
    name.parse().unwrap()
}

/// As `describe`, with the schema's name taken for `dbos`.
async fn described(client: &Client, name: &str) -> Vec<String> {
    let lines = describe(client, name).await;
    let mut lines: Vec<String> = lines.iter().map(|line| line.replace(&format!("{name}."), "dbos.")).collect();
    lines.sort_unstable();
    lines
}

/// Rows in every table of a schema at level 28, of every status.
async fn fill(client: &Client, name: &str) {
    let sql = "
        INSERT INTO {s}.workflow_status (workflow_uuid, status, name, class_name, queue_name, inputs, output, error,
                                         executor_id, created_at, updated_at, deduplication_id, authenticated_roles)
        SELECT 'w' || n, (ARRAY['ENQUEUED', 'PENDING', 'SUCCESS', 'ERROR', 'CANCELLED'])[1 + n % 5], 'work', 'C', 'q',
               '{\"json\":[\"ünï ' || n || '\"]}', repeat('x', n * 400), CASE WHEN n % 5 = 3 THEN '{}' END,
               'local', 1000 + n, 2000 + n, CASE WHEN n % 5 = 0 THEN 'd' || n END, '[]'
          FROM generate_series(1, 200) n;
        INSERT INTO {s}.operation_outputs (workflow_uuid, function_id, function_name, output, child_workflow_id,
                                           started_at_epoch_ms)
        SELECT 'w' || n, f, 'step', repeat('o', f), CASE WHEN f = 2 THEN 'w1' END, 5
          FROM generate_series(1, 200) n, generate_series(0, 3) f;
        INSERT INTO {s}.notifications (message_uuid, destination_uuid, topic, message, created_at_epoch_ms)
        SELECT 'm' || n, 'w' || n, 'START_SIGNAL', '\"GO\"', n FROM generate_series(1, 50) n;
        INSERT INTO {s}.workflow_events (workflow_uuid, key, value) SELECT 'w' || n, 'k', '1' FROM generate_series(1, 50) n;
        INSERT INTO {s}.streams (workflow_uuid, key, value, \"offset\")
        SELECT 'w1', 'events', '{}', n FROM generate_series(0, 50) n;
        INSERT INTO {s}.event_dispatch_kv (service_name, workflow_fn_name, key, value, update_seq) VALUES ('a', 'b', 'c', 'd', 1)";
    client.batch_execute(&sql.replace("{s}", name)).await.unwrap();
}

/// Rows as they are, without the time at which a step's row was altered.
async fn kept(client: &Client, name: &str) -> Vec<(String, Value)> {
    let mut rows = rows(client, name).await;
    for (_, row) in &mut rows {
        row.as_object_mut().unwrap().remove("retention_timestamp");
    }
    rows
}

/// What an upgrade by the TypeScript SDK leaves, with the two levels that only the Python SDK has so far.
async fn finish(client: &mut Client, name: &str) {
    let from_123 = Some(Advanced { from: 123, to: 125 });
    assert_eq!(advance(client, &schema(name), |_| {}).await.unwrap(), from_123);
}

#[tokio::test]
async fn fireflows_own_schema_becomes_what_the_newest_sdk_makes_of_it_and_keeps_its_rows() {
    let database = TestDatabase::new().await;
    if !make(Lang::TypeScript44, &database, &["ours".into(), "theirs".into()]) {
        return;
    }
    let mut client = database.client().await;
    for name in ["ours", "theirs"] {
        fill(&client, name).await;
    }
    let before = rows(&client, "ours").await;
    // Nothing but a migration touches it.
    let refused = ensure(&mut client, &schema("ours")).await.unwrap_err();
    assert!(matches!(refused, Error::Older { level: FIREFLOW, .. }), "{refused}");
    assert!(refused.to_string().contains("fireflow-worker migrate"), "{refused}");
    assert_eq!(rows(&client, "ours").await, before);

    let planned = plan_forward(&inspect(&client, &schema("ours")).await.unwrap(), &schema("ours")).unwrap();
    assert_eq!(rows(&client, "ours").await, before, "a plan changes nothing");
    let mut told = Vec::new();
    let advanced = advance(&mut client, &schema("ours"), |task| told.push(task.clone())).await.unwrap();
    assert_eq!(advanced, Some(Advanced { from: FIREFLOW, to: 125 }));
    for task in &told {
        let head = format!("{}, {}", task.name, if task.online { "online" } else { "in a transaction" });
        assert!(planned.iter().any(|line| line.starts_with(&head)), "{task:?} was not planned: {planned:#?}");
    }
    // Rows lie where they lay: nothing was rewritten.
    let after = rows(&client, "ours").await;
    assert_kept(&before, &after);

    assert!(make(Lang::TypeScript, &database, &["theirs".into()]));
    if let Some(newest) = dbos_python::programs(dbos_python::VERSION) {
        dbos_python::migrate(&newest, &database.url(), "theirs");
        let made = described(&client, "ours").await;
        assert_same(&made, &described(&client, "theirs").await);
        assert_eq!(kept(&client, "ours").await, kept(&client, "theirs").await);
        // Both SDKs find nothing to do.
        dbos_python::migrate(&newest, &database.url(), "ours");
        assert!(make(Lang::TypeScript, &database, &["ours".into()]));
        assert_same(&made, &described(&client, "ours").await);
        assert_eq!(rows(&client, "ours").await, after);
    }
    assert_eq!(advance(&mut client, &schema("ours"), |_| panic!("again")).await.unwrap(), None);
}

#[tokio::test]
async fn every_level_of_every_numbering_comes_to_the_same() {
    let database = TestDatabase::new().await;
    let newest: Vec<i64> = (8..=70).collect();
    let names = |kind: &str, levels: &[i64]| levels.iter().map(|n| format!("{kind}_{n}={n}")).collect::<Vec<_>>();
    if !make(Lang::TypeScript, &database, &names("ts", &newest)) {
        return;
    }
    assert!(make(Lang::TypeScript, &database, &["oracle".into()]));
    let mut client = database.client().await;
    finish(&mut client, "oracle").await;
    let oracle = described(&client, "oracle").await;
    for from in newest {
        let name = format!("ts_{from}");
        let advanced = advance(&mut client, &schema(&name), |_| {}).await;
        assert_eq!(advanced.unwrap_or_else(|error| panic!("{name}: {error}")), Some(Advanced { from, to: 125 }));
        assert_same(&described(&client, &name).await, &oracle);
    }

    let earlier = [8, 13, 20, 24, 26, 27, 28];
    assert!(make(Lang::TypeScript44, &database, &[names("own", &earlier), names("theirs", &earlier)].concat()));
    let theirs: Vec<String> = earlier.iter().map(|n| format!("theirs_{n}")).collect();
    assert!(make(Lang::TypeScript, &database, &theirs));
    for from in earlier {
        let (own, theirs) = (format!("own_{from}"), format!("theirs_{from}"));
        assert_eq!(
            advance(&mut client, &schema(&own), |_| {}).await.unwrap(),
            Some(Advanced { from, to: 125 }),
            "{own}"
        );
        finish(&mut client, &theirs).await;
        assert_same(&described(&client, &own).await, &described(&client, &theirs).await);
    }

    let Some(programs) = dbos_python::programs(dbos_python::VERSION) else { return };
    let levels: Vec<String> = (1..=47).map(|level: i64| level.to_string()).collect();
    let url = database.url();
    let arguments: Vec<&str> = std::iter::once(url.as_str()).chain(levels.iter().map(String::as_str)).collect();
    dbos_python::script(&programs, "schema/levels.py", &arguments);
    let fresh = fresh().await;
    for from in 1..=47 {
        let name = format!("level_{from}");
        let advanced = advance(&mut client, &schema(&name), |_| {}).await;
        assert_eq!(advanced.unwrap_or_else(|error| panic!("{name}: {error}")), Some(Advanced { from, to: 125 }));
        assert_same(&described(&client, &name).await, &described_lines(&fresh));
    }
}

fn described_lines(lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn a_run_that_ends_after_any_step_is_finished_by_the_next_one() {
    let database = TestDatabase::new().await;
    let count = 40;
    let names: Vec<String> = (0..count).map(|n| format!("run_{n}")).collect();
    if !make(Lang::TypeScript44, &database, &names) {
        return;
    }
    let mut client = database.client().await;
    fill(&client, "run_0").await;
    let before = rows(&client, "run_0").await;
    advance(&mut client, &schema("run_0"), |_| {}).await.unwrap();
    assert_kept(&before, &rows(&client, "run_0").await);
    let whole = described(&client, "run_0").await;
    for stop in 1..count {
        let name = schema(&format!("run_{stop}"));
        let mut other = database.client().await;
        let its = name.clone();
        let running = tokio::spawn(async move {
            let mut begun = 0;
            advance(&mut other, &its, |_| {
                begun += 1;
                assert!(begun <= stop, "stopped here");
            })
            .await
        });
        let stopped = running.await;
        assert!(stopped.is_err(), "the run goes further than {stop} steps");
        // The session ends with its client, and gives the lock back.
        until(&client, UNLOCKED).await;
        advance(&mut client, &name, |_| {}).await.unwrap();
        assert_same(&described(&client, name.name()).await, &whole);
    }
}

#[tokio::test]
async fn two_at_once_or_one_that_is_killed_leave_nothing_half_done() {
    let database = TestDatabase::new().await;
    if !make(Lang::TypeScript44, &database, &["dbos".into(), "twice".into()]) {
        return;
    }
    let twice = schema("twice");
    let (mut a, mut b) = (database.client().await, database.client().await);
    let (first, second) = tokio::join!(advance(&mut a, &twice, |_| {}), advance(&mut b, &twice, |_| {}));
    let mut outcomes = [first, second].map(Result::unwrap);
    outcomes.sort_unstable_by_key(Option::is_some);
    assert_eq!(outcomes, [None, Some(Advanced { from: FIREFLOW, to: 125 })]);

    // Somebody reads the streams for long, so the migration waits there; and is killed.
    let client = database.client().await;
    fill(&client, "dbos").await;
    let before = rows(&client, "dbos").await;
    a.batch_execute("BEGIN; SELECT FROM dbos.streams").await.unwrap();
    let mut run = program(&database.url()).arg("migrate").spawn().unwrap();
    until(&client, "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'dbos.streams'::regclass").await;
    run.kill().await.unwrap();
    a.batch_execute("COMMIT").await.unwrap();
    assert!(level(&client).await < 100);
    until(&client, UNLOCKED).await;
    let ended = program(&database.url()).arg("migrate").output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_kept(&before, &rows(&client, "dbos").await);
    let mut made = described(&client, "dbos").await;
    let mut other = described(&client, "twice").await;
    made.sort_unstable();
    other.sort_unstable();
    assert_same(&made, &other);
}

#[tokio::test]
async fn what_no_sdk_made_is_refused_by_name_and_old_rows_are_never_dropped() {
    let database = TestDatabase::new().await;
    if !make(Lang::TypeScript44, &database, &["typed".into(), "cut".into(), "filled".into(), "first=7".into()]) {
        return;
    }
    let mut client = database.client().await;
    client.batch_execute("ALTER TABLE typed.workflow_status ALTER COLUMN queue_name TYPE varchar(9)").await.unwrap();
    client.batch_execute("DROP TABLE cut.operation_outputs").await.unwrap();
    for (name, wrong) in [
        ("typed", "column workflow_status.queue_name is character varying(9), not text"),
        ("cut", "no table operation_outputs"),
        ("first", "no foreign key of workflow_events to workflow_status"),
    ] {
        let before = described(&client, name).await;
        let error = advance(&mut client, &schema(name), |_| panic!("begun")).await.unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
        assert!(matches!(inspect(&client, &schema(name)).await.unwrap(), State::Strange { .. }));
        assert_eq!(described(&client, name).await, before);
    }

    let sql = "INSERT INTO filled.workflow_status (workflow_uuid, status) VALUES ('w', 'SUCCESS');
               INSERT INTO filled.workflow_inputs VALUES ('w', '[1]')";
    client.batch_execute(sql).await.unwrap();
    advance(&mut client, &schema("filled"), |_| {}).await.unwrap();
    let inputs = client.query_one("SELECT inputs FROM filled.workflow_inputs", &[]).await.unwrap();
    assert_eq!(inputs.get::<_, &str>(0), "[1]");
    let gone = "SELECT to_regclass('filled.workflow_queue') IS NULL AND to_regclass('filled.scheduler_state') IS NULL";
    assert!(client.query_one(gone, &[]).await.unwrap().get::<_, bool>(0));
}
