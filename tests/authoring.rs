//! Flows in files: pushed, pulled and converted, by the program's own commands on a real database.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use serde_json::{Value as Json, json};
use support::TestDatabase;
use support::worker::program;

/// What a command ended with: its code, stdout and stderr.
async fn run(url: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = program(url).args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The command has to succeed; its stdout.
async fn done(url: &str, arguments: &[&str]) -> String {
    let (code, out, err) = run(url, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

/// The command has to be refused; its stderr.
async fn refused(url: &str, arguments: &[&str]) -> String {
    let (code, out, err) = run(url, arguments).await;
    assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}: {err}");
    err
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    std::fs::write(folder.join(name), text).unwrap();
    folder.join(name).display().to_string()
}

async fn migrated() -> TestDatabase {
    let database = TestDatabase::new().await;
    done(&database.url(), &["migrate"]).await;
    database
}

/// The version and document of a stored flow.
async fn stored(database: &TestDatabase, id: &str) -> (i32, Json) {
    let sql = "SELECT version, data FROM fireflow_flows WHERE id = $1";
    let row = database.client().await.query_one(sql, &[&id]).await.unwrap();
    (row.get(0), row.get(1))
}

fn note(text: &str) -> String {
    format!("id: note\nnodes:\n  a:\n    type: TextNode\n    inputs: {{text: {text}}}\n")
}

#[tokio::test]
async fn a_push_replaces_only_what_the_file_was_made_from() {
    let database = migrated().await;
    let url = database.url();
    let folder = tempfile::tempdir().unwrap();
    let mine = written(folder.path(), "mine.yaml", &note("one"));
    assert_eq!(done(&url, &["flow", "push", &mine]).await, "note version 1  note\n");
    let first = stored(&database, "note").await;
    assert_eq!(done(&url, &["flow", "push", &mine]).await, "note version 1  note  (unchanged)\n");
    assert_eq!(stored(&database, "note").await, first, "nothing at all was stored");

    // The same file, edited.
    written(folder.path(), "mine.yaml", &note("two"));
    assert_eq!(done(&url, &["flow", "push", &mine]).await, "note version 2  note\n");
    let (version, data) = stored(&database, "note").await;
    assert_eq!((version, &data["metadata"]["pushed"]["version"]), (2, &json!(2)));
    assert_eq!(data["createdAt"], first.1["createdAt"]);
    assert!(data["updatedAt"].as_str() > first.1["updatedAt"].as_str(), "{data}");
    assert!(!data.to_string().contains("mine.yaml"), "{data}");

    // Another file doesn't know of it.
    let other = written(folder.path(), "other.yaml", &note("three"));
    let error = refused(&url, &["flow", "push", &other]).await;
    for part in ["other.yaml: not stored", "stored at version 2", "--expect-version 2", "--force", "flow pull note"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = refused(&url, &["flow", "push", &other, "--expect-version", "1"]).await;
    assert!(error.contains("stored at version 2, not 1"), "{error}");
    let error = refused(&url, &["flow", "push", &other, "--expect-version", "0"]).await;
    assert!(error.contains("stored at version 2, not 0"), "{error}");
    assert_eq!(stored(&database, "note").await.0, 2);
    assert_eq!(done(&url, &["flow", "push", &other, "--expect-version", "2"]).await, "note version 3  note\n");
    assert!(refused(&url, &["flow", "push", &mine]).await.contains("stored at version 3"));
    assert_eq!(done(&url, &["flow", "push", &mine, "--force"]).await, "note version 4  note\n");
    assert_eq!(stored(&database, "note").await.1["metadata"]["pushed"]["version"], 4);
    let error =
        refused(&url, &["flow", "push", &written(folder.path(), "new.yaml", "id: new"), "--expect-version", "7"]).await;
    assert!(error.contains("isn't stored, so there is no version 7"), "{error}");
}

#[tokio::test]
async fn what_was_pulled_is_pushed_back_unless_somebody_else_was_quicker() {
    let database = migrated().await;
    let url = database.url();
    let folder = tempfile::tempdir().unwrap();
    // As an editor draws it.
    let drawn =
        std::fs::read_to_string(format!("{}/examples/flows/price-note.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let drawn: Json = serde_json::from_str(&drawn).unwrap();
    let client = database.client().await;
    let sql = "INSERT INTO fireflow_flows (id, data, version) VALUES ('price-note', $1, 6)";
    client.execute(sql, &[&drawn]).await.unwrap();

    for name in ["pulled.yaml", "pulled.toml", "pulled.json"] {
        let file = folder.path().join(name).display().to_string();
        done(&url, &["flow", "pull", "price-note", "-o", &file]).await;
        let pushed = done(&url, &["flow", "push", &file]).await;
        assert_eq!(pushed, "price-note version 6  Price note  (unchanged)\n", "{name}");
    }
    let file = folder.path().join("pulled.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("id: price-note\nversion: 6\n"), "{text}");
    assert_eq!(done(&url, &["flow", "pull", "price-note"]).await, text);
    assert_eq!(stored(&database, "price-note").await, (6, drawn.clone()));

    // Again and again, with the version that it began with.
    let name = file.display().to_string();
    for (version, product) in [(7, "bolt"), (8, "nut")] {
        std::fs::write(&file, text.replace("gear", product)).unwrap();
        let pushed = done(&url, &["flow", "push", &name, "--json"]).await;
        let pushed: Json = serde_json::from_str(&pushed).unwrap();
        assert_eq!(pushed, json!([{"id": "price-note", "version": version, "changed": true, "warnings": 0}]));
    }
    let error = refused(&url, &["flow", "pull", "price-note", "-o", &name]).await;
    assert!(error.contains("pulled.yaml is there already; --force replaces it"), "{error}");
    // Somebody draws.
    let sql = "UPDATE fireflow_flows SET data = jsonb_set(data, '{metadata,name}', '\"New\"'), version = version + 1";
    client.execute(sql, &[]).await.unwrap();
    std::fs::write(&file, text.replace("gear", "gear wheel")).unwrap();
    let error = refused(&url, &["flow", "push", &name]).await;
    assert!(error.contains("stored at version 9") && error.contains("made from version 6"), "{error}");
    done(&url, &["flow", "pull", "price-note", "-o", &name, "--force"]).await;
    assert!(std::fs::read_to_string(&file).unwrap().contains("version: 9\nname: New\n"));

    let error = refused(&url, &["flow", "pull", "nothing"]).await;
    assert!(error.contains("there is no flow \"nothing\""), "{error}");
}

/// Push all of these at the same time: how many were stored.
async fn at_once(url: &str, files: &[String]) -> usize {
    let pushes = files.iter().map(|file| {
        let (url, file) = (url.to_owned(), file.clone());
        tokio::spawn(async move { run(&url, &["flow", "push", &file]).await })
    });
    let pushes: Vec<_> = pushes.collect();
    let mut stored = 0;
    for push in pushes {
        let (code, _, error) = push.await.unwrap();
        assert!(code == 0 || (code == 1 && error.contains("not stored")), "{error}");
        stored += usize::from(code == 0);
    }
    stored
}

#[tokio::test]
async fn of_concurrent_pushes_exactly_one_stores() {
    let database = migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let files = |head: &str, text: &str| -> Vec<String> {
        let file = |place| {
            let text = format!("{head}{}", note(&format!("{text} {place}")));
            written(folder.path(), &format!("{place}.yaml"), &text)
        };
        (0..6).map(file).collect()
    };
    assert_eq!(at_once(&database.url(), &files("", "first")).await, 1);
    assert_eq!(stored(&database, "note").await.0, 1);
    assert_eq!(at_once(&database.url(), &files("version: 1\n", "second")).await, 1);
    assert_eq!(stored(&database, "note").await.0, 2);
}

/// Between looking and storing, somebody else stores: the statement itself has to see it.
#[tokio::test]
async fn a_push_that_lost_the_race_stores_nothing() {
    let database = migrated().await;
    let url = database.url();
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "a.yaml", &note("one"));
    done(&url, &["flow", "push", &file]).await;
    written(folder.path(), "a.yaml", &note("two"));
    let mut client = database.client().await;
    let transaction = client.transaction().await.unwrap();
    transaction.execute("UPDATE fireflow_flows SET version = version + 1", &[]).await.unwrap();
    // It reads version 1, and then waits for the row.
    let push = tokio::spawn({
        let (url, file) = (url.clone(), file.clone());
        async move { run(&url, &["flow", "push", &file]).await }
    });
    let watch = database.client().await;
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while watch.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!push.is_finished(), "it didn't wait");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    transaction.commit().await.unwrap();
    let (code, _, error) = push.await.unwrap();
    assert!(code == 1 && error.contains("somebody else stored flow \"note\" at the same moment"), "{error}");
    assert_eq!(stored(&database, "note").await.0, 2);
}

#[tokio::test]
async fn all_that_is_wrong_with_a_file_is_said_and_nothing_is_stored() {
    let database = migrated().await;
    let url = database.url();
    let folder = tempfile::tempdir().unwrap();
    let good = written(folder.path(), "good.yaml", &note("one"));
    let bad = "id: bad\nnodes:\n  a: {type: TextNode, input: 5}\nedges:\n  - a.text -> b.text\n";
    let bad = written(folder.path(), "bad.yaml", bad);
    let error = refused(&url, &["flow", "push", &good, &bad]).await;
    for words in [
        "error[unknown-key]: a node has no key `input`",
        "bad.yaml:3:23",
        "did you mean `inputs`?",
        "error[unknown-node]: there is no node `b`",
        "bad.yaml:5:15",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let error = refused(&url, &["flow", "push", &good, &good]).await;
    assert!(error.contains("stands in another of the files as well"), "{error}");
    assert_eq!(done(&url, &["flow", "list", "--json"]).await, "[]\n");
}

#[tokio::test]
async fn files_are_converted_without_a_database() {
    let nowhere = "postgres://127.0.0.1:1/nowhere";
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for example in ["shipping.yaml", "worker-status.toml", "order-desk.yaml"] {
        let file = format!("{}/examples/flows/{example}", env!("CARGO_MANIFEST_DIR"));
        let plain: Json = serde_json::from_str(&done(nowhere, &["flow", "convert", &file]).await).unwrap();
        assert!(plain["nodes"].is_array(), "{plain}");
        // Through each form and back.
        for (to, from) in
            [("a.toml", file.clone()), ("b.yaml", at("a.toml")), ("c.json", at("b.yaml")), ("d.yaml", at("c.json"))]
        {
            done(nowhere, &["flow", "convert", &from, "-o", &at(to), "--force"]).await;
        }
        for last in ["b.yaml", "c.json"] {
            let again = done(nowhere, &["flow", "convert", &at(last), "--to", "json"]).await;
            assert_eq!(serde_json::from_str::<Json>(&again).unwrap(), plain, "{example}: {last}");
        }
        // What was raised is stable.
        done(nowhere, &["flow", "convert", &at("d.yaml"), "-o", &at("e.json"), "--force"]).await;
        let raised = std::fs::read_to_string(at("d.yaml")).unwrap();
        assert_eq!(done(nowhere, &["flow", "convert", &at("e.json")]).await, raised, "{example}");
    }
    let null = written(folder.path(), "null.yaml", "id: x\nmetadata: {a: null}\n");
    assert!(refused(nowhere, &["flow", "convert", &null, "--to", "toml"]).await.contains("TOML, which has no null"));
}

#[tokio::test]
async fn cases_may_be_written_in_yaml_and_name_such_flows() {
    let nowhere = "postgres://127.0.0.1:1/nowhere";
    let folder = tempfile::tempdir().unwrap();
    written(
        folder.path(),
        "flow.toml",
        "id = 'note'\ninputs.said = 'a.text'\noutputs.said = 'a'\n[nodes.a]\ntype = 'TextNode'\n",
    );
    let case = "flow: flow.toml\nrun:\n  inputs: {said: $hello}\nexpect:\n  outputs: {said: $hello}\n";
    written(folder.path(), "named.yaml", case);
    let inline = "flow: {id: x, outputs: {said: a}, nodes: {a: {type: TextNode, inputs: {text: hi}}}}\nexpect: {outputs: {said: hi}}\n";
    written(folder.path(), "inline.yml", inline);
    let path = folder.path().display().to_string();
    let out = done(nowhere, &["flow", "test", &path]).await;
    assert_eq!(out, "ok    inline\nok    named\n\n2 cases: 2 passed, 0 failed\n");
    written(folder.path(), "flow.toml", "id = 'note'\n[nodes.a]\ntyp = 'TextNode'\n");
    let (code, out, _) = run(nowhere, &["flow", "test", &path]).await;
    assert!(code == 1 && out.contains("flow.toml:3:1: a node has no key `typ`; did you mean `type`?"), "{out}");
}
