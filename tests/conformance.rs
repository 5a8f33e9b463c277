//! Recorded cases: flows with what the original engine did with them, and cases of our own in the same form.
//!
//! The recorded ones are found by `FIREFLOW_CONFORMANCE`, or beside this package in `../shared/conformance`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops at what must not be, and tells what it saw")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fireflow_worker::flow::cases::{Case, STREAM_SOURCE};
use fireflow_worker::nodes::{Registry, RunContext};
use tokio::sync::Semaphore;

/// Recorded cases that cannot pass yet, and why. Only to be shortened: a case named here that passes fails the test.
const UNSUPPORTED: &[(&str, &str)] = &[];

/// Recorded cases where this engine differs on purpose; own cases of the same name say what it does instead.
const DIFFERENT: &[(&str, &str)] = &[(
    "stored-unknown-node",
    "a node of an unknown type is kept and fails, so that nothing that depends on it runs on stale values",
)];

/// Cases that run at the same time; few, since some of them measure time.
const AT_ONCE: usize = 4;

fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/conformance")
}

fn recorded_folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance");
    let folder = std::env::var_os("FIREFLOW_CONFORMANCE").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn cases(folder: &Path) -> Vec<Case> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", folder.display());
    paths.iter().map(|path| Case::load(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

fn registry() -> Registry {
    let mut registry = Registry::standard();
    registry.register(STREAM_SOURCE);
    registry
}

/// What is wrong with a case's run; nothing when it passes.
async fn check(case: &Case, registry: &Registry, context: &RunContext) -> Vec<String> {
    match case.check(registry, context).await {
        Ok(differences) => differences.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// Each case with what is wrong with it. Those without a server run on a clock that jumps ahead when all wait, so that
/// their time limits mean the same on any machine; the others run side by side in real time.
async fn check_all(cases: Vec<Case>) -> Vec<(Case, Vec<String>)> {
    let (served, alone): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.run.http_server.is_some());
    let virtual_time = tokio::task::spawn_blocking(|| check_in_virtual_time(alone));
    let mut checked = check_in_real_time(served).await;
    checked.extend(virtual_time.await.unwrap());
    checked.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    checked
}

fn check_in_virtual_time(cases: Vec<Case>) -> Vec<(Case, Vec<String>)> {
    let _ = rustls_ring();
    let (registry, context) = (registry(), RunContext::default());
    let check = |case: Case| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let wrong = runtime.block_on(check(&case, &registry, &context));
        (case, wrong)
    };
    cases.into_iter().map(check).collect()
}

async fn check_in_real_time(cases: Vec<Case>) -> Vec<(Case, Vec<String>)> {
    let _ = rustls_ring();
    let registry = Arc::new(registry());
    let context = RunContext::default();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = tokio::task::JoinSet::new();
    for case in cases {
        let (registry, context, turns) = (registry.clone(), context.clone(), turns.clone());
        tasks.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let wrong = check(&case, &registry, &context).await;
            (case, wrong)
        });
    }
    tasks.join_all().await
}

/// The HTTP client needs a provider of cryptography for the process; a second call finds the first one's.
fn rustls_ring() -> Result<(), ()> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_cases() {
    let Some(folder) = recorded_folder() else {
        println!("no recorded cases here; set FIREFLOW_CONFORMANCE");
        return;
    };
    let (mut passed, mut unsupported, mut different, mut quirks) = (0, Vec::new(), Vec::new(), Vec::new());
    let mut failed = Vec::new();
    for (case, wrong) in check_all(cases(&folder)).await {
        let reason =
            |list: &[(&str, &'static str)]| list.iter().find(|(name, _)| *name == case.name).map(|(_, why)| *why);
        match (reason(UNSUPPORTED), reason(DIFFERENT)) {
            (Some(why), _) if wrong.is_empty() => failed.push(format!("{}: passes, but is listed: {why}", case.name)),
            (Some(why), _) => unsupported.push(format!("{}: {why}", case.name)),
            (None, Some(why)) if wrong.is_empty() => {
                failed.push(format!("{}: is as recorded, but listed as different: {why}", case.name));
            }
            (None, Some(why)) => different.push(format!("{}: {why}", case.name)),
            (None, None) if wrong.is_empty() => passed += 1,
            (None, None) if case.quirk => quirks.push(case.name.clone()),
            (None, None) => failed.push(format!("{}:\n    {}", case.name, wrong.join("\n    "))),
        }
    }
    let mut report = format!("recorded cases: {passed} passed, {} failed\n", failed.len());
    let mut list = |what: &str, names: &[String]| {
        report.push_str(&format!("{what}: {}\n", names.len()));
        names.iter().for_each(|name| report.push_str(&format!("  {name}\n")));
    };
    list("not yet supported", &unsupported);
    list("different on purpose", &different);
    list("quirks not reproduced", &quirks);
    // Not by println, which shows nothing when the test passes.
    std::io::stderr().write_all(report.as_bytes()).unwrap();
    assert!(failed.is_empty(), "{} failed:\n  {}", failed.len(), failed.join("\n  "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_cases() {
    let checked = check_all(cases(&own_folder())).await;
    let wrong = checked.iter().filter(|(_, wrong)| !wrong.is_empty());
    let wrong: Vec<String> =
        wrong.map(|(case, wrong)| format!("{}:\n    {}", case.name, wrong.join("\n    "))).collect();
    assert!(wrong.is_empty(), "{} failed:\n  {}", wrong.len(), wrong.join("\n  "));
    for (name, _) in DIFFERENT {
        assert!(checked.iter().any(|(case, _)| case.name == *name), "no own case says what we do for {name}");
    }
}
