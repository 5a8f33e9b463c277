//! Least privilege: a worker, a client, an author of flows, operators and `gc` do their work under the rights that `grants` writes,
//! and each right of a worker's, an operator's and of `gc` is needed.

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::Arc;

use fireflow_worker::execution::FlowStore;
use fireflow_worker::nodes::Registry;
use fireflow_worker::postgres::{self, Settings};
use fireflow_worker::sysdb::SystemDatabase;
use fireflow_worker::sysdb::schema::app::Part;
use fireflow_worker::sysdb::schema::grants::{self, Purpose};
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
                     CREATE ROLE author LOGIN PASSWORD 'x'; CREATE ROLE keeper LOGIN PASSWORD 'x';
                     CREATE ROLE operator LOGIN PASSWORD 'x'; ALTER ROLE runner SET log_statement = 'all';
                     ALTER ROLE keeper SET log_statement = 'all'; ALTER ROLE operator SET log_statement = 'all'";
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

    assert!(place.each_is_needed("runner", Purpose::Worker).await > 30);
    let owner = place.connect("owner").await;
    owner.batch_execute("REVOKE USAGE ON SCHEMA dbos FROM runner").await.unwrap();
    let text = said(&place.command("runner", &["check"]).await);
    assert!(text.contains("SELECT on dbos.workflow_status"), "{text}");
    owner.batch_execute("GRANT USAGE ON SCHEMA dbos TO runner").await.unwrap();
    // What is missing and may not be made is told before the start is tried.
    owner.batch_execute("DROP TABLE fireflow_drain_requests").await.unwrap();
    for arguments in [&["check"][..], &["check", "--json"]] {
        let checked = place.command("runner", arguments).await;
        let text = said(&checked);
        assert_eq!(checked.status.code(), Some(1), "{text}");
        for part in ["fireflow_drain_requests", "CREATE on schema public", "fireflow-worker migrate"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let refused = place.command("runner", &["run"]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let checked = place.command("owner", &["check"]).await;
    assert!(
        checked.status.success() && said(&checked).contains("missing: fireflow_drain_requests"),
        "{}",
        said(&checked)
    );
    drop(place.admin);
}

impl Place {
    /// Show that a role which has done its work may do all of it, and that without any of its rights something of it is refused, and
    /// named. Gives how many statements it has sent.
    async fn each_is_needed(&self, role: &str, purpose: Purpose) -> usize {
        let explained = Explained::new(self.connect(role).await, self.statements(role)).await;
        assert_eq!(explained.refused("").await, [""; 0]);
        let owner = self.connect("owner").await;
        let (schema, prefix) = (SchemaName::default(), "fireflow_".parse::<Prefix>().unwrap());
        for grant in purpose.grants() {
            let table = grant.table(&schema, &prefix);
            let name = table.rsplit('.').next().unwrap().trim_matches('"').to_owned();
            for privilege in grant.privileges {
                owner.batch_execute(&format!("REVOKE {privilege} ON {table} FROM {role}")).await.unwrap();
                assert!(!explained.refused(&name).await.is_empty(), "nothing needs {privilege} on {table}");
                // The check that commands begin with. It is made here, since a process for each would take long.
                let client = self.connect(role).await;
                let checked = grants::check(&client, purpose.into(), &schema, &prefix, Part::Both).await;
                let error = checked.unwrap_err().to_string();
                assert!(error.contains(&format!("{privilege} on ")) && error.contains(&name), "{error}");
                owner.batch_execute(&format!("GRANT {privilege} ON {table} TO {role}")).await.unwrap();
            }
        }
        assert_eq!(explained.refused("").await, [""; 0]);
        explained.statements.len()
    }

    /// Run a command that has to succeed; what it said.
    async fn done(&self, role: &str, arguments: &[&str]) -> String {
        let done = self.command(role, arguments).await;
        assert!(done.status.success(), "{arguments:?}: {}", said(&done));
        said(&done)
    }

    /// Run a command that has to be refused for want of this right.
    async fn lacks(&self, role: &str, arguments: &[&str], right: &str, purpose: &str) {
        let refused = self.command(role, arguments).await;
        let text = said(&refused);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {text}");
        let next = format!("fireflow-worker grants {role} --for {purpose}");
        assert!(text.contains(right) && text.contains(&next), "{arguments:?}: {right}: {text}");
    }
}

/// An execution that ended days ago, with rows wherever there may be some, the last of its steps a failed one.
fn ended(id: &str, status: &str) -> String {
    let ago = "(extract(epoch FROM now()) * 1000)::bigint - 40 * 86400000::bigint";
    format!(
        "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, class_name, queue_name, serialization, created_at, completed_at)
         VALUES ('{id}', '{status}', 'executeFireFlow', 'ExecutionWorkflows', '{QUEUE}', 'portable_json', {ago}, {ago});
         INSERT INTO dbos.workflow_input (workflow_uuid, inputs) VALUES ('{id}', '{{\"positionalArgs\": [{{\"flowId\": \"echo\"}}]}}');
         INSERT INTO dbos.workflow_output (workflow_uuid, output) VALUES ('{id}', '{{}}');
         INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, function_name, output)
         VALUES ('{id}', 0, 'DBOS.writeStream', NULL), ('{id}', 1, 'DBOS.recv', '\"GO\"'), ('{id}', 2, 'executeFlowAtomic', NULL);
         INSERT INTO dbos.streams (workflow_uuid, key, value, \"offset\", function_id) VALUES ('{id}', 'events', '{{}}', 0, 0);
         INSERT INTO dbos.workflow_events (workflow_uuid, key, value) VALUES ('{id}', 'k', '1');
         INSERT INTO dbos.workflow_events_history (workflow_uuid, function_id, key, value) VALUES ('{id}', 0, 'k', '1');
         INSERT INTO dbos.notifications (destination_uuid, topic, message) VALUES ('{id}', 't', '1');
         INSERT INTO fireflow_executions (id, flow_id, owner_id, status) VALUES ('{id}', 'echo', 'o', 'failed')"
    )
}

#[tokio::test]
async fn gc_needs_what_grants_writes_and_each_of_it() {
    let place = Place::new().await;
    place.connect("postgres").await.batch_execute("GRANT CONNECT ON DATABASE fireflow TO keeper").await.unwrap();
    let all = ["gc", "--older-than", "30d", "--orphans", "--executions"];
    place.lacks("keeper", &all, "DELETE on dbos.streams", "gc").await;
    place.grant("keeper", "gc").await;
    let owner = place.connect("owner").await;
    let old = "INSERT INTO dbos.workflow_input (workflow_uuid, inputs, retention_timestamp) VALUES ('gone', '{}', 1);
               INSERT INTO fireflow_flow_versions (hash, flow_id, version, data, used_at)
               VALUES ('h', 'echo', 1, '{}', now() - interval '3 days')";
    owner.batch_execute(&format!("{}; {old}", ended("EX-old", "SUCCESS"))).await.unwrap();
    let text = place.done("keeper", &all).await;
    for part in ["removed 1 execution (1 SUCCESS)", "1 workflow_input without", "1 contents of flows"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(place.each_is_needed("keeper", Purpose::Retention).await > 5);
    // Only what it is asked to do.
    owner.batch_execute("REVOKE SELECT, DELETE ON fireflow_executions FROM keeper").await.unwrap();
    place.lacks("keeper", &all, "DELETE on fireflow_executions", "gc").await;
    place.done("keeper", &all[..4]).await;
    owner.batch_execute("REVOKE DELETE ON dbos.streams FROM keeper").await.unwrap();
    place.lacks("keeper", &all[..4], "DELETE on dbos.streams", "gc").await;
    place.done("keeper", &["gc", "--older-than", "30d", "--dry-run"]).await;
    owner.batch_execute("GRANT DELETE ON dbos.streams TO keeper").await.unwrap();

    // The guide's service does it, with the URL of its own role as a credential.
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let (_, unit) = guide.split_once("# /etc/systemd/system/fireflow-gc.service").unwrap();
    let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"));
    assert!(line("LoadCredential=").starts_with("database-url:"));
    let mut words = line("ExecStart=").split(' ');
    assert_eq!(words.next(), Some("/usr/bin/fireflow-worker"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("database-url"), place.url("keeper")).unwrap();
    let mut command = program("");
    command.args(words.map(|word| if word == "/etc/fireflow/worker.toml" { "config/worker.toml" } else { word }));
    command.env_remove("DATABASE_URL").env("CREDENTIALS_DIRECTORY", folder.path());
    let ended = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().await.unwrap();
    assert!(ended.status.success() && said(&ended).contains("\"complete\":true"), "{}", said(&ended));
}

#[tokio::test]
async fn operators_need_what_grants_writes_and_each_of_it() {
    let place = Place::new().await;
    let owner = place.connect("owner").await;
    let rows = format!(
        "{}; {}; INSERT INTO dbos.workflow_status (workflow_uuid, status, name, queue_name, serialization)
         VALUES ('EX-queued', 'ENQUEUED', 'executeFireFlow', '{QUEUE}', 'portable_json');
         INSERT INTO dbos.queues (name, concurrency) VALUES ('{QUEUE}', 50);
         INSERT INTO fireflow_workers (id, incarnation, host, application_name, application_version, queue_name, worker_version,
                                       started_at, expires_at, state)
         VALUES ('w1', gen_random_uuid(), 'h', 'fireflow-executor', '1.0.0', '{QUEUE}', '0.1.0', now(), now() + interval '1 hour',
                 'running')",
        ended("EX-done", "SUCCESS"),
        ended("EX-failed", "ERROR")
    );
    owner.batch_execute(&rows).await.unwrap();
    // Who may not use a schema can't be told which of its tables there are.
    let connect = "GRANT CONNECT ON DATABASE fireflow TO operator; GRANT USAGE ON SCHEMA public TO operator";
    place.connect("postgres").await.batch_execute(connect).await.unwrap();
    let commands: [(&[&str], &str, &str); 13] = [
        (&["executions", "list"], "SELECT on dbos.workflow_status", "EX-failed"),
        (&["executions", "list", "--flow", "echo"], "SELECT on fireflow_executions", "EX-done"),
        (&["executions", "show", "EX-failed"], "SELECT on dbos.operation_outputs", "executeFlowAtomic"),
        (&["executions", "tail", "EX-done"], "SELECT on dbos.streams", ""),
        (&["executions", "cancel", "EX-queued"], "UPDATE on fireflow_executions", "cancelled"),
        (&["executions", "resume", "EX-queued"], "DELETE on fireflow_crashes", "resumed"),
        (&["executions", "retry", "EX-failed", "--from-step", "1"], "DELETE on dbos.workflow_output", "from step 1"),
        (&["executions", "fork", "EX-done", "--from-step", "1"], "INSERT on dbos.workflow_input", "EX-done"),
        (&["queue", "show"], "SELECT on dbos.queues", QUEUE),
        (&["queue", "pause", QUEUE], "INSERT on fireflow_queue_pauses", "is paused"),
        (&["queue", "resume", QUEUE], "UPDATE on dbos.queues", "goes on"),
        (&["workers"], "SELECT on fireflow_workers", "w1"),
        (&["drain", "--worker", "w1"], "INSERT on fireflow_drain_requests", "was asked to drain"),
    ];
    for (arguments, right, _) in &commands {
        place.lacks("operator", arguments, right, "operator").await;
    }
    place.grant("operator", "operator").await;
    for (arguments, _, says) in &commands {
        let text = place.done("operator", arguments).await;
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
    let seen = said(&place.command("operator", &["doctor", "--json"]).await);
    assert!(seen.contains("may do what operators do") && !seen.contains("can't tell"), "{seen}");
    assert!(place.each_is_needed("operator", Purpose::Operator).await > 40);

    // A worker's role, which is what there is in its container, may look, cancel and resume, and is told what it may not.
    place.grant("runner", "worker").await;
    for arguments in [
        &["executions", "list"][..],
        &["executions", "show", "EX-failed"],
        &["executions", "cancel", "EX-queued"],
        &["executions", "resume", "EX-queued"],
        &["queue", "show"],
        &["workers"],
    ] {
        place.done("runner", arguments).await;
    }
    for (arguments, right) in [
        (&["executions", "retry", "EX-failed"][..], "DELETE on dbos.operation_outputs"),
        (&["queue", "pause", QUEUE], "INSERT on fireflow_queue_pauses"),
        (&["drain", "--worker", "w1"], "INSERT on fireflow_drain_requests"),
    ] {
        place.lacks("runner", arguments, right, "operator").await;
    }
    for statement in [
        "DELETE FROM dbos.workflow_status",
        "UPDATE fireflow_flows SET data = '{}'",
        "DELETE FROM fireflow_executions",
        "UPDATE fireflow_workers SET state = 'stopped'",
    ] {
        let error = place.connect("operator").await.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{statement}: {error}");
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
