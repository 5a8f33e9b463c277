//! The tables: ours equal the SDK's, and whatever else is there is recognised and left alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "schema/brought_forward.rs"]
mod brought_forward;
#[path = "support/dbos_python.rs"]
mod dbos_python;
#[path = "schema/every_level.rs"]
mod every_level;
#[path = "schema/forward.rs"]
mod forward;
#[path = "schema/low.rs"]
mod low;
#[allow(dead_code, reason = "other tests drive the SDKs' clients")]
#[path = "interop/setup.rs"]
mod sdk;
mod support;

use fireflow_worker::sysdb::schema::app::{self, Part};
use fireflow_worker::sysdb::schema::{Error, Prefix, Ready, SchemaName, State, ensure, inspect, plan};
use serde_json::Value;
use support::TestDatabase;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const CREATED: Ready = Ready { level: 125, created: true };

/// Everything about a schema's objects that a client could notice, one line each. `{s}` is the schema's name.
async fn describe(client: &Client, schema: &str) -> Vec<String> {
    let sql = "
        SELECT format('column %s.%s, the %s., %s%s default %s', c.relname, a.attname,
                      row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod),
                      CASE WHEN a.attnotnull THEN ' not null' END, pg_get_expr(d.adbin, d.adrelid))
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'
        UNION ALL
        SELECT format('index %s valid %s', pg_get_indexdef(i.indexrelid), i.indisvalid)
          FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = $1::text::regnamespace
        UNION ALL
        SELECT format('constraint %s on %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid))
          FROM pg_constraint WHERE connamespace = $1::text::regnamespace
        UNION ALL
        SELECT format('trigger %s enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
          FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
         WHERE c.relnamespace = $1::text::regnamespace AND NOT t.tgisinternal
        UNION ALL
        SELECT format('function %s(%s) returns %s in %s, definer %s, volatile %s, strict %s, parallel %s, with %s',
                      proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), l.lanname,
                      prosecdef, provolatile, proisstrict, proparallel, proconfig)
          FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE pronamespace = $1::text::regnamespace
        UNION ALL
        SELECT format('other %s %s', relkind, relname) FROM pg_class
         WHERE relnamespace = $1::text::regnamespace AND relkind NOT IN ('r', 'i')
        ORDER BY 1";
    let quoted = format!("\"{schema}\"");
    let rows = client.query(sql, &[&quoted]).await.unwrap();
    let mut lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let level = format!("SELECT string_agg(version::text, ',') FROM {quoted}.dbos_migrations");
    lines.push(format!("level {}", client.query_one(&level, &[]).await.unwrap().get::<_, &str>(0)));
    lines
}

#[tokio::test]
async fn our_schema_equals_the_one_that_the_python_sdk_makes() {
    let Some(programs) = dbos_python::programs(dbos_python::VERSION) else { return };
    let (ours, theirs) = (TestDatabase::new().await, TestDatabase::new().await);
    for name in ["dbos", "an odd name"] {
        dbos_python::migrate(&programs, &theirs.url(), name);
        let schema: SchemaName = name.parse().unwrap();
        let mut client = ours.client().await;
        assert_eq!(ensure(&mut client, &schema).await.unwrap(), CREATED);
        let (ours, theirs) = (describe(&client, name).await, describe(&theirs.client().await, name).await);
        assert!(ours.len() > 150, "the description sees something: {} lines", ours.len());
        let only = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
        let (extra, lacking) = (only(&ours, &theirs), only(&theirs, &ours));
        assert!(extra.is_empty() && lacking.is_empty(), "only ours: {extra:#?}\nonly theirs: {lacking:#?}");
        assert_eq!(ours.len(), theirs.len());
    }
    // And each accepts the other's as it is.
    let before = describe(&ours.client().await, "dbos").await;
    dbos_python::migrate(&programs, &ours.url(), "dbos");
    assert_eq!(describe(&ours.client().await, "dbos").await, before);
    let ready = ensure(&mut theirs.client().await, &SchemaName::default()).await.unwrap();
    assert_eq!(ready, Ready { level: 125, created: false });
}

#[tokio::test]
async fn two_that_create_at_once_make_one_schema() {
    let database = TestDatabase::new().await;
    let schema = SchemaName::default();
    let mut clients = [database.client().await, database.client().await, database.client().await];
    let [a, b, c] = &mut clients;
    let (a, b, c) = tokio::join!(ensure(a, &schema), ensure(b, &schema), ensure(c, &schema));
    let created = [a, b, c].map(|ready| ready.unwrap().created);
    assert_eq!(created.iter().filter(|created| **created).count(), 1);
}

