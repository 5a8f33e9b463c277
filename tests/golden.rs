//! What the worker leaves in the database, row by row, against recorded scenarios: those of the original worker, where
//! they are at hand, with every deliberate difference spelled out; and our own, which are always here.
//!
//! Each scenario is played by the real binary on a real PostgreSQL; the test plays the server's API in SQL.
//! `FIREFLOW_GOLDEN_WRITE=1` writes our own scenarios' rows anew; review them before they are kept.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops at what must not be, and tells what it saw")]

use std::collections::BTreeSet;
use std::path::Path;

use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value as Json, json};

#[path = "golden/api.rs"]
mod api;
#[path = "golden/differences.rs"]
mod differences;
#[path = "golden/mod.rs"]
mod golden;
#[path = "golden/pace.rs"]
mod pace;
#[path = "golden/play.rs"]
mod play;
#[path = "golden/record.rs"]
mod record;
#[path = "golden/rows.rs"]
mod rows;
mod support;

use differences::DIFFERENCES;
use golden::{cases, compare::Comparison};
use rows::Rows;

/// The original's scenarios, longest first.
const ORIGINAL: &[&str] = &[
    "killed-recovered",
    "never-started",
    "pause-ignored",
    "cancelled",
    "cancelled-waiting",
    "killed-waiting",
    "parent-stopped",
    "event-tree",
    "emitter-children",
    "cancelled-queued",
    "chain-10",
    "external-event",
    "failing-node",
    "flow-timeout",
    "linear-math",
    "missing-flow",
    "node-timeout",
    "signal-first",
    "skipped-node",
];
/// Not played: it shows what happens when two workers share an id, which ours refuse to do.
const NOT_PLAYED: &[&str] = &["second-worker-starts"];
/// Scenarios played at once.
const AT_ONCE: usize = 4;

/// Compare all rows of an execution and its children, table by table.
fn compare(name: &str, recorded: &[Rows], ours: &[Rows]) -> Vec<String> {
    let mut comparison = Comparison { created_at: Some(rows::created_at(&ours[0])), found: Vec::new() };
    if recorded.len() != ours.len() {
        comparison.found.push(format!("{name}: {} executions recorded, ours {}", recorded.len(), ours.len()));
    }
    for (number, (recorded, ours)) in recorded.iter().zip(ours).enumerate() {
        compare_execution(&format!("{name} $EX{number}"), recorded, ours, &mut comparison);
    }
    // Times may be off by a minute, but a child has its root's deadline, not one of its own.
    let deadline = |rows: &Rows| rows["dbos.workflow_status"][0]["workflow_deadline_epoch_ms"].clone();
    if ours.iter().any(|child| deadline(child) != deadline(&ours[0])) {
        comparison.found.push(format!("{name}: deadlines {:?}", ours.iter().map(deadline).collect::<Vec<_>>()));
    }
    comparison.found
}

fn compare_execution(name: &str, recorded: &Rows, ours: &Rows, comparison: &mut Comparison) {
    let tables = |rows: &Rows| rows.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(tables(recorded), tables(ours), "{name}");
    for (table, recorded) in recorded {
        let (place, ours) = (format!("{name} {table}"), &ours[table]);
        if table == "dbos.streams" {
            let (recorded, ours) = (recorded.as_array().unwrap(), ours.as_array().unwrap());
            golden::stream::compare(&place, recorded, ours, comparison);
        } else {
            comparison.compare(&place, recorded, ours);
        }
    }
}

/// Play all these scenarios, some of them at once.
async fn played(scenarios: Vec<Json>) -> Vec<(Json, Vec<Rows>)> {
    let play = |scenario: Json| async move {
        let rows = play::play(&scenario).await;
        (scenario, rows)
    };
    stream::iter(scenarios).map(play).buffer_unordered(AT_ONCE).collect().await
}

fn name(scenario: &Json) -> &str {
    scenario["name"].as_str().unwrap()
}

fn recorded(scenario: &Json) -> Vec<Rows> {
    let executions = scenario["executions"].as_array().unwrap().iter();
    executions.map(|execution| execution["rows"].as_object().unwrap().clone()).collect()
}

fn fail_on(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_the_originals_but_for_what_differs_on_purpose() {
    let Some(folder) = cases::original() else {
        println!("no recorded rows here; set FIREFLOW_GOLDEN");
        return;
    };
    let known: BTreeSet<String> = ORIGINAL.iter().chain(NOT_PLAYED).map(|name| (*name).to_owned()).collect();
    assert_eq!(cases::names(&folder), known);
    let load = |name: &&str| {
        let mut scenario = cases::load(&folder, name);
        pace::change(&mut scenario);
        scenario
    };
    let mut wrong = Vec::new();
    let mut seen = Map::new();
    for (scenario, ours) in played(ORIGINAL.iter().map(load).collect()).await {
        let mut expected = recorded(&scenario);
        for difference in DIFFERENCES {
            let places = (difference.edit)(&scenario, &mut expected);
            if places > 0 {
                seen.insert(difference.name.into(), places.into());
            }
        }
        wrong.extend(compare(name(&scenario), &expected, &ours));
    }
    fail_on(&wrong);
    for difference in DIFFERENCES {
        assert!(seen.contains_key(difference.name), "\"{}\" occurs nowhere", difference.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_those_of_our_own_scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/golden");
    let names = cases::names(&folder);
    let mut wrong = Vec::new();
    for (mut scenario, ours) in played(names.iter().map(|name| cases::load(&folder, name)).collect()).await {
        if std::env::var_os("FIREFLOW_GOLDEN_WRITE").is_some() {
            let created_at = rows::created_at(&ours[0]);
            let recorded =
                |(number, rows)| json!({"execution": format!("$EX{number}"), "rows": record::record(rows, created_at)});
            scenario["executions"] = ours.iter().enumerate().map(recorded).collect();
            std::fs::write(folder.join(format!("{}.json", name(&scenario))), record::text(&scenario)).unwrap();
        }
        wrong.extend(compare(name(&scenario), &recorded(&scenario), &ours));
    }
    fail_on(&wrong);
}

#[test]
fn every_difference_has_its_reason_in_the_documentation() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/golden-differences.md");
    let page = std::fs::read_to_string(page).unwrap();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: Vec<&str> = DIFFERENCES.iter().map(|difference| difference.name).collect();
    assert_eq!(headings, names);
}
