//! The command line, as scripts and people use it: stdout is data, stderr is talk, the exit code says how it went.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use support::{
    TestDatabase, TestServer,
    client::SqlClient,
    flows::{FlowBuilder, echo},
    worker::{WorkerProcess, program},
};

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    fn json(&self) -> Json {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

async fn run(url: &str, arguments: &[&str]) -> Ended {
    let output = program(url).args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// The command has to succeed.
async fn done(url: &str, arguments: &[&str]) -> Ended {
    let ended = run(url, arguments).await;
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    ended
}

/// A flow in a file, whose name is not its id.
fn hello(folder: &Path) -> String {
    let mut flow = echo("hello-world");
    flow["metadata"]["name"] = json!("A greeting");
    written(folder, "hello.json", &flow.to_string())
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Tables of the worker, wherever they are.
async fn tables(database: &TestDatabase) -> i64 {
    let sql = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('dbos', 'public')";
    database.client().await.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_command_explains_itself_and_wrong_usage_ends_with_2() {
    let nowhere = "postgres://127.0.0.1:1/nowhere";
    let commands: [&[&str]; 27] = [
        &["run"],
        &["dev"],
        &["migrate"],
        &["check"],
        &["healthcheck"],
        &["enqueue"],
        &["flow"],
        &["flow", "push"],
        &["flow", "pull"],
        &["flow", "convert"],
        &["flow", "list"],
        &["flow", "validate"],
        &["flow", "graph"],
        &["flow", "run"],
        &["executions"],
        &["executions", "list"],
        &["executions", "show"],
        &["executions", "cancel"],
        &["executions", "resume"],
        &["executions", "retry"],
        &["executions", "fork"],
        &["executions", "tail"],
        &["queue"],
        &["queue", "show"],
        &["queue", "pause"],
        &["workers"],
        &["drain"],
    ];
    let help = done(nowhere, &["--help"]).await;
    for command in commands {
        assert!(command.len() > 1 || help.out.contains(&format!("  {} ", command[0])), "{command:?}: {}", help.out);
        let own = done(nowhere, &[command, &["--help"]].concat()).await;
        assert!(own.out.contains(&format!("Usage: fireflow-worker {}", command.join(" "))), "{}", own.out);
        assert!(own.out.contains("--config <FILE>") && own.err.is_empty(), "{own:?}");
        assert!(!own.out.contains(nowhere), "the URL may hold a password: {}", own.out);
    }
    assert!(help.out.contains("Exit codes: 0"), "{}", help.out);
    let version = done(nowhere, &["--version"]).await;
    assert_eq!(version.out, format!("fireflow-worker {}\n", env!("CARGO_PKG_VERSION")));
    for wrong in
        [&[][..], &["frob"], &["flow"], &["flow", "push"], &["enqueue"], &["check", "--frob"], &["flow", "frob"]]
    {
        let ended = run(nowhere, wrong).await;
        assert_eq!(ended.code, 2, "{wrong:?}: {ended:?}");
        assert!(ended.out.is_empty() && ended.err.contains("Usage"), "{wrong:?}: {ended:?}");
    }
}

#[tokio::test]
async fn check_tells_by_its_exit_code_whether_the_worker_would_start_and_changes_nothing() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let fresh = done(&url, &["check"]).await;
    assert!(fresh.out.contains("not there yet"), "{fresh:?}");
    assert_eq!(tables(&database).await, 0);
    done(&url, &["migrate"]).await;
    let ready = done(&url, &["check", "--json"]).await.json();
    assert_eq!(ready["usable"], true);
    assert_eq!(
        (&ready["configuration"], &ready["database"], &ready["schema"]),
        (&json!("ok"), &json!("ok"), &json!("dbos"))
    );
    assert!(ready["system_schema"].as_str().unwrap().starts_with("usable, at level "), "{ready}");

    database.client().await.batch_execute("DROP TABLE fireflow_drain_requests").await.unwrap();
    let less = done(&url, &["check"]).await;
    assert!(less.out.contains("missing: fireflow_drain_requests; the worker or `migrate` makes them"), "{less:?}");
    database.client().await.batch_execute("DROP TABLE dbos.streams").await.unwrap();
    let half = run(&url, &["check", "--json"]).await;
    assert_eq!((half.code, &half.json()["usable"]), (1, &json!(false)), "{half:?}");
    let half = run(&url, &["check"]).await;
    assert_eq!(half.code, 1, "{half:?}");
    assert!(half.out.contains("table streams") && half.out.contains("dbos migrate"), "{half:?}");

    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "worker.toml", "[queue]\nnmae = \"q\"\n");
    let bad = run(&url, &["check", "--config", &file]).await;
    assert_eq!(bad.code, 78, "{bad:?}");
    assert!(bad.err.contains(&file) && bad.err.contains("did you mean `name`"), "{bad:?}");
    let missing = run(&url, &["check", "--config", "/no/such/file.toml"]).await;
    assert_eq!(missing.code, 78, "{missing:?}");
    for url in [TestServer::get().url("nowhere"), "postgres://127.0.0.1:1/nowhere".into()] {
        let away = run(&url, &["check", "--json"]).await;
        assert_eq!((away.code, away.out.as_str()), (69, ""), "{away:?}");
        assert!(away.err.starts_with("error: "), "{away:?}");
    }
    // The flag wins over the environment.
    done(
        "postgres://127.0.0.1:1/nowhere",
        &["migrate", "--dry-run", "--database-url", &TestDatabase::new().await.url()],
    )
    .await;
}

#[tokio::test]
async fn migrate_makes_what_its_dry_run_announced_and_only_once() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let plan = done(&url, &["migrate", "--dry-run", "--json"]).await.json();
    assert_eq!(plan["dry_run"], true);
    let steps = plan["steps"].as_array().unwrap();
    for table in [
        "fireflow_flows",
        "fireflow_executions",
        "fireflow_workers",
        "fireflow_flow_versions",
        "fireflow_flow_pins",
        "fireflow_crashes",
        "fireflow_queue_pauses",
        "fireflow_drain_requests",
    ] {
        assert!(steps.contains(&json!(format!("CREATE TABLE {table}"))), "{plan}");
    }
    assert_eq!(tables(&database).await, 0, "a dry run changes nothing");
    let made = done(&url, &["migrate"]).await;
    assert!(made.out.contains("created system schema dbos at level "), "{made:?}");
    assert!(tables(&database).await > 10);
    for arguments in [&["migrate"][..], &["migrate", "--dry-run"]] {
        assert!(done(&url, arguments).await.out.contains("nothing to do"));
    }
    assert_eq!(done(&url, &["migrate", "--json"]).await.json(), json!({"dry_run": false, "steps": []}));

    let half = TestDatabase::new().await;
    done(&half.url(), &["migrate"]).await;
    half.client().await.batch_execute("DROP TABLE dbos.streams").await.unwrap();
    for arguments in [&["migrate"][..], &["migrate", "--dry-run"]] {
        let refused = run(&half.url(), arguments).await;
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("incomplete (table streams)"), "{refused:?}");
    }
}

