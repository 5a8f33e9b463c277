//! Least privilege: a worker, a client and an author of flows do their work under the rights that `grants` writes, and each of a
//! worker's rights is needed.

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::Arc;

use fireflow_worker::execution::FlowStore;
use fireflow_worker::nodes::Registry;
use fireflow_worker::postgres::{self, Settings};
use fireflow_worker::sysdb::SystemDatabase;
use fireflow_worker::sysdb::schema::grants::Purpose;
use fireflow_worker::sysdb::schema::{Prefix, SchemaName};
use serde_json::json;
use tokio_postgres::{Client, NoTls};

use super::pki::PrivateServer;
use super::support::client::{QUEUE, SqlClient};
use super::support::flows::{echo, family, gated, reporting};
use super::support::ledger::Ledger;
use super::support::worker::{WorkerProcess, program};

/// A database whose owner has migrated, where nobody else may do anything; and a role for each purpose, with no rights yet.
struct Place {
    server: PrivateServer,
    admin: Client,
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Place {
    async fn new() -> Place {
        let server = PrivateServer::start().await;
        server.set(&[("log_line_prefix", "user=%u ")]).await;
        let roles = "CREATE ROLE owner LOGIN PASSWORD 'x'; CREATE ROLE runner LOGIN PASSWORD 'x'; CREATE ROLE sender LOGIN PASSWORD 'x';
                     CREATE ROLE author LOGIN PASSWORD 'x'; ALTER ROLE runner SET log_statement = 'all'";
        let admin = server.admin().await;
        admin.batch_execute(roles).await.unwrap();
        admin.batch_execute("CREATE DATABASE fireflow OWNER owner").await.unwrap();
        let place = Place { server, admin };
        let revoke = "REVOKE ALL ON DATABASE fireflow FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC";
        place.connect("postgres").await.batch_execute(revoke).await.unwrap();
        let mut migrate = program(&place.url("owner"));
        let migrated = migrate.arg("migrate").env("FIREFLOW__QUEUE__NOTIFY_TRIGGER", "true").output().await.unwrap();
        assert!(migrated.status.success(), "{}", said(&migrated));
        place
    }

    fn url(&self, role: &str) -> String {
        match role {
            "postgres" => self.server.server.url("fireflow"),
            _ => format!("postgresql://{role}:x@127.0.0.1:{}/fireflow", self.server.server.port()),
        }
    }

    async fn connect(&self, role: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(role), NoTls).await.unwrap();
        tokio::spawn(connection); // ends with its client
        client
    }

    async fn command(&self, role: &str, arguments: &[&str]) -> Output {
        program(&self.url(role)).args(arguments).output().await.unwrap()
    }

    /// Have the owner grant what `grants` writes.
    async fn grant(&self, role: &str, purpose: &str) {
        let written = self.command("nobody", &["grants", role, "--for", purpose]).await;
        assert!(written.status.success(), "{}", said(&written));
        self.connect("owner").await.batch_execute(std::str::from_utf8(&written.stdout).unwrap()).await.unwrap();
    }

    /// The statements that a role has sent, once each.
    fn statements(&self, role: &str) -> BTreeSet<String> {
        let log = std::fs::read_to_string(self.server.server.folder().join("server.log")).unwrap();
        let begin = format!("user={role} LOG:  execute ");
        let mut statements = BTreeSet::new();
        let mut current: Option<String> = None;
        for line in log.lines() {
            match (&mut current, line.strip_prefix('\t')) {
                (Some(statement), Some(more)) => statement.push_str(&format!("\n{more}")),
                _ => {
                    statements.extend(current.take());
                    let begun = line.strip_prefix(&begin).and_then(|rest| rest.split_once(": "));
                    current = begun.map(|(_, statement)| statement.to_owned());
                }
            }
        }
        statements.extend(current);
        statements
    }
}