#[tokio::test]
async fn one_that_is_killed_in_the_middle_leaves_nothing() {
    let database = TestDatabase::new().await;
    let (admin, mut victim) = (database.client().await, database.client().await);
    let schema = SchemaName::default();
    // Holds up the creation at its trigger, when all tables have been made.
    admin
        .batch_execute(
            "CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql
                 AS 'BEGIN PERFORM pg_advisory_xact_lock(42); END';
             CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION hold();
             SELECT pg_advisory_lock(42)",
        )
        .await
        .unwrap();
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let kill = async {
        let waits = "SELECT 1 FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND objid = 42 AND NOT granted";
        while admin.query_opt(waits, &[&pid]).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        admin.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(ensure(&mut victim, &schema), kill);
    let error = outcome.unwrap_err();
    assert!(error.is_transient(), "{error}");
    admin.batch_execute("DROP EVENT TRIGGER hold; SELECT pg_advisory_unlock(42)").await.unwrap();

    assert_eq!(inspect(&admin, &schema).await.unwrap(), State::Empty);
    let left = "SELECT 1 FROM pg_namespace WHERE nspname = 'dbos'";
    assert!(admin.query_opt(left, &[]).await.unwrap().is_none());
    assert_eq!(ensure(&mut database.client().await, &schema).await.unwrap(), CREATED);
}

/// A fresh schema, changed by this SQL; what becomes of it, having checked that it stays as it is.
async fn after(change: &str) -> Result<Ready, Error> {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    let schema = SchemaName::default();
    ensure(&mut client, &schema).await.unwrap();
    client.batch_execute(change).await.unwrap();
    let before = describe(&client, "dbos").await;
    let outcome = ensure(&mut client, &schema).await;
    assert_eq!(describe(&client, "dbos").await, before, "an existing schema is never altered");
    outcome
}

#[tokio::test]
async fn newer_levels_that_have_what_we_need_are_used() {
    let newer = "UPDATE dbos.dbos_migrations SET version = 200;
                 ALTER TABLE dbos.workflow_status ADD COLUMN colour text";
    assert_eq!(after(newer).await.unwrap(), Ready { level: 200, created: false });
    // What the TypeScript SDK leaves: the same columns, two indexes fewer.
    let typescript = "UPDATE dbos.dbos_migrations SET version = 123;
                      DROP INDEX dbos.idx_application_versions_timestamp;
                      DROP INDEX dbos.idx_application_versions_owner_timestamp";
    assert_eq!(after(typescript).await.unwrap(), Ready { level: 123, created: false });
}

#[tokio::test]
async fn older_levels_are_used_as_they_are_from_100_on() {
    let rust = "UPDATE dbos.dbos_migrations SET version = 108; DROP TABLE dbos.workflow_input, dbos.workflow_output";
    assert_eq!(after(rust).await.unwrap(), Ready { level: 108, created: false });
    let first = include_str!("schema/level_100.sql");
    assert_eq!(after(first).await.unwrap(), Ready { level: 100, created: false });
}

#[tokio::test]
async fn what_can_not_be_used_is_refused_with_a_way_out() {
    let old = "UPDATE dbos.dbos_migrations SET version = 28;
               DROP TABLE dbos.workflow_input, dbos.workflow_output;
               ALTER TABLE dbos.workflow_status DROP COLUMN creator_xid, DROP COLUMN application_name CASCADE";
    let error = after(old).await.unwrap_err();
    assert!(matches!(error, Error::Older { level: 28, .. }), "{error}");
    assert!(error.to_string().contains("fireflow-worker migrate"), "{error}");

    // A level may only lack what comes after it.
    let half = "UPDATE dbos.dbos_migrations SET version = 112; DROP TABLE dbos.workflow_input, dbos.workflow_output";
    let error = after(half).await.unwrap_err();
    let tables = ["table workflow_input", "table workflow_output"];
    assert!(matches!(&error, Error::HalfMade { missing, .. } if *missing == tables), "{error}");

    let error = after("ALTER TABLE dbos.streams DROP COLUMN function_id").await.unwrap_err();
    assert!(matches!(&error, Error::HalfMade { missing, .. } if *missing == ["column streams.function_id"]), "{error}");
    let error = after("DELETE FROM dbos.dbos_migrations; INSERT INTO dbos.dbos_migrations VALUES (0)").await;
    assert!(matches!(error.unwrap_err(), Error::HalfMade { .. }));
    let error = after("UPDATE dbos.dbos_migrations SET version = 300; DROP TABLE dbos.workflow_output").await;
    assert!(matches!(error.unwrap_err(), Error::TooNew { level: 300, .. }));
    let error = after("ALTER TABLE dbos.workflow_status ADD COLUMN shard_key int").await;
    assert!(matches!(error.unwrap_err(), Error::Sharded { .. }));
}

#[tokio::test]
async fn who_may_not_create_is_told_so_and_a_schema_made_for_him_is_enough() {
    let database = TestDatabase::new().await;
    let admin = database.client().await;
    let role = format!("poor_{}", &database.name()[5..13]);
    admin.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).await.unwrap();
    let server = support::TestServer::get();
    let url = format!("postgresql://{role}:x@127.0.0.1:{}/{}", server.port(), database.name());
    let (mut poor, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let error = ensure(&mut poor, &SchemaName::default()).await.unwrap_err();
    assert!(matches!(error, Error::NotAllowed(_)), "{error}");
    admin.batch_execute(&format!("CREATE SCHEMA dbos AUTHORIZATION {role}")).await.unwrap();
    assert_eq!(ensure(&mut poor, &SchemaName::default()).await.unwrap(), CREATED);
    drop(poor);
    drop(database); // its objects go first
    let (admin, connection) = tokio_postgres::connect(&server.url("postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    admin.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn the_plan_names_what_would_be_made_and_makes_nothing() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    let schema: SchemaName = "odd \"name\"".parse().unwrap();
    let planned = plan(&inspect(&client, &schema).await.unwrap(), &schema).unwrap();
    assert_eq!(inspect(&client, &schema).await.unwrap(), State::Empty);
    ensure(&mut client, &schema).await.unwrap();
    let made = "SELECT count(*) FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relkind = 'r'";
    let made: i64 = client.query_one(made, &[&schema.quoted()]).await.unwrap().get(0);
    let tables = planned.iter().filter(|line| line.starts_with("CREATE TABLE \"odd \"\"name\"\"\".")).count();
    assert_eq!(i64::try_from(tables).unwrap(), made);
    assert_eq!(planned[0], "CREATE SCHEMA \"odd \"\"name\"\"\"");
    assert!(plan(&inspect(&client, &schema).await.unwrap(), &schema).unwrap().is_empty());
}

async fn code(client: &Client, sql: &str) -> (SqlState, String) {
    let error = client.query(sql, &[]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    (error.code().clone(), error.message().to_owned())
}

#[tokio::test]
async fn the_sql_functions_do_as_the_sdks_do() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    ensure(&mut client, &SchemaName::default()).await.unwrap();

    let sql = "SELECT dbos.enqueue_workflow('work', 'q', ARRAY['1', '\"two\"']::json[], '{\"three\": 3}',
               workflow_id => 'W1', deduplication_id => 'd', application_name => 'app', timeout_ms => 5000)";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, &str>(0), "W1");
    let row = "SELECT to_jsonb(s)::text, i.inputs FROM dbos.workflow_status s JOIN dbos.workflow_input i USING (workflow_uuid)
                WHERE workflow_uuid = $1";
    let first = client.query_one(row, &[&"W1"]).await.unwrap();
    let status: Value = serde_json::from_str(first.get(0)).unwrap();
    for (column, value) in [
        ("status", Value::from("ENQUEUED")),
        ("serialization", "portable_json".into()),
        ("name", "work".into()),
        ("queue_name", "q".into()),
        ("priority", 0.into()),
        ("recovery_attempts", 0.into()),
        ("workflow_timeout_ms", 5000.into()),
        ("application_name", "app".into()),
        ("executor_id", Value::Null),
        ("creator_xid", Value::Null),
        ("inputs", Value::Null),
        ("class_name", Value::Null),
    ] {
        assert_eq!(status[column], value, "{column}");
    }
    assert!(status["owner_xid"].is_string(), "a token, also before the claim");
    let inputs: Value = serde_json::from_str(first.get(1)).unwrap();
    assert_eq!(inputs, serde_json::json!({"positionalArgs": [1, "two"], "namedArgs": {"three": 3}}));

    // The same id again: the first inputs stay.
    client.query("SELECT dbos.enqueue_workflow('work', 'q', workflow_id => 'W1')", &[]).await.unwrap();
    let again = client.query_one(row, &[&"W1"]).await.unwrap();
    assert_eq!(again.get::<_, &str>(1), first.get::<_, &str>(1));

    let delayed = "SELECT status FROM dbos.workflow_status WHERE workflow_uuid =
                   (SELECT dbos.enqueue_workflow('work', 'q', workflow_id => 'W2', delay_until_epoch_ms => 9))";
    client.query(delayed, &[]).await.unwrap();
    let status: String = client.query_one(row, &[&"W2"]).await.unwrap().get(0);
    assert!(status.contains("DELAYED"), "{status}");

    let duplicate = "SELECT dbos.enqueue_workflow('work', 'q', deduplication_id => 'd')";
    assert_eq!(code(&client, duplicate).await, (SqlState::UNIQUE_VIOLATION, "DBOS queue duplicated".into()));
    for arguments in [
        "'', 'q'",
        "NULL, 'q'",
        "'w', ''",
        "'w', 'q', named_args => '[]'",
        "'w', 'q', workflow_id => ''",
        "'w', 'q', delay_until_epoch_ms => -1",
    ] {
        let sql = format!("SELECT dbos.enqueue_workflow({arguments})");
        assert_eq!(code(&client, &sql).await.0, SqlState::RAISE_EXCEPTION, "{arguments}");
    }

    client.query("SELECT dbos.send_message('W1', '{\"a\": 1}')", &[]).await.unwrap();
    for _ in 0..2 {
        client.query("SELECT dbos.send_message('W1', '2', 'topic', 'M')", &[]).await.unwrap();
    }
    let sent = "SELECT string_agg(concat_ws(' ', topic, message, serialization, consumed), '; ' ORDER BY topic)
                  FROM dbos.notifications WHERE destination_uuid = 'W1'";
    assert_eq!(
        client.query_one(sent, &[]).await.unwrap().get::<_, &str>(0),
        "__null__topic__ {\"a\": 1} portable_json f; topic 2 portable_json f"
    );
    let nowhere = code(&client, "SELECT dbos.send_message('nowhere', '1')").await;
    assert_eq!(nowhere, (SqlState::FOREIGN_KEY_VIOLATION, "DBOS non-existent workflow".into()));
}

#[tokio::test]
async fn application_tables_are_made_once_with_any_prefix() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    let prefix: Prefix = "a_prefix_as_long_as_may_be_____".get(..30).unwrap().parse().unwrap();
    let (mut other, both) = (database.client().await, Part::Both);
    let (a, b) = tokio::join!(app::ensure(&mut client, &prefix, both), app::ensure(&mut other, &prefix, both));
    let made = [a.unwrap(), b.unwrap()].concat();
    assert_eq!(
        made,
        ["flows", "executions", "workers", "flow_versions", "flow_pins", "crashes", "queue_pauses", "drain_requests"]
            .map(|name| format!("{prefix}{name}"))
    );
    assert!(app::missing(&client, &prefix, both).await.unwrap().is_empty());
    let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'";
    // Eight primary keys and that of the record; 3 + 10 + 1 + 2 + 1 + 1 others, none lost to a name that was cut off.
    assert_eq!(client.query_one(indexes, &[]).await.unwrap().get::<_, i64>(0), 27);

    let short: Prefix = "chaingraph_".parse().unwrap();
    assert_eq!(app::ensure(&mut client, &short, Part::Main).await.unwrap(), ["chaingraph_flows"]);
    let made = app::ensure(&mut client, &short, Part::Executions).await.unwrap();
    assert_eq!(
        made,
        ["executions", "workers", "flow_versions", "flow_pins", "crashes", "queue_pauses", "drain_requests"]
            .map(|name| format!("chaingraph_{name}"))
    );
    let bad = "INSERT INTO chaingraph_workers (id, incarnation, expires_at, state)
               VALUES ('w', gen_random_uuid(), now(), 'asleep')";
    assert_eq!(code(&client, bad).await.0, SqlState::CHECK_VIOLATION);
}

#[tokio::test]
async fn tables_of_the_server_are_taken_as_they_are_or_refused_by_column() {
    let database = TestDatabase::new().await;
    let mut client = database.client().await;
    let prefix: Prefix = "chaingraph_".parse().unwrap();
    let flows = "CREATE TABLE chaingraph_flows (id text PRIMARY KEY, data jsonb NOT NULL, created_at timestamp,
                 updated_at timestamp, owner_id text, version integer, extra text)";
    client.batch_execute(flows).await.unwrap();
    let made = app::ensure(&mut client, &prefix, Part::Both).await.unwrap();
    let ours = ["executions", "workers", "flow_versions", "flow_pins", "crashes", "queue_pauses", "drain_requests"];
    assert_eq!(made, ours.map(|name| format!("chaingraph_{name}")));
    let indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'chaingraph_flows'";
    assert_eq!(client.query_one(indexes, &[]).await.unwrap().get::<_, i64>(0), 1, "the server's table is left alone");

    client.batch_execute("ALTER TABLE chaingraph_executions DROP COLUMN options").await.unwrap();
    let error = app::ensure(&mut client, &prefix, Part::Both).await.unwrap_err();
    assert!(matches!(&error, Error::AppTable { missing, .. } if *missing == ["column options"]), "{error}");
    assert!(error.to_string().contains("chaingraph_executions"), "{error}");
}
