//! Through a connection pooler: in transaction mode all works, by polling; in session mode as without one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use fireflow_worker::postgres::{self, Pooling, Settings, Statements as _};
use rustix::process::Signal;
use serde_json::json;
use support::{
    TestDatabase,
    bench::Bench,
    flows::{FlowBuilder, echo, family},
    pgbouncer::{PgBouncer, connect, knows_prepared_statements},
    worker::{WorkerProcess, program},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::SimpleQueryMessage;

const FOUND: &str = "a connection pooler in transaction mode stands before the database";

async fn bench() -> Bench {
    Bench::with(|ledger| {
        let long = FlowBuilder::new("long").get("hold", ledger).output("reply", "hold", "response");
        vec![echo("echo"), family(ledger), long.build()]
    })
    .await
}

/// All kinds of executions on two workers, of which one is killed, and on two more that wait for a start signal, of which one is
/// drained. Gives what the workers said.
async fn mixed_load(bench: &Bench, url: &str, settings: &[(&str, &str)]) -> String {
    let Bench { client, ledger, .. } = bench;
    let with = |more: &[(&'static str, &'static str)]| [settings, more].concat();
    let usual = with(&[("worker.lease", "3s"), ("queue.worker_concurrency", "10")]);
    let mut workers = vec![
        ("w1", WorkerProcess::start(url, "w1", &usual).await),
        ("w2", WorkerProcess::start(url, "w2", &usual).await),
    ];
    for n in 0..40 {
        client.enqueue(&format!("ECHO{n}"), "echo", json!({"text": format!("text {n}")})).await;
    }
    client.until_count("SUCCESS", 40).await;
    assert_eq!(client.row("ECHO7").await.unwrap().result()["outputs"], json!({"text": "text 7"}));

    for id in ["KILLED", "STOPPED"] {
        client.enqueue(id, "long", json!({"hold": format!("/hold/{id}")})).await;
        ledger.entered(id, 1).await;
        client.until_event(id, "node:started").await;
    }
    client.enqueue("FAMILY", "family", json!({"hold": "/hold/kids"})).await;
    ledger.entered("kids", 2).await;
    client.send("STOPPED", "COMMAND", json!({"command": "STOP", "reason": "asked by the test"})).await;
    assert_eq!(client.until_execution("STOPPED", "stopped").await.as_deref(), Some("asked by the test"));
    client.until("STOPPED", "ERROR").await;

    let owner = client.row("KILLED").await.unwrap().executor.unwrap();
    let place = workers.iter().position(|(id, _)| *id == owner).unwrap();
    let (_, killed) = workers.remove(place);
    let mut said = killed.log();
    killed.kill().await;
    ledger.entered("KILLED", 2).await; // by the other one
    ledger.release_all();
    for id in ["KILLED", "FAMILY"] {
        client.until(id, "SUCCESS").await;
    }
    let children =
        "SELECT count(*) FROM dbos.workflow_status WHERE parent_workflow_id = 'FAMILY' AND status = 'SUCCESS'";
    assert!(client.comes_true(children, &[], 2).await);
    for (place, (offset, ..)) in client.events("KILLED").await.iter().enumerate() {
        assert_eq!(usize::try_from(*offset).unwrap(), place, "the stream has neither gaps nor doubles");
    }
    let (_, mut survivor) = workers.remove(0);
    survivor.signal(Signal::TERM);
    assert!(survivor.ended().await.success(), "{}", survivor.log());
    said.push_str(&survivor.log());

    let waiting = with(&[("execution.start", "signal")]);
    let mut first = WorkerProcess::start(url, "w3", &waiting).await;
    client.enqueue("SIGNAL", "echo", json!({"text": "at last"})).await;
    client.until_step("SIGNAL", "DBOS.sleep").await;
    first.signal(Signal::TERM);
    assert!(first.ended().await.success(), "{}", first.log());
    said.push_str(&first.log());
    assert_eq!(client.row("SIGNAL").await.unwrap().status, "ENQUEUED");
    let second = WorkerProcess::start(url, "w4", &waiting).await;
    client.until("SIGNAL", "PENDING").await;
    client.send("SIGNAL", "START_SIGNAL", json!("GO")).await;
    assert_eq!(client.until("SIGNAL", "SUCCESS").await.result()["outputs"]["text"], "at last");
    said.push_str(&second.log());
    assert!(second.stop().await.success());
    said
}

/// What a worker's `/status` says.
async fn status(worker: &WorkerProcess) -> String {
    let said = worker.log();
    let address = said.split("admin listener address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let mut stream = TcpStream::connect(address.unwrap()).await.unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn ask(client: &tokio_postgres::Client, sql: &str) -> String {
    let answer = client.simple_query(sql).await.unwrap();
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap().to_owned()
}

#[tokio::test]
async fn all_works_through_a_pooler_in_transaction_mode_and_it_is_told() {
    let bench = bench().await;
    let Some(pooler) = PgBouncer::start(&bench.database, "transaction", 2, "").await else { return };
    let url = pooler.url(&bench.database);
    let said = mixed_load(&bench, &url, &[]).await;
    assert_eq!(said.matches(FOUND).count(), 4, "once by each worker: {said}");
    for lost in ["prepared statement", "can't listen", "the listening connection is lost"] {
        assert!(!said.contains(lost), "{said}");
    }
    // Nothing is left to whoever gets these connections next: no statement, no channel, no setting.
    let (one, other) = (connect(&url).await, connect(&url).await);
    other.batch_execute("BEGIN").await.unwrap();
    one.batch_execute("BEGIN").await.unwrap();
    assert_ne!(ask(&one, "SELECT pg_backend_pid()").await, ask(&other, "SELECT pg_backend_pid()").await);
    for client in [&one, &other] {
        let left =
            "SELECT (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_listening_channels())";
        assert_eq!(ask(client, left).await, "0");
        assert_eq!(ask(client, "SHOW statement_timeout").await, "0");
        assert_eq!(ask(client, "SHOW plan_cache_mode").await, "auto");
    }
}

#[tokio::test]
async fn the_way_for_poolers_works_without_one_and_listens_to_nothing() {
    let bench = bench().await;
    let settings = [("database.pooler", "transaction")];
    let said = mixed_load(&bench, &bench.database.url(), &settings).await;
    assert_eq!(said.matches(FOUND).count(), 4, "{said}");
    let with_status = [settings[0], ("admin.enabled", "true"), ("admin.listen", "127.0.0.1:0")];
    let worker = bench.worker("w5", &with_status).await;
    assert!(status(&worker).await.contains(r#""pooler":"transaction""#));
    // The pool's, and the lease's, all of them as they were when they were made.
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() AND query LIKE '%LISTEN \"%'";
    assert_eq!(bench.client.sql().query_one(listening, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(worker.stop().await.success());
    let worker = bench.worker("w5", &[("database.pooler", "none")]).await;
    assert!(bench.client.comes_true(listening, &[], 1).await, "the same question finds one that listens");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_pooler_in_session_mode_is_as_good_as_none() {
    let bench = bench().await;
    let Some(pooler) = PgBouncer::start(&bench.database, "session", 60, "").await else { return };
    let url = pooler.url(&bench.database);
    let worker = WorkerProcess::start(&url, "w1", &[("execution.start", "signal")]).await;
    bench.client.enqueue("EX1", "echo", json!({"text": "hi"})).await;
    bench.client.until_step("EX1", "DBOS.sleep").await;
    bench.client.send("EX1", "START_SIGNAL", json!("GO")).await;
    bench.client.until("EX1", "SUCCESS").await;
    let said = worker.log();
    assert!(!said.contains("pooler"), "{said}");
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() AND query LIKE '%LISTEN \"%'";
    assert!(bench.client.comes_true(listening, &[], 1).await);
    assert!(worker.stop().await.success());
}

async fn detected(url: &str) -> Result<Pooling, postgres::Error> {
    postgres::detect(&Settings::new(url.parse().unwrap())).await
}

#[tokio::test]
async fn each_mode_is_recognised_however_the_pooler_gives_out_its_connections() {
    let database = TestDatabase::new().await;
    assert_eq!(detected(&database.url()).await.unwrap(), Pooling::None);
    for (mode, connections, more, expected) in [
        ("session", 2, "", Pooling::None),
        ("transaction", 1, "", Pooling::Transaction),
        ("transaction", 2, "server_round_robin = 1\nmin_pool_size = 2", Pooling::Transaction),
        ("transaction", 3, "server_round_robin = 1\nmin_pool_size = 3", Pooling::Transaction),
        ("transaction", 20, "", Pooling::Transaction),
    ] {
        let Some(pooler) = PgBouncer::start(&database, mode, connections, more).await else { return };
        let url = pooler.url(&database);
        // So that the pooler has made all that it wants to have.
        let clients = futures_util::future::join_all((0..connections.min(3)).map(|_| connect(&url))).await;
        futures_util::future::join_all(clients.iter().map(|client| client.batch_execute("SELECT pg_sleep(0.1)"))).await;
        if mode == "session" {
            drop(clients); // each holds a connection
        }
        assert_eq!(detected(&url).await.unwrap(), expected, "{mode} with {connections} connections, {more}");
    }
    let Some(pooler) = PgBouncer::start(&database, "statement", 2, "").await else { return };
    let error = detected(&pooler.url(&database)).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("set pool_mode to transaction"), "{error}");
}

#[tokio::test]
async fn the_commands_say_what_they_found_and_migrate_asks_for_the_server_itself() {
    let database = TestDatabase::new().await;
    let Some(pooler) = PgBouncer::start(&database, "transaction", 2, "").await else { return };
    let url = pooler.url(&database);
    // Schemas are made through it, which is one transaction each.
    let migrated = program(&url).arg("migrate").output().await.unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    let check = program(&url).args(["check", "--json"]).output().await.unwrap();
    let found: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!((&found["usable"], &found["pooler"]), (&json!(true), &json!("transaction")));
    let check = program(&database.url()).args(["check", "--json"]).output().await.unwrap();
    let found: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(found["pooler"], json!("none"));
    let check = program(&url).arg("check").output().await.unwrap();
    assert!(String::from_utf8_lossy(&check.stderr).contains(FOUND), "{check:?}");

    let older = TestDatabase::new().await;
    assert!(program(&older.url()).arg("migrate").output().await.unwrap().status.success());
    older.client().await.batch_execute(include_str!("schema/level_100.sql")).await.unwrap();
    let refused = program(&pooler.url(&older)).arg("migrate").output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("can't be brought forward through a connection pooler"), "{said}");
    let migrated = program(&older.url()).arg("migrate").output().await.unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
}

/// The pooler tells its clients in words of its own that it lost a server.
#[tokio::test]
async fn nothing_is_lost_or_done_twice_when_the_pooler_loses_its_servers() {
    let bench = bench().await;
    let Some(pooler) = PgBouncer::start(&bench.database, "transaction", 3, "").await else { return };
    let worker = WorkerProcess::start(&pooler.url(&bench.database), "w1", &[("queue.worker_concurrency", "10")]).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'fireflow-worker'";
    for n in 0..60 {
        bench.client.enqueue(&format!("EX{n}"), "echo", json!({"text": "hi"})).await;
    }
    let mut killed = 0;
    for done in 1..=15 {
        let reached =
            format!("SELECT (count(*) >= {done})::int::bigint FROM dbos.workflow_status WHERE status = 'SUCCESS'");
        assert!(bench.client.comes_true(&reached, &[], 1).await);
        killed += bench.client.sql().query_one(kill, &[]).await.unwrap().get::<_, i64>(0);
    }
    assert!(killed >= 4, "{killed}");
    bench.client.until_count("SUCCESS", 60).await;
    let lost = worker.log().matches("a commit's outcome is unknown").count();
    println!("{killed} connections of the pooler's were cut, {lost} of them at a COMMIT");
    // Dense streams and each event once: no batch was written twice.
    for n in 0..60 {
        let events = bench.client.events(&format!("EX{n}")).await;
        let kinds: Vec<&str> = events.iter().map(|(.., kind)| kind.as_str()).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == "flow:completed").count(), 1, "{kinds:?}");
        for (place, (offset, index, _)) in events.iter().enumerate() {
            assert_eq!((usize::try_from(*offset).unwrap(), *index + 1), (place, i64::from(*offset)), "{events:?}");
        }
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn one_that_is_taken_for_none_is_told_by_what_gets_lost() {
    let bench = bench().await;
    let more = if knows_prepared_statements() { "max_prepared_statements = 0" } else { "" };
    let Some(pooler) = PgBouncer::start(&bench.database, "transaction", 1, more).await else { return };
    let url = pooler.url(&bench.database);
    // Each counts its statements from the same number, and the second one finds those of the first.
    let settings = [("database.pooler", "none")];
    let _first = WorkerProcess::start(&url, "w1", &settings).await;
    let second = WorkerProcess::spawn(&url, "w2", &settings);
    second.says("set database.pooler = \"transaction\"").await;
}

/// What the two ways of sending a statement say must be the same: parameters of all types, in and out.
#[tokio::test]
async fn a_value_of_each_type_arrives_prepared_and_unprepared() {
    let database = TestDatabase::new().await;
    for pooling in [Pooling::None, Pooling::Transaction] {
        let pool = postgres::connect(&Settings { pooling, ..database.settings() }).await.unwrap();
        let mut client = pool.get().await.unwrap();
        let (id, value) = (uuid::Uuid::new_v4(), json!({"a": [1, "x"]}));
        let (texts, some, none) = (vec!["a", "b"], vec![Some("a"), None], None::<i64>);
        let numbers: &[i64] = &[1, 2];
        let sql = "SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11";
        let row = client
            .query_one(sql, &[&true, &1_i32, &2_i64, &0.5_f64, &"text", &id, &value, &texts, &some, &none, &numbers])
            .await
            .unwrap();
        assert_eq!((row.get::<_, bool>(0), row.get::<_, i32>(1), row.get::<_, i64>(2)), (true, 1, 2));
        assert_eq!((row.get::<_, f64>(3), row.get::<_, &str>(4)), (0.5, "text"));
        assert_eq!((row.get::<_, uuid::Uuid>(5), row.get::<_, serde_json::Value>(6)), (id, value));
        assert_eq!((row.get::<_, Vec<&str>>(7), row.get::<_, Vec<Option<&str>>>(8)), (texts, some));
        assert_eq!((row.get::<_, Option<i64>>(9), row.get::<_, Vec<i64>>(10)), (none, numbers.to_vec()));
        let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1";
        let found = client.query_one(prepared, &[&sql]).await.unwrap().get::<_, i64>(0);
        assert_eq!(found, i64::from(pooling == Pooling::None));

        // In this order, in one go; also when the first one is sent for the first time and the second one isn't.
        client.execute("CREATE TEMP TABLE sent (number int, place bigserial)", &[]).await.unwrap();
        let insert = "INSERT INTO sent (number) VALUES ($1)";
        client.execute(insert, &[&0_i32]).await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let first = "INSERT INTO sent (number) SELECT $1";
        transaction.prepare(first, &[&1_i32]).await.unwrap();
        let both =
            async { tokio::try_join!(transaction.execute(first, &[&1_i32]), transaction.execute(insert, &[&2_i32])) };
        assert_eq!(both.await.unwrap(), (1, 1));
        transaction.commit().await.unwrap();
        let rows = client.query("SELECT number FROM sent ORDER BY place", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [0, 1, 2]);

        // One that is dropped, or whose first statement fails, leaves nothing behind and nothing open.
        let isolation = Some(tokio_postgres::IsolationLevel::Serializable);
        let returning = "INSERT INTO sent (number) VALUES ($1) RETURNING current_setting('transaction_isolation')";
        let (transaction, rows) = client.transaction_with(isolation, returning, &[&3_i32]).await.unwrap();
        assert_eq!(rows[0].get::<_, &str>(0), "serializable");
        drop(transaction);
        assert!(client.transaction_with(None, "SELECT 1 / $1::int", &[&0_i32]).await.is_err());
        let began = client.transaction_with(None, insert, &[&4_i32]);
        assert!(futures_util::FutureExt::now_or_never(began).is_none(), "it is under way, and nobody waits for it");
        let row =
            client.query_one("SELECT count(*), pg_current_xact_id_if_assigned() IS NULL FROM sent", &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (3, true));
        let (transaction, _) = client.transaction_with(None, insert, &[&5_i32]).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(client.query_one("SELECT count(*) FROM sent", &[]).await.unwrap().get::<_, i64>(0), 4);
    }
}