/// Prepared statements of a role's session, which are explained: that asks for all rights, and does nothing.
struct Explained {
    client: Client,
    statements: Vec<String>,
}

impl Explained {
    async fn new(client: Client, statements: BTreeSet<String>) -> Explained {
        let statements: Vec<String> = statements.into_iter().collect();
        for (number, statement) in statements.iter().enumerate() {
            client
                .batch_execute(&format!("PREPARE s{number} AS {statement}"))
                .await
                .unwrap_or_else(|error| panic!("{error}: {statement}"));
        }
        Explained { client, statements }
    }

    /// Those among the statements about a table that may not be run.
    async fn refused(&self, about: &str) -> Vec<&str> {
        let mut refused = Vec::new();
        for (number, statement) in self.statements.iter().enumerate().filter(|(_, statement)| statement.contains(about))
        {
            let parameters = (1..=40).take_while(|n| statement.contains(&format!("${n}"))).count();
            let values = vec!["NULL"; parameters].join(", ");
            let values = if parameters == 0 { String::new() } else { format!("({values})") };
            if let Err(error) = self.client.batch_execute(&format!("EXPLAIN EXECUTE s{number}{values}")).await {
                assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{error:?}: {statement}");
                refused.push(statement.as_str());
            }
        }
        refused
    }
}

