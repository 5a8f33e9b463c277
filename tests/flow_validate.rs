//! `flow validate`: what it finds, where, and how it says so; and that flows that work pass.
//!
//! `tests/validation` has flows with mistakes, each beside what is written about it. `FIREFLOW_RECORD=1` writes that anew.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops at what must not be, and tells what it saw")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use fireflow_worker::flow::cases::{Case, STREAM_SOURCE};
use fireflow_worker::flow::validate::{check, codes::CODES};
use fireflow_worker::flow::{FlowFile, Severity};
use fireflow_worker::nodes::Registry;
use serde_json::{Value as Json, json};
use support::flows::FlowBuilder;
use support::worker::PROGRAM;

/// Flows of cases that run and have errors all the same, with what is wrong with each.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("async-error-port", "a number goes to a text port"),
    ("bound-with-event", "its listener has no name on purpose, a node starves, and numbers go to text ports"),
    ("bound-without-event", "its listener has no name on purpose, a node starves, and numbers go to text ports"),
    ("branch-operators", "an operator is no option, which makes it false"),
    ("cycle", "has a cycle"),
    ("cycle-reported", "has a cycle"),
    ("dangling-edges", "edges lead to nodes and elements that are not there"),
    ("error-and-data-mixed", "handlers need both the success and the failure of a node"),
    ("failing-node", "a number goes to a text port, behind a node that fails"),
    ("group-members-done-by-event", "a member waits for a listener of another event"),
    ("handlebars", "one node has a bad template, another one none, and both fail"),
    ("handlebars-log", "one node has a bad template, another one none, and both fail"),
    ("http-failures", "two nodes have no base or path, and fail"),
    ("inputs-and-outputs", "an output names a node that is not there"),
    ("langchain-template", "a node has no template, and fails"),
    ("listener-binding", "nodes wait for what runs for an event only"),
    ("needs-a-service", "a stream goes to a text port"),
    ("regexp-errors", "its nodes fail on purpose"),
    ("required-without-value", "a text goes to a number port"),
    ("schema-shared-by-emitter-and-listener", "a node waits for what runs for an event only"),
    ("stored-after-a-run", "a handler waits for a failure that can't be"),
    ("stored-bad-connection", "nodes name ports that are not there"),
    ("stored-bad-values", "stored values are not of their ports' types"),
    ("stored-bad-values-and-configurations", "stored values are not of their ports' types"),
    ("stored-flow-port-switches", "nodes that are no listeners have a listener's switch"),
    ("stored-mismatched-edge", "a number goes to a text port"),
    ("stored-mismatched-flag", "a number goes to a text port"),
    ("stored-unknown-node", "a node's type does not exist, and an edge leads to a port that is not there"),
    ("two-sources-error-and-success", "a number goes to a text port, behind a node that fails"),
    ("two-sources-one-fails", "a number goes to a text port, behind a node that fails"),
    ("unknown-node-error-port", "a node's type does not exist"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let wanted = |path: &PathBuf| {
        path.extension().is_some_and(|extension| ["json", "yaml", "toml"].iter().any(|wanted| extension == *wanted))
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(wanted).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

/// Run `flow validate` in the folder of the flows with mistakes.
fn validate(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.current_dir(root().join("tests/validation")).env_clear();
    command.args(["flow", "validate"]).args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn each_mistake_is_found_at_its_place_and_told_as_recorded() {
    let mut shown = BTreeSet::new();
    for file in files(&root().join("tests/validation")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let ended = validate(&[name]);
        let text = out(&ended);
        assert_eq!(ended.stderr, b"", "{name}");
        assert_eq!(ended.status.code(), Some(i32::from(text.contains("error["))), "{name}: {text}");
        let recorded = file.with_extension("txt");
        if std::env::var_os("FIREFLOW_RECORD").is_some() {
            std::fs::write(&recorded, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&recorded).unwrap(), "{name}");
        shown.extend(CODES.iter().map(|code| code.name).filter(|code| text.contains(&format!("[{code}]"))));
    }
    let all: BTreeSet<&str> = CODES.iter().map(|code| code.name).collect();
    assert_eq!(shown, all, "every code has a flow that shows it");
}

/// Types that need a vendor's service are known by name; their nodes are no mistakes.
#[test]
fn types_that_need_a_service_are_warnings() {
    let registry = Registry::standard();
    let flow = FlowBuilder::new("vendor").node("ask", "LLMCallNode", &[("prompt", json!("x"))]).build().to_string();
    let checked = check(&FlowFile::read("vendor.json", &flow, &registry), &registry);
    let codes: Vec<&str> = checked.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["needs-service"]);
    assert!(!checked.has_errors());
}

#[test]
fn the_documentation_lists_every_code_as_the_code_does() {
    let page = std::fs::read_to_string(root().join("docs/validation.md")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [code, severity, about] = cells.as_slice() else { return None };
        let code = code.strip_prefix('`')?.strip_suffix('`')?;
        Some((code.to_owned(), (*severity).to_owned(), (*about).to_owned()))
    };
    let documented: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).filter_map(row).collect();
    let severity = |severity| if severity == Severity::Error { "error" } else { "warning" };
    let known =
        CODES.iter().map(|code| (code.name.to_owned(), severity(code.severity).to_owned(), code.about.to_owned()));
    assert_eq!(documented, known.collect::<Vec<_>>());
    let names: BTreeSet<&str> = CODES.iter().map(|code| code.name).collect();
    assert_eq!(names.len(), CODES.len());
}

#[test]
fn flows_that_run_have_no_errors() {
    let mut registry = Registry::standard();
    registry.register(STREAM_SOURCE);
    let mut with_errors = BTreeSet::new();
    let mut look = |name: &str, file: &str, text: &str| {
        let checked = check(&FlowFile::read(file, text, &registry), &registry);
        let errors = checked.findings.iter().filter(|finding| finding.severity == Severity::Error);
        let errors: Vec<String> = errors.map(|finding| finding.message.clone()).collect();
        if !errors.is_empty() {
            assert!(EXCEPTIONS.iter().any(|(known, _)| *known == name), "{name}: {errors:#?}");
            with_errors.insert(name.to_owned());
        }
    };
    for file in files(&root().join("examples/flows")) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        look(name, file.to_str().unwrap(), &std::fs::read_to_string(&file).unwrap());
    }
    let recorded = root().join("../shared/conformance");
    let recorded = std::env::var_os("FIREFLOW_CONFORMANCE").map_or(recorded, PathBuf::from);
    let folders = [root().join("tests/cases/conformance"), recorded];
    let complete = folders.iter().all(|folder| folder.is_dir());
    for file in folders.iter().filter(|folder| folder.is_dir()).flat_map(|folder| files(folder)) {
        let case = Case::load(&file).unwrap();
        look(&case.name, "flow.json", &case.flow.to_string());
    }
    for file in files(&root().join("tests/cases/golden")) {
        let case: Json = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        if case["flow"].is_object() {
            look(file.file_stem().unwrap().to_str().unwrap(), "flow.json", &case["flow"].to_string());
        }
    }
    if complete {
        let known: BTreeSet<String> = EXCEPTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(with_errors, known, "exceptions that have no errors are none");
    }
}