#[tokio::test]
async fn pushed_flows_are_listed_and_a_bad_file_stores_nothing() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let early = run(&url, &["flow", "list"]).await;
    assert_eq!(early.code, 1, "{early:?}");
    assert!(early.err.contains("migrate"), "{early:?}");
    done(&url, &["migrate"]).await;
    let none = done(&url, &["flow", "list"]).await;
    assert!(none.out.is_empty() && none.err.contains("flow push"), "{none:?}");
    assert_eq!(done(&url, &["flow", "list", "--json"]).await.json(), json!([]));

    let folder = tempfile::tempdir().unwrap();
    let hello = hello(folder.path());
    let no_id = json!({"metadata": {"name": "x"}, "nodes": [], "edges": []}).to_string();
    for (name, text, parts) in [
        ("broken.json", "{\n  \"id\": \"x\",\n  \"nodes\": [,]\n}", &["error[syntax]", "broken.json:3:13"][..]),
        ("list.json", "[1]", &["error[not-a-flow]", "a flow is a JSON object"]),
        ("shape.json", r#"{"id": "x", "nodes": 7}"#, &["error[not-a-flow]", "`nodes` must be a list"]),
        ("nameless.json", &no_id, &["error[no-id]", "has no id"]),
    ] {
        let file = written(folder.path(), name, text);
        let refused = run(&url, &["flow", "push", &hello, &file]).await;
        assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
        for part in parts.iter().chain([&file.as_str()]) {
            assert!(refused.err.contains(part), "{part}: {refused:?}");
        }
    }
    let refused = run(&url, &["flow", "push", &hello, "/no/such/flow.json"]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("/no/such/flow.json: can't read"), "{refused:?}");
    assert_eq!(done(&url, &["flow", "list", "--json"]).await.json(), json!([]), "nothing of all that was stored");

    let dangling = FlowBuilder::new("dangling").node("a", "TextNode", &[]).edge(("a", "text"), ("gone", "text"));
    let dangling = written(folder.path(), "dangling.json", &dangling.build().to_string());
    let refused = run(&url, &["flow", "push", "--json", &hello, &dangling]).await;
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
    for part in ["error[unknown-node]", "dangling.json:1:", "nothing is stored", "--no-validate"] {
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
    assert_eq!(done(&url, &["flow", "list", "--json"]).await.json(), json!([]));
    let no_form = written(folder.path(), "no-form.json", "[1]");
    assert_eq!(run(&url, &["flow", "push", "--no-validate", &no_form]).await.code, 1);
    let pushed = done(&url, &["flow", "push", "--no-validate", "--json", &hello, &dangling]).await;
    assert_eq!(
        pushed.json(),
        json!([
            {"id": "hello-world", "version": 1, "changed": true, "warnings": 0},
            {"id": "dangling", "version": 1, "changed": true, "warnings": 1},
        ])
    );
    assert!(pushed.err.contains("error[unknown-node]"), "{pushed:?}");
    let loose =
        FlowBuilder::new("loose").node("a", "ArrayFirstNode", &[]).node("b", "TextNode", &[("text", json!(""))]);
    let loose = loose.edge(("a", "element"), ("b", "text")).build().to_string();
    let warned = done(&url, &["flow", "push", &written(folder.path(), "loose.json", &loose)]).await;
    assert!(warned.err.contains("warning[loose-type]") && warned.out.starts_with("loose version 1"), "{warned:?}");
    let again = done(&url, &["flow", "push", &hello]).await.out;
    assert!(again.starts_with("hello-world version 1") && again.ends_with("(unchanged)\n"), "{again}");
    let mut changed: Json = serde_json::from_str(&std::fs::read_to_string(&hello).unwrap()).unwrap();
    changed["metadata"]["tags"] = json!(["new"]);
    std::fs::write(&hello, changed.to_string()).unwrap();
    assert!(done(&url, &["flow", "push", &hello]).await.out.starts_with("hello-world version 2"));
    let listed = done(&url, &["flow", "list", "--json"]).await.json();
    let summary = |place: usize| ["id", "name", "version", "nodes", "owner"].map(|key| listed[place][key].clone());
    assert_eq!(summary(0), [json!("hello-world"), json!("A greeting"), json!(2), json!(1), json!("tests")]);
    assert_eq!(summary(1), [json!("dangling"), json!("dangling"), json!(1), json!(1), json!("tests")]);
    let table = done(&url, &["flow", "list"]).await;
    assert_eq!(table.out.lines().count(), 4, "{table:?}");
    assert!(table.out.starts_with(" ID") || table.out.starts_with("ID"), "{table:?}");
}

#[tokio::test]
async fn every_example_is_a_flow_without_warnings() {
    let database = TestDatabase::new().await;
    done(&database.url(), &["migrate"]).await;
    let folder = std::fs::read_dir(format!("{}/examples/flows", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let files: Vec<String> = folder.map(|file| file.unwrap().path().display().to_string()).collect();
    assert!(files.len() >= 5, "{files:?}");
    let mut arguments = vec!["flow", "push", "--json"];
    arguments.extend(files.iter().map(String::as_str));
    let pushed = done(&database.url(), &arguments).await;
    assert_eq!(pushed.err, "");
    assert_eq!(pushed.json().as_array().unwrap().len(), files.len());

    // The folder is its files; other files in it don't count.
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().to_str().unwrap();
    let empty = run(&database.url(), &["flow", "push", named]).await;
    assert!(empty.code == 1 && empty.err.contains(named) && empty.err.contains("no flows"), "{empty:?}");
    written(folder.path(), "notes.txt", "not a flow");
    for file in &files {
        std::fs::copy(file, folder.path().join(Path::new(file).file_name().unwrap())).unwrap();
    }
    let pushed = done(&database.url(), &["flow", "push", "--json", named]).await;
    let pushed = pushed.json();
    assert_eq!(pushed.as_array().unwrap().len(), files.len());
    assert!(pushed.as_array().unwrap().iter().all(|flow| flow["changed"] == false), "{pushed}");
}

#[tokio::test]
async fn enqueue_waits_and_tells_the_outcome() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    let url = database.url();
    client.store(&echo("echo")).await;
    let folder = tempfile::tempdir().unwrap();
    done(&url, &["flow", "push", &hello(folder.path())]).await;
    for id in ["twin-1", "twin-2"] {
        let mut twin = echo(id);
        twin["metadata"]["name"] = json!("Twin");
        client.store(&twin).await;
    }

    // Without a worker: the id, and a wait that ends.
    let id = done(&url, &["enqueue", "hello-world", "-i", "text=Ada"]).await.out.trim().to_owned();
    assert!(id.starts_with("EX") && id.len() == 26, "{id}");
    assert_eq!(client.row(&id).await.unwrap().status, "ENQUEUED");
    let late = run(&url, &["enqueue", "echo", "--id", "EX-late", "--wait", "--wait-timeout", "10ms"]).await;
    assert_eq!((late.code, late.out.as_str()), (1, ""), "{late:?}");
    assert!(late.err.contains("EX-late") && late.err.contains("Does a worker serve the queue"), "{late:?}");

    let worker = WorkerProcess::start(&url, "w1", &[]).await;
    assert_eq!(client.until(&id, "SUCCESS").await.result()["outputs"]["text"], "Ada");

    // By name, with JSON; and from a file.
    let waited = done(&url, &["enqueue", "A greeting", "-i", "text=Grace", "--wait", "--json", "--id", "EX1"]).await;
    let waited = waited.json();
    assert_eq!((&waited["id"], &waited["flow"]), (&json!("EX1"), &json!("hello-world")));
    assert_eq!((&waited["status"], &waited["error"]), (&json!("SUCCESS"), &Json::Null));
    assert_eq!(waited["result"]["outputs"], json!({"text": "Grace"}));
    let file = written(folder.path(), "text.txt", "from a file\n");
    let input = format!("text=@{file}");
    let read = done(&url, &["enqueue", "echo", "--input", &input, "--wait"]).await;
    assert_eq!(read.json()["outputs"]["text"], "from a file\n");
    // A port is an input as well.
    let port = done(&url, &["enqueue", "echo", "-i", "text.text=\"7\"", "--wait"]).await;
    assert_eq!(port.json()["outputs"]["text"], "7");

    // An id that exists is not run again.
    let again = done(&url, &["enqueue", "hello-world", "-i", "text=Bob", "--wait", "--json", "--id", "EX1"]).await;
    assert!(again.err.contains("EX1 was there already"), "{again:?}");
    assert_eq!(again.json()["result"], waited["result"]);

    // What can't work is refused before anything is enqueued.
    let count = "SELECT count(*) FROM dbos.workflow_status";
    let before: i64 = client.sql().query_one(count, &[]).await.unwrap().get(0);
    for (arguments, part) in [
        (&["enqueue", "nothing"][..], "there is no flow \"nothing\""),
        (&["enqueue", "Twin"], "give one of their ids: twin-1, twin-2"),
        (&["enqueue", "hello-world", "-i", "txet=Ada"], "no input \"txet\"; its inputs: text"),
        (&["enqueue", "hello-world", "-i", "Ada"], "expected NAME=VALUE"),
        (&["enqueue", "hello-world", "-i", "text=@/no/such/file"], "can't read /no/such/file"),
    ] {
        let refused = run(&url, arguments).await;
        assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
    assert_eq!(client.sql().query_one(count, &[]).await.unwrap().get::<_, i64>(0), before);

    // An execution that fails.
    client.execute("DELETE FROM fireflow_flows WHERE id = 'twin-1'", &[]).await;
    client.enqueue("EX-fails", "twin-1", json!({})).await;
    client.until("EX-fails", "ERROR").await;
    let failed = run(&url, &["enqueue", "twin-2", "--id", "EX-fails", "--wait", "--json"]).await;
    assert_eq!(failed.code, 1, "{failed:?}");
    assert_eq!(failed.json()["status"], "ERROR");
    assert!(failed.json()["error"].as_str().unwrap().contains("there is no flow \"twin-1\""), "{failed:?}");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn enqueue_starts_what_waits_for_a_signal() {
    let database = TestDatabase::new().await;
    let client = SqlClient::open(&database).await;
    client.store(&echo("echo")).await;
    let worker = WorkerProcess::start(&database.url(), "w1", &[("execution.start", "signal")]).await;
    let mut command = program(&database.url());
    command.env("FIREFLOW__EXECUTION__START", "signal").args(["enqueue", "echo", "--wait"]);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn flow_test_runs_cases_and_tells_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let case = |greeting: &str| {
        json!({
            "flow": "hello-world.yaml",
            "run": {"inputs": {"name": "you"}},
            "expect": {"outputs": {"greeting": greeting}, "failed": false},
        })
    };
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flows");
    std::fs::create_dir(folder.path().join("cases")).unwrap();
    std::fs::copy(examples.join("hello-world.yaml"), folder.path().join("cases/hello-world.yaml")).unwrap();
    write("cases/good.case.json", &case("Hello, you!").to_string());
    let run = async |arguments: &[&str]| {
        let output = program("postgres://nowhere.invalid/none")
            .args(["flow", "test"])
            .args(arguments)
            .current_dir(folder.path())
            .output();
        let output = output.await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, said, _) = run(&["cases/good.case.json"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "ok    good.case\n\n1 cases: 1 passed, 0 failed\n"));

    // In a folder, flows are left out.
    assert_eq!(run(&["cases"]).await.1, said);

    write("cases/bad.json", &case("Good evening, you!").to_string());
    write("cases/broken.json", "{");
    std::fs::remove_file(folder.path().join("cases/hello-world.yaml")).unwrap();
    std::fs::copy(examples.join("hello-world.yaml"), folder.path().join("hello-world.yaml")).unwrap();
    let (code, said, _) = run(&["cases"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("FAIL  good.case\n      cases/good.case.json: can't read cases/hello-world.yaml"), "{said}");
    std::fs::rename(folder.path().join("hello-world.yaml"), folder.path().join("cases/flow.yml")).unwrap();
    let moved = case("Good evening, you!").to_string().replace("hello-world.yaml", "flow.yml");
    write("cases/bad.json", &moved);
    let (code, said, _) = run(&["cases/bad.json", "cases/broken.json"]).await;
    assert_eq!(code, Some(1));
    for part in [
        "FAIL  bad\n      outputs/greeting\n        expected \"Good evening, you!\"\n        found    \"Hello, you!\"",
        "FAIL  broken",
        "2 cases: 0 passed, 2 failed",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let (code, said, _) = run(&["--json", "cases/bad.json"]).await;
    let said: Json = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["failed"], &said["cases"][0]["status"]), (Some(1), &json!(1), &json!("failed")));
    assert_eq!(said["cases"][0]["differences"][0]["path"], "outputs/greeting");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let (code, _, error) = run(&["empty"]).await;
    assert!(code == Some(1) && error.contains("empty: no cases here"), "{error}");
}