#[tokio::test]
async fn a_worker_needs_what_grants_writes_and_each_of_it() {
    let place = Place::new().await;
    // Before: told by table and privilege, at once.
    place.connect("postgres").await.batch_execute("GRANT CONNECT ON DATABASE fireflow TO runner").await.unwrap();
    let refused = place.command("runner", &["run"]).await;
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    for part in
        ["role \"runner\" lacks rights", "INSERT on dbos.streams", "fireflow-worker grants runner", "search_path"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    place.grant("runner", "worker").await;
    place.grant("runner", "worker").await; // again does no harm
    let checked = place.command("runner", &["check"]).await;
    assert!(checked.status.success(), "{}", said(&checked));
    play(&place).await;

    let statements = place.statements("runner");
    assert!(statements.len() > 30, "{statements:#?}");
    let explained = Explained::new(place.connect("runner").await, statements).await;
    assert_eq!(explained.refused("").await, [""; 0]);
    let owner = place.connect("owner").await;
    let (schema, prefix) = (SchemaName::default(), "fireflow_".parse::<Prefix>().unwrap());
    for grant in Purpose::Worker.grants() {
        let table = grant.table(&schema, &prefix);
        let name = table.rsplit('.').next().unwrap().trim_matches('"').to_owned();
        for privilege in grant.privileges {
            owner.batch_execute(&format!("REVOKE {privilege} ON {table} FROM runner")).await.unwrap();
            assert!(!explained.refused(&name).await.is_empty(), "nothing needs {privilege} on {table}");
            let checked = place.command_once(privilege, &name).await;
            assert!(checked, "check doesn't miss {privilege} on {table}");
            owner.batch_execute(&format!("GRANT {privilege} ON {table} TO runner")).await.unwrap();
        }
    }
    assert_eq!(explained.refused("").await, [""; 0]);
    owner.batch_execute("REVOKE USAGE ON SCHEMA dbos FROM runner").await.unwrap();
    let text = said(&place.command("runner", &["check"]).await);
    assert!(text.contains("SELECT on dbos.workflow_status"), "{text}");
    drop(place.admin);
}

impl Place {
    /// Whether the check that a start makes misses this privilege. It is made here, since a process for each would take long.
    async fn command_once(&self, privilege: &str, table: &str) -> bool {
        let client = self.connect("runner").await;
        let (schema, prefix) = (SchemaName::default(), "fireflow_".parse::<Prefix>().unwrap());
        use fireflow_worker::sysdb::schema::{app::Part, grants};
        let error =
            grants::check(&client, Purpose::Worker, &schema, &prefix, Part::Both).await.unwrap_err().to_string();
        error.contains(&format!("{privilege} on ")) && error.contains(table)
    }
}

/// Executions of all kinds: with steps, events, children, a start signal, a message, a deadline, a delay, cancelled, and taken from
/// a worker that died.
async fn play(place: &Place) {
    let client = SqlClient::open_at(&place.url("owner")).await;
    let ledger = Ledger::open_at(&place.url("postgres")).await;
    for flow in [echo("echo"), family(ledger.base()), reporting("work", ledger.base())] {
        client.store(&flow).await;
    }
    let register = "INSERT INTO dbos.queues (name, concurrency) VALUES ($1, 50)";
    client.execute(register, &[&QUEUE]).await;
    let url = place.url("runner");
    let settings = [("worker.lease", "2s")];
    let first = WorkerProcess::start(&url, "w1", &settings).await;
    client.enqueue("EX-echo", "echo", json!({"text": "hello"})).await;
    client.until("EX-echo", "SUCCESS").await;
    ledger.release("EX-family");
    client.enqueue("EX-family", "family", json!({"hold": "/hold/EX-family"})).await;
    client.until("EX-family", "SUCCESS").await;
    let delayed = "SELECT dbos.enqueue_workflow('executeFireFlow', $1, ARRAY['{\"flowId\": \"echo\"}'::json],
                          class_name => 'ExecutionWorkflows', workflow_id => 'EX-delayed', timeout_ms => 60000,
                          delay_until_epoch_ms => (extract(epoch FROM now()) * 1000)::bigint + 100)";
    client.sql().query_one(delayed, &[&QUEUE]).await.unwrap();
    client.until("EX-delayed", "SUCCESS").await;
    for id in ["EX-cancelled", "EX-crash"] {
        client.enqueue(id, "work", gated(id)).await;
        ledger.entered(id, 1).await;
    }
    client.cancel("EX-cancelled").await;
    client.until_execution("EX-cancelled", "stopped").await;
    for command in ["PAUSE", "RESUME"] {
        client.send("EX-crash", "COMMAND", json!({"command": command})).await;
    }
    let consumed = "SELECT count(*) FROM dbos.notifications WHERE consumed";
    assert!(client.comes_true(consumed, &[], 2).await);
    first.kill().await;
    let second = WorkerProcess::start(&url, "w2", &settings).await;
    ledger.entered("EX-crash", 2).await;
    ledger.release_all();
    client.until("EX-crash", "SUCCESS").await;
    assert!(client.comes_true("SELECT count(*) FROM fireflow_crashes", &[], 0).await);
    assert!(second.stop().await.success());
    let third = WorkerProcess::start(&url, "w3", &[("execution.start", "signal")]).await;
    client.enqueue("EX-signal", "echo", json!({"text": "hello"})).await;
    client.until_step("EX-signal", "DBOS.sleep").await;
    client.send("EX-signal", "START_SIGNAL", json!("GO")).await;
    client.until("EX-signal", "SUCCESS").await;
    // A drain with something to give back.
    client.enqueue("EX-drain", "echo", json!({})).await;
    client.until_step("EX-drain", "DBOS.sleep").await;
    assert!(third.stop().await.success());
    client.until("EX-drain", "ENQUEUED").await;

    // What is done every few minutes.
    let pool = postgres::connect(&Settings::new(url.parse().unwrap())).await.unwrap();
    let prefix = "fireflow_".parse().unwrap();
    let flows = FlowStore::new(pool.clone(), &prefix, Arc::new(Registry::standard()), 1);
    let sysdb = SystemDatabase::new(pool.clone(), SchemaName::default());
    let old = "INSERT INTO fireflow_flow_pins VALUES ('EX-echo', 'none', now() - interval '2 days')
               ON CONFLICT (workflow_id) DO UPDATE SET pinned_at = EXCLUDED.pinned_at";
    client.execute(old, &[]).await;
    let swept = flows.versions(pool.clone(), &prefix).sweep(&sysdb, &mut String::new()).await.unwrap();
    assert_eq!(swept.pins, 1);
}

