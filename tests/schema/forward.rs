//! Older schemas are brought forward, when asked for, to what the newest SDK makes of them; whatever interrupts it.

use std::time::Duration;

use fireflow_worker::sysdb::schema::{
    Advanced, Error, Ready, SchemaName, State, advance, ensure, inspect, plan_forward,
};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::client::{QUEUE, SqlClient};
use crate::support::flows::echo;
use crate::support::worker::{WorkerProcess, program};
use crate::support::{TestDatabase, TestServer};
use crate::{dbos_python, describe};

const FROM_100: Option<Advanced> = Some(Advanced { from: 100, to: 125 });

/// A database with a schema at level 100 and some rows in it.
async fn at_100() -> TestDatabase {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    ensure(&mut client, &SchemaName::default()).await.unwrap();
    client.batch_execute(include_str!("level_100.sql")).await.unwrap();
    fill(&client, "dbos").await;
    database
}

/// Rows in all tables that a level alters, where this level has what they need.
async fn fill(client: &Client, schema: &str) {
    let sql = "
        INSERT INTO {s}.workflow_status (workflow_uuid, status, name, queue_name, inputs, output, serialization)
             VALUES ('done', 'SUCCESS', 'work', 'q', '[1]', '2', 'portable_json'),
                    ('new', 'ENQUEUED', 'work', 'q', '[3]', NULL, 'portable_json');
        INSERT INTO {s}.operation_outputs (workflow_uuid, function_id, function_name, output)
             VALUES ('done', 0, 'step', '4'), ('done', 1, 'step', NULL);
        INSERT INTO {s}.notifications (destination_uuid, topic, message) VALUES ('new', 't', '5');
        INSERT INTO {s}.queues (name, concurrency) VALUES ('q', 6);
        INSERT INTO {s}.application_versions (version_id, version_name) VALUES ('v', 'one'), ('w', 'two');
        INSERT INTO {s}.workflow_schedules (schedule_id, schedule_name, workflow_name, schedule, context)
             VALUES ('s', 'nightly', 'work', '0 0 * * *', '{}')";
    client.batch_execute(&sql.replace("{s}", &format!("\"{schema}\""))).await.unwrap();
}

/// All rows of the system tables but the level, by table.
pub async fn rows(client: &Client, schema: &str) -> Vec<(String, Value)> {
    let sql = "SELECT relname::text FROM pg_class
                WHERE relnamespace = $1::text::regnamespace AND relkind = 'r' AND relname <> 'dbos_migrations'
                ORDER BY 1";
    let mut rows = Vec::new();
    for table in client.query(sql, &[&format!("\"{schema}\"")]).await.unwrap() {
        let table: String = table.get(0);
        let sql = format!("SELECT to_jsonb(t) FROM \"{schema}\".{table} t ORDER BY ctid");
        rows.extend(client.query(&sql, &[]).await.unwrap().iter().map(|row| (table.clone(), row.get(0))));
    }
    rows
}

/// The rows are the same, but for columns that came.
pub fn assert_kept(before: &[(String, Value)], after: &[(String, Value)]) {
    assert_eq!(before.len(), after.len(), "{before:#?}\n{after:#?}");
    for ((table, before), (_, after)) in before.iter().zip(after) {
        for (column, value) in before.as_object().unwrap() {
            assert_eq!(after.get(column), Some(value), "{table}.{column}");
        }
    }
}

#[track_caller]
pub fn assert_same(ours: &[String], theirs: &[String]) {
    let only = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    let (extra, lacking) = (only(ours, theirs), only(theirs, ours));
    assert!(extra.is_empty() && lacking.is_empty(), "only ours: {extra:#?}\nonly theirs: {lacking:#?}");
    assert_eq!(ours.len(), theirs.len());
}

/// A schema as `ensure` makes it.
pub async fn fresh() -> Vec<String> {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    ensure(&mut client, &SchemaName::default()).await.unwrap();
    describe(&client, "dbos").await
}

pub async fn level(client: &Client) -> i64 {
    client.query_one("SELECT version FROM dbos.dbos_migrations", &[]).await.unwrap().get(0)
}

