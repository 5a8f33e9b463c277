//! What is shipped beside the binary says what the binary does: unit, README and links. Images and packages: tests/packaging.rs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

#[path = "interop/mod.rs"]
mod interop;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fireflow_worker::config::Settings;
use interop::setup::{Lang, available};
use serde_json::Value;
use support::TestDatabase;
use support::worker::{self, PATIENCE, WorkerProcess, program};

/// The hand-over after the drain may take so long when the database doesn't answer (see `worker::drain`).
const HAND_OVER: Duration = Duration::from_secs(25);

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The values of `key=value` lines, or of `KEY value` lines.
fn values<'t>(text: &'t str, key: &str, separator: char) -> Vec<&'t str> {
    text.lines()
        .filter_map(|line| line.trim().split_once(separator))
        .filter(|(found, _)| *found == key)
        .map(|(_, value)| value.trim())
        .collect()
}

fn the_value<'t>(text: &'t str, key: &str, separator: char) -> &'t str {
    match values(text, key, separator).as_slice() {
        [value] => value,
        found => panic!("{key}: expected it once, found {found:?}"),
    }
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The fenced block of this language whose text holds `part`.
fn block(markdown: &str, language: &str, part: &str) -> String {
    let fence = format!("```{language}\n");
    let blocks = markdown.split(&fence).skip(1).filter_map(|rest| rest.split_once("\n```").map(|(text, _)| text));
    let mut found = blocks.filter(|text| text.contains(part));
    found.next().unwrap_or_else(|| panic!("README: no {language} block with {part:?}")).to_owned()
}

// --- Unit ------------------------------------------------------------------------------------------------------------

#[test]
fn the_unit_gives_the_drain_its_time_and_does_not_repeat_a_bad_configuration() {
    let unit = read("systemd/fireflow-worker.service");
    let stop = duration(the_value(&unit, "TimeoutStopSec", '='));
    assert!(stop >= Settings::default().worker.drain_timeout + HAND_OVER, "{stop:?}");
    assert_eq!(the_value(&unit, "KillSignal", '='), "SIGTERM");
    assert_eq!(the_value(&unit, "RestartPreventExitStatus", '='), "78");
}

// --- README ----------------------------------------------------------------------------------------------------------

/// Keys and defaults of the reference configuration, as TOML writes them; none for keys that have no default.
fn reference_keys() -> BTreeMap<String, Option<String>> {
    let mut section = String::new();
    let mut keys = BTreeMap::new();
    for line in read("config/worker.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            // A section within another is a key whose own keys are the user's.
            if section.contains('.') {
                keys.insert(section.clone(), None);
            }
            continue;
        }
        let (text, shown) = match line.strip_prefix("# ") {
            Some(commented) => (commented, false),
            None => (line, true),
        };
        let Some((key, value)) = text.split_once(" = ") else { continue };
        // A sentence in a comment is no key.
        if key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_') {
            keys.insert(format!("{section}.{key}"), shown.then(|| value.to_owned()));
        }
    }
    keys
}

#[test]
fn the_readme_names_exactly_the_keys_of_the_configuration_with_their_defaults() {
    let readme = read("README.md");
    let (_, table) = readme.split_once("| key | default | meaning |").expect("the table of the configuration");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let shown: BTreeMap<String, Option<String>> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let (key, rest) = line.split_once("` | ").expect("a key in backticks");
            let (default, meaning) = rest.split_once(" | ").expect("a default");
            assert!(meaning.len() > 5, "{key} has no meaning");
            (key.to_owned(), (default != "–").then(|| default.trim_matches('`').to_owned()))
        })
        .collect();
    assert_eq!(shown, reference_keys());
}

#[test]
fn the_readme_names_the_exit_codes_of_the_help() {
    let help = Command::new(worker::PROGRAM).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, codes) = help.split_once("Exit codes: ").expect("exit codes in the help");
    let first_number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse::<u8>().ok());
    let helped: Vec<u8> = codes.split(',').filter_map(first_number).collect();

    let readme = read("README.md");
    let (_, table) = readme.split_once("| code | meaning |").expect("the table of exit codes");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let shown: Vec<u8> = table.lines().filter_map(|line| first_number(line.strip_prefix('|')?)).collect();
    assert_eq!(shown, helped);
}