#[tokio::test]
async fn a_client_enqueues_and_reads_and_an_author_stores_and_neither_does_more() {
    let place = Place::new().await;
    for (role, purpose) in [("runner", "worker"), ("sender", "client"), ("author", "author")] {
        place.grant(role, purpose).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let flow = folder.path().join("echo.json");
    std::fs::write(&flow, echo("echo").to_string()).unwrap();
    let pushed = place.command("author", &["flow", "push", flow.to_str().unwrap()]).await;
    assert!(pushed.status.success(), "{}", said(&pushed));
    let listed = place.command("author", &["flow", "list"]).await;
    assert!(listed.status.success() && said(&listed).contains("echo"), "{}", said(&listed));
    let worker = WorkerProcess::start(&place.url("runner"), "w1", &[]).await;
    for _ in 0..2 {
        let arguments = ["enqueue", "echo", "--input", "text=hello", "--id", "EX1", "--wait", "--json"];
        let enqueued = place.command("sender", &arguments).await;
        assert!(enqueued.status.success() && said(&enqueued).contains("hello"), "{}", said(&enqueued));
    }
    let sender = place.connect("sender").await;
    let sql =
        "SELECT dbos.enqueue_workflow('executeFireFlow', 'fireflow-executions', ARRAY['{\"flowId\": \"echo\"}'::json],
                      class_name => 'ExecutionWorkflows', workflow_id => 'EX2');
               SELECT dbos.send_message('EX2', '\"GO\"', 'START_SIGNAL', 'once');
               SELECT dbos.send_message('EX2', '\"GO\"', 'START_SIGNAL', 'once');
               SELECT * FROM dbos.streams; SELECT * FROM dbos.workflow_output";
    sender.batch_execute(sql).await.unwrap();
    for (role, statement) in [
        ("sender", "SELECT * FROM fireflow_executions"),
        ("sender", "SELECT * FROM fireflow_workers"),
        ("sender", "INSERT INTO fireflow_flows VALUES ('x', '{}')"),
        ("sender", "UPDATE dbos.workflow_output SET output = 'x'"),
        ("sender", "DELETE FROM dbos.workflow_status"),
        ("author", "SELECT * FROM dbos.workflow_status"),
        ("author", "DELETE FROM fireflow_flows"),
        ("runner", "UPDATE fireflow_flows SET data = '{}'"),
        ("runner", "DELETE FROM dbos.workflow_status"),
        ("runner", "CREATE TABLE mine ()"),
        ("runner", "CREATE TABLE dbos.mine ()"),
    ] {
        let error = place.connect(role).await.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{role}: {statement}: {error}");
    }
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn flows_in_a_database_of_their_own_have_rights_of_their_own() {
    let elsewhere = ("FIREFLOW__DATABASE__FLOWS_URL", "postgres://localhost/main");
    let written = async |arguments: &[&str]| {
        let output =
            program("postgres://localhost/x").arg("grants").args(arguments).env(elsewhere.0, elsewhere.1).output();
        let output = output.await.unwrap();
        assert!(output.status.success(), "{}", said(&output));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (sql, note) = written(&["runner"]).await;
    assert!(
        !sql.contains("\"fireflow_flows\"") && sql.contains("fireflow_executions") && note.contains("--flows"),
        "{sql}"
    );
    let (sql, _) = written(&["runner", "--flows"]).await;
    assert!(sql.contains("GRANT SELECT ON \"fireflow_flows\" TO \"runner\";") && !sql.contains("dbos"), "{sql}");
    let output = program("postgres://localhost/x").args(["grants", "runner", "--flows"]).output().await.unwrap();
    assert!(!output.status.success() && said(&output).contains("there is no database.flows_url"), "{}", said(&output));
}