/// Wait until a query has an answer.
pub async fn until(client: &Client, sql: &str) {
    let answer = async {
        while client.query_opt(sql, &[]).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::support::worker::PATIENCE, answer).await.unwrap_or_else(|_| panic!("never: {sql}"));
}

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_shared_level_comes_to_what_a_fresh_schema_is() {
    let Some(programs) = dbos_python::programs(dbos_python::VERSION) else { return };
    let database = TestDatabase::new().await;
    let levels: Vec<String> = (100..=124).map(|level| level.to_string()).collect();
    let url = database.url();
    let arguments: Vec<&str> = std::iter::once(url.as_str()).chain(levels.iter().map(String::as_str)).collect();
    dbos_python::script(&programs, "schema/levels.py", &arguments);
    let mut client = database.client().await;

    let ours = at_100().await;
    let named = |lines: Vec<String>, schema: &str| {
        let (from, to) = (format!("{schema}."), "dbos.");
        let mut lines: Vec<String> = lines.iter().map(|line| line.replace(&from, to)).collect();
        lines.sort_unstable();
        lines
    };
    let theirs = named(describe(&client, "level_100").await, "level_100");
    assert_same(&named(describe(&ours.client().await, "dbos").await, "dbos"), &theirs);

    let fresh = named(fresh().await, "dbos");
    for from in 100..=124 {
        let name = format!("level_{from}");
        let schema: SchemaName = name.parse().unwrap();
        fill(&client, &name).await;
        let before = rows(&client, &name).await;
        assert_eq!(before.len(), 9);
        let mut told = Vec::new();
        let advanced = advance(&mut client, &schema, |task| told.push(task.name.clone())).await.unwrap();
        assert_eq!(advanced, Some(Advanced { from, to: 125 }));
        assert_eq!(told, (from + 1..=125).map(|level| format!("level {level}")).collect::<Vec<_>>());
        assert_kept(&before, &rows(&client, &name).await);
        assert_same(&named(describe(&client, &name).await, &name), &fresh);
        assert_eq!(advance(&mut client, &schema, |_| panic!("again")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_an_old_sdk_made_becomes_what_the_newest_makes_of_it_and_its_client_is_served() {
    let Some(old) = dbos_python::programs(dbos_python::OLD_VERSION) else { return };
    let Some(newest) = dbos_python::programs(dbos_python::VERSION) else { return };
    let (ours, theirs) = (TestDatabase::new().await, TestDatabase::new().await);
    for database in [&ours, &theirs] {
        dbos_python::migrate(&old, &database.url(), "dbos");
    }
    let client = ours.client().await;
    assert_eq!(level(&client).await, 108);
    let flow = echo("echo");
    let task = |id: &str| json!({"executionId": id, "flowId": "echo", "inputs": {"text": format!("from {id}")}});
    dbos_python::script(
        &old,
        "schema/old_client.py",
        &["enqueue", &ours.url(), "python", QUEUE, &task("python").to_string()],
    );
    let sql = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY[$2::text::json], workflow_id => 'sql')";
    client.query_one(sql, &[&QUEUE, &task("sql").to_string()]).await.unwrap();
    let before = rows(&client, "dbos").await;
    let legacy = "SELECT count(*) FROM dbos.workflow_status WHERE inputs IS NOT NULL";
    assert_eq!(client.query_one(legacy, &[]).await.unwrap().get::<_, i64>(0), 2);

    // Nothing but a migration alters it.
    let ready = ensure(&mut ours.client().await, &SchemaName::default()).await.unwrap();
    assert_eq!((ready, level(&client).await), (Ready { level: 108, created: false }, 108));
    let ended = program(&ours.url()).arg("migrate").output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    dbos_python::migrate(&newest, &theirs.url(), "dbos");
    assert_kept(&before, &rows(&client, "dbos").await);
    let made = describe(&client, "dbos").await;
    assert_same(&made, &describe(&theirs.client().await, "dbos").await);
    assert_same(&made, &fresh().await);

    let database = SqlClient::open(&ours).await;
    database.store(&flow).await;
    for id in ["python", "sql"] {
        database.create_execution(id, "echo").await;
    }
    let worker = WorkerProcess::start(&ours.url(), "w", &[]).await;
    for id in ["python", "sql"] {
        let row = database.until(id, "SUCCESS").await;
        let sql = "SELECT output FROM dbos.workflow_status WHERE workflow_uuid = $1";
        let output: Option<String> = client.query_one(sql, &[&id]).await.unwrap().get(0);
        assert!(output.is_some() && output == row.output, "{row:?}: {output:?}");
        // The old client reads nothing but that column.
        let read = dbos_python::script(&old, "schema/old_client.py", &["result", &ours.url(), id]);
        assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), row.result());
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn two_at_once_do_it_once_also_when_one_is_an_sdk() {
    let database = at_100().await;
    let schema = SchemaName::default();
    let (mut a, mut b) = (database.client().await, database.client().await);
    let (first, second) = tokio::join!(advance(&mut a, &schema, |_| {}), advance(&mut b, &schema, |_| {}));
    let mut outcomes = [first, second].map(Result::unwrap);
    outcomes.sort_unstable_by_key(Option::is_some);
    assert_eq!(outcomes, [None, FROM_100]);
    let fresh = fresh().await;
    assert_same(&describe(&a, "dbos").await, &fresh);
    // The lock is free again, for another session.
    let free: bool = a.query_one("SELECT pg_try_advisory_lock(1234567890)", &[]).await.unwrap().get(0);
    assert!(free);

    let Some(programs) = dbos_python::programs(dbos_python::VERSION) else { return };
    let shared = at_100().await;
    let (mut client, url) = (shared.client().await, shared.url());
    let sdk = tokio::task::spawn_blocking(move || dbos_python::migrate(&programs, &url, "dbos"));
    let (ours, theirs) = tokio::join!(advance(&mut client, &schema, |_| {}), sdk);
    theirs.unwrap();
    ours.unwrap();
    assert_same(&describe(&client, "dbos").await, &fresh);
}

#[tokio::test]
async fn one_that_is_killed_in_a_transaction_leaves_the_level_before_and_is_run_again() {
    let database = at_100().await;
    let (admin, mut victim) = (database.client().await, database.client().await);
    let schema = SchemaName::default();
    let before = rows(&admin, "dbos").await;
    admin
        .batch_execute(
            "CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql
                 AS 'BEGIN PERFORM pg_advisory_xact_lock(42); END';
             CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION hold();
             SELECT pg_advisory_lock(42)",
        )
        .await
        .unwrap();
    let pid = pid(&victim).await;
    let kill = async {
        let waits = "SELECT 1 FROM pg_locks WHERE pid = {} AND locktype = 'advisory' AND objid = 42 AND NOT granted";
        until(&admin, &waits.replace("{}", &pid.to_string())).await;
        admin.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(advance(&mut victim, &schema, |_| {}), kill);
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Stopped { level: 109, .. }) && error.is_transient(), "{error}");
    until(&admin, "SELECT 1 WHERE pg_try_advisory_lock(1234567890)").await;
    admin
        .batch_execute("DROP EVENT TRIGGER hold; SELECT pg_advisory_unlock(42), pg_advisory_unlock(1234567890)")
        .await
        .unwrap();

    assert!(matches!(inspect(&admin, &schema).await.unwrap(), State::Older { level: 108, .. }));
    assert_kept(&before, &rows(&admin, "dbos").await);
    // What is there in between is in order: inputs have no table of their own yet.
    let sql =
        "SELECT dbos.enqueue_workflow('work', 'q', ARRAY['7'::json], workflow_id => 'x', application_name => 'app')";
    admin.query_one(sql, &[]).await.unwrap();
    let inputs =
        "SELECT inputs::jsonb FROM dbos.workflow_status WHERE workflow_uuid = 'x' AND application_name = 'app'";
    let inputs: Value = admin.query_one(inputs, &[]).await.unwrap().get(0);
    assert_eq!(inputs, json!({"positionalArgs": [7], "namedArgs": {}}));

    let advanced = advance(&mut database.client().await, &schema, |_| {}).await.unwrap();
    assert_eq!(advanced, Some(Advanced { from: 108, to: 125 }));
    assert_same(&describe(&admin, "dbos").await, &fresh().await);
    admin.query_one("SELECT dbos.enqueue_workflow('work', 'q', workflow_id => 'y')", &[]).await.unwrap();
    let inputs = "SELECT 1 FROM dbos.workflow_input WHERE workflow_uuid = 'y'";
    assert!(admin.query_opt(inputs, &[]).await.unwrap().is_some());
}

#[tokio::test]
async fn an_index_whose_build_was_interrupted_is_built_again() {
    let database = at_100().await;
    let (admin, other, mut victim) = (database.client().await, database.client().await, database.client().await);
    let schema = SchemaName::default();
    // An error leaves what is done, and lets go of the lock also without the end of the session.
    admin
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
             CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('DROP INDEX') EXECUTE FUNCTION refuse()",
        )
        .await
        .unwrap();
    let error = advance(&mut victim, &schema, |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Stopped { level: 114, .. }) && !error.is_transient(), "{error}");
    assert!(error.to_string().contains("level 114"), "{error}");
    assert_eq!(level(&admin).await, 113);
    admin.batch_execute("DROP EVENT TRIGGER refuse").await.unwrap();

    // A build waits for all who have written to the table.
    other.batch_execute("BEGIN; UPDATE dbos.workflow_status SET updated_at = 1").await.unwrap();
    let pid = pid(&victim).await;
    let kill = async {
        let waits = "SELECT 1 FROM pg_locks WHERE pid = {} AND locktype = 'virtualxid' AND NOT granted";
        until(&admin, &waits.replace("{}", &pid.to_string())).await;
        admin.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(advance(&mut victim, &schema, |_| {}), kill);
    assert!(matches!(outcome.unwrap_err(), Error::Stopped { level: 115, .. }));
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(level(&admin).await, 114);
    let invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid";
    let left: String = admin.query_one(invalid, &[]).await.unwrap().get(0);
    assert_eq!(left, "dbos.idx_workflow_status_in_flight_v2");

    let advanced = advance(&mut database.client().await, &schema, |_| {}).await.unwrap();
    assert_eq!(advanced, Some(Advanced { from: 114, to: 125 }));
    assert_same(&describe(&admin, "dbos").await, &fresh().await);
}

#[tokio::test]
async fn a_schema_is_recognised_while_another_process_brings_it_forward() {
    let database = at_100().await;
    let (other, admin, client) = (database.client().await, database.client().await, database.client().await);
    let schema = SchemaName::default();
    // Between a look at the columns and one at the level.
    other.batch_execute("BEGIN; LOCK TABLE dbos.dbos_migrations").await.unwrap();
    let pid = pid(&client).await;
    let forward = async {
        until(&admin, &format!("SELECT 1 FROM pg_locks WHERE pid = {pid} AND NOT granted")).await;
        let next = "ALTER TABLE dbos.queues ADD COLUMN application_name text;
                    UPDATE dbos.dbos_migrations SET version = 101; COMMIT";
        other.batch_execute(next).await.unwrap();
    };
    let (state, ()) = tokio::join!(inspect(&client, &schema), forward);
    assert!(matches!(state.as_ref().unwrap(), State::Older { level: 101, .. }), "{state:?}");
}

#[tokio::test]
async fn what_was_done_and_not_recorded_is_done_again_without_harm() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    let schema = SchemaName::default();
    ensure(&mut client, &schema).await.unwrap();
    fill(&client, "dbos").await;
    let before = (describe(&client, "dbos").await, rows(&client, "dbos").await);
    client.batch_execute("UPDATE dbos.dbos_migrations SET version = 100").await.unwrap();
    assert_eq!(advance(&mut client, &schema, |_| {}).await.unwrap(), FROM_100);
    assert_eq!((describe(&client, "dbos").await, rows(&client, "dbos").await), before);
}