#[test]
fn links_and_named_sources_are_there() {
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/authoring.md", "docs/compatibility.md"] {
        let text = read(name);
        let here = path(name).parent().unwrap().to_owned();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            let file = target.split('#').next().unwrap_or_default(); // the rest is a heading in it
            assert!(here.join(file).exists(), "{name} links to {target}, which isn't there");
        }
        // Files in backticks are named from the root, or from src.
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_file = quoted.ends_with(".rs") || quoted.starts_with("src/");
            let bare = !quoted.contains('/'); // in the text's own room
            let there = path(quoted).exists() || path("src").join(quoted).exists();
            assert!(!is_file || bare || there, "{name} names {quoted}, which isn't there");
        }
    }
}

// --- README's examples, as they stand there --------------------------------------------------------------------------

/// A worker with the example flow on a database of its own.
async fn serving() -> (TestDatabase, WorkerProcess) {
    let database = TestDatabase::new().await;
    let worker = WorkerProcess::start(&database.url(), "readme", &[]).await;
    let pushed = program(&database.url()).args(["flow", "push"]).arg(path("examples/flows/hello-world.yaml")).output();
    let pushed = pushed.await.unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    (database, worker)
}

#[tokio::test]
async fn the_readme_s_sql_enqueues_a_flow_and_reads_its_result() {
    let (database, worker) = serving().await;
    let sql = block(&read("README.md"), "sql", "enqueue_workflow");
    let (enqueue, result) = sql.split_once("\n\n").expect("two statements");
    let client = database.client().await;
    let id: String = client.query_one(enqueue, &[]).await.unwrap().get(0);
    let ended = async {
        loop {
            let row = client.query_one(result, &[]).await.unwrap();
            let status: String = row.get("status");
            if status != "ENQUEUED" && status != "PENDING" {
                return (status, row.get::<_, Option<String>>("output"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (status, output) = tokio::time::timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("{}", worker.log()));
    let output: Value = serde_json::from_str(&output.unwrap_or_default()).unwrap();
    assert_eq!((status.as_str(), &output["executionId"]), ("SUCCESS", &Value::from(id)));
    assert_eq!(output["outputs"]["greeting"], "Hello, Ada!");
}

#[tokio::test]
async fn the_readme_s_command_enqueues_a_flow_and_shows_its_result() {
    let (database, _worker) = serving().await;
    let commands = block(&read("README.md"), "sh", "fireflow-worker enqueue");
    let line = commands.lines().find(|line| line.starts_with("fireflow-worker enqueue")).unwrap();
    let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
    let output = program(&database.url()).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["outputs"]["greeting"], "Hello, Ada!");
}

#[tokio::test]
async fn the_readme_s_typescript_enqueues_a_flow_and_follows_it() {
    let Some(said) = run_snippet(Lang::TypeScript, "ts", "DBOSClient.create").await else { return };
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.first(), Some(&"Hello, Ada!"), "{said}");
    assert!(lines.contains(&"execution:created") && lines.last() == Some(&"flow:completed"), "{said}");
}

#[tokio::test]
async fn the_readme_s_python_enqueues_a_flow_and_reads_its_result() {
    let Some(said) = run_snippet(Lang::Python, "python", "DBOSClient(").await else { return };
    assert!(said.lines().any(|line| line == "Hello, Ada!"), "{said}");
}

/// What a snippet says on stdout; none where there is no such SDK.
async fn run_snippet(language: Lang, fence: &str, part: &str) -> Option<String> {
    let runtime = tokio::task::spawn_blocking(move || available(language)).await.unwrap()?;
    let (database, worker) = serving().await;
    // Beside the SDK, where the interpreter looks for it.
    let name = format!("readme-{}", std::process::id());
    let script = runtime.folder.join(name).with_extension(runtime.extension);
    std::fs::write(&script, block(&read("README.md"), fence, part)).unwrap();
    let mut command = tokio::process::Command::new(&runtime.program);
    command.arg(&script).current_dir(&runtime.folder).env("DATABASE_URL", database.url()).kill_on_drop(true);
    let ran = tokio::time::timeout(PATIENCE, command.output()).await;
    std::fs::remove_file(&script).unwrap();
    let output = ran.unwrap_or_else(|_| panic!("it didn't end:\n{}", worker.log())).unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), worker.log());
    Some(String::from_utf8(output.stdout).unwrap())
}