#[test]
fn warnings_alone_pass_unless_they_are_to_count() {
    let warned = validate(&["loose-type.json"]);
    assert_eq!(warned.status.code(), Some(0));
    assert!(out(&warned).contains("warning[loose-type]"));
    let strict = validate(&["--strict", "loose-type.json"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(out(&strict).contains("error[loose-type]"));
    let several = validate(&["loose-type.json", "cycle.json"]);
    assert_eq!(several.status.code(), Some(1));
    assert!(out(&several).contains("warning[loose-type]") && out(&several).contains("error[cycle]"));
    let missing = validate(&["nowhere.json"]);
    assert_eq!((missing.status.code(), out(&missing).as_str()), (Some(1), ""));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nowhere.json: can't read"));
}

#[test]
fn editors_get_findings_as_a_list() {
    let ended = validate(&["--json", "unheard-event.json", "written.yaml"]);
    assert_eq!(ended.status.code(), Some(1));
    let list: Json = serde_json::from_str(&out(&ended)).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(
        list[0],
        json!({
            "file": "unheard-event.json",
            "code": "unheard-event",
            "severity": "warning",
            "message": "node \"emit\" emits \"oder\", and no listener waits for it",
            "line": 10, "column": 91, "endLine": 10, "endColumn": 97,
            "hint": "did you mean \"order\"?",
        })
    );
    let written: Vec<_> = list.iter().filter(|finding| finding["file"] == "written.yaml").collect();
    let lines: Vec<i64> = written.iter().map(|finding| finding["line"].as_i64().unwrap()).collect();
    assert_eq!(lines, [10, 14, 16, 17], "by place");
    assert!(written.iter().all(|finding| finding["severity"] == "error"));
    let none = validate(&["--json", "../../examples/flows/hello-world.yaml"]);
    assert_eq!((none.status.code(), out(&none).trim()), (Some(0), "[]"));
}

#[test]
fn foreign_text_can_not_command_the_terminal_and_long_lines_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evil.json");
    let flow = FlowBuilder::new("evil").node("a\u{1b}[31m\u{7}", "Nonsense\r\n", &[("text", json!("x".repeat(5000)))]);
    std::fs::write(&file, flow.build().to_string()).unwrap();
    let ended = validate(&[file.to_str().unwrap()]);
    let text = out(&ended);
    assert!(text.contains("error[unknown-type]"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{7}', '\r']), "{text:?}");
    assert!(text.lines().all(|line| line.chars().count() < 250), "{text}");
}

/// A flow of thousands of nodes, all of whose edges are wrong, and one that is a single ring.
#[test]
fn large_flows_are_checked_in_reasonable_time() {
    let registry = Registry::standard();
    for (to, code) in [("nowhere", "unknown-port"), ("num", "cycle")] {
        let names: Vec<String> = (0..4_000).map(|number| format!("node-{number}")).collect();
        let mut flow = FlowBuilder::new("large");
        for name in &names {
            flow = flow.node(name, "NumberNode", &[]);
        }
        for (number, name) in names.iter().enumerate() {
            flow = flow.edge((name, "num"), (&names[(number + 1) % names.len()], to));
        }
        let text = flow.build().to_string();
        let began = Instant::now();
        let checked = check(&FlowFile::read("large.json", &text, &registry), &registry);
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert!(checked.findings.iter().any(|finding| finding.code == code));
        assert!(checked.findings.len() <= 1000);
        assert_eq!(checked.left_out > 0, code == "unknown-port");
    }
}