#[tokio::test]
async fn who_reads_a_table_for_long_is_waited_for_without_holding_up_others() {
    let database = at_100().await;
    let (reader, admin, mut client) = (database.client().await, database.client().await, database.client().await);
    let schema = SchemaName::default();
    reader.batch_execute("BEGIN; SELECT * FROM dbos.queues").await.unwrap();
    let pid = pid(&client).await;
    let tries = async {
        let waiting = format!(
            "SELECT a.xact_start::text FROM pg_stat_activity a JOIN pg_locks l USING (pid)
              WHERE pid = {pid} AND NOT l.granted AND l.mode = 'AccessExclusiveLock'"
        );
        until(&admin, &waiting).await;
        let first: String = admin.query_one(&waiting, &[]).await.unwrap().get(0);
        // It lets go of its place in the queue, then tries again.
        until(&admin, &format!("{waiting} AND a.xact_start > '{first}'")).await;
        reader.batch_execute("COMMIT").await.unwrap();
    };
    let (advanced, ()) = tokio::join!(advance(&mut client, &schema, |_| {}), tries);
    assert_eq!(advanced.unwrap(), FROM_100);
}

#[tokio::test]
async fn what_can_not_be_brought_forward_stays_as_it_is() {
    let schema = SchemaName::default();
    for (change, reason) in [
        ("UPDATE dbos.dbos_migrations SET version = 28; DROP TABLE dbos.workflow_status CASCADE", "workflow_status"),
        ("DROP TABLE dbos.streams", "incomplete (table streams)"),
        ("ALTER TABLE dbos.workflow_status DROP COLUMN application_name", "(column workflow_status.application_name)"),
        ("ALTER TABLE dbos.workflow_status ADD COLUMN shard_key int", "is sharded"),
    ] {
        let database = at_100().await;
        let mut client = database.client().await;
        client.batch_execute(change).await.unwrap();
        let before = describe(&client, "dbos").await;
        let error = advance(&mut client, &schema, |_| panic!("{change}")).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        let planned = plan_forward(&inspect(&client, &schema).await.unwrap(), &schema).unwrap_err().to_string();
        assert_eq!(planned, error);
        assert_eq!(describe(&client, "dbos").await, before);
    }
    // Nor by somebody who may not.
    let database = at_100().await;
    let admin = database.client().await;
    let role = format!("poor_{}", &database.name()[5..13]);
    let rights = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA dbos TO {role};
         GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA dbos TO {role}"
    );
    admin.batch_execute(&rights).await.unwrap();
    let before = describe(&admin, "dbos").await;
    let url = format!("postgresql://{role}:x@127.0.0.1:{}/{}", TestServer::get().port(), database.name());
    let (mut poor, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let error = advance(&mut poor, &schema, |_| {}).await.unwrap_err();
    assert!(
        matches!(&error, Error::Stopped { level: 101, error, .. } if matches!(**error, Error::NotAllowed(_))),
        "{error}"
    );
    assert_eq!(describe(&admin, "dbos").await, before);
    admin.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn the_command_says_what_it_would_do_then_does_it_and_run_never_does() {
    let database = at_100().await;
    let client = database.client().await;
    let before = (describe(&client, "dbos").await, rows(&client, "dbos").await);
    let url = database.url();
    let ended = async |arguments: &[&str]| {
        let output = program(&url).args(arguments).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };

    let (code, out, _) = ended(&["migrate", "--dry-run"]).await;
    assert_eq!(code, 0, "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "level 101, in a transaction: ALTER TABLE \"dbos\".queues ADD COLUMN IF NOT EXISTS application_name text"
    );
    for level in 101..=125 {
        assert!(lines.iter().any(|line| line.starts_with(&format!("level {level}, "))), "{level}: {out}");
    }
    let dropped = "level 114, online: DROP INDEX CONCURRENTLY IF EXISTS \"dbos\".idx_notifications";
    assert!(lines.contains(&dropped) && lines.contains(&"CREATE TABLE fireflow_flows"), "{out}");

    let (code, out, err) = ended(&["check"]).await;
    assert!(code == 0 && out.contains("usable, at level 100"), "{out}");
    assert!(
        err.contains("warning: the system schema is at level 100: ") && err.contains("fireflow-worker migrate"),
        "{err}"
    );
    assert_eq!((describe(&client, "dbos").await, rows(&client, "dbos").await), before, "nothing has changed");
    let served = at_100().await;
    let worker = WorkerProcess::start(&served.url(), "w", &[]).await;
    assert!(worker.log().contains("the system schema is at level 100: "), "{}", worker.log());
    assert!(worker.stop().await.success());
    assert_eq!(describe(&served.client().await, "dbos").await, before.0, "it works on what is there");

    let (code, out, err) = ended(&["migrate"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("brought system schema dbos from level 100 to 125\ncreated table fireflow_flows\n"),
        "{out}"
    );
    assert!(
        err.contains("schema dbos: level 101: ") && err.contains("level 125 (online, may take a while): "),
        "{err}"
    );
    assert_same(&describe(&client, "dbos").await, &fresh().await);
    for arguments in [&["migrate"][..], &["migrate", "--dry-run"]] {
        let (code, out, _) = ended(arguments).await;
        assert_eq!((code, out.as_str()), (0, "nothing to do: all schemas are there\n"));
    }
}
