//! DBOS's own Python SDK, in a virtual environment below `target/`, as the judge of our schema.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The newest release that our baseline was compared with.
pub const VERSION: &str = "3.4.0";

/// The last release with inputs and results in `workflow_status`: level 108.
pub const OLD_VERSION: &str = "2.31.1";

/// The folder of programs of an environment with this release, made when it is first needed; nothing where there is no
/// Python or no package index, unless the variable `CI` says that there has to be one.
pub fn programs(version: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environment = target.join(format!("dbos-python-{version}"));
    let complete = environment.join("complete");
    let lock = std::fs::File::create(target.join("dbos-python.lock")).unwrap();
    lock.lock().unwrap(); // test binaries may run side by side
    if !complete.exists() {
        let _ = std::fs::remove_dir_all(&environment); // a half of an earlier run
        let python = environment.join("bin/python");
        let package = format!("dbos=={version}");
        let made = run(Command::new("python3").args(["-m", "venv"]).arg(&environment))
            .and_then(|_| run(Command::new(python).args(["-m", "pip", "install", "--quiet", &package])));
        if let Err(why) = made {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "DBOS's Python SDK is needed: {why}");
            eprintln!("skipped: no DBOS Python SDK here: {why}");
            return None;
        }
        std::fs::write(complete, "").unwrap();
    }
    Some(environment.join("bin"))
}

/// Bring a database to the SDK's newest level.
pub fn migrate(programs: &Path, url: &str, schema: &str) {
    run(Command::new(programs.join("dbos")).args(["migrate", "--sys-db-url", url, "--schema", schema])).unwrap();
}

/// Run a script of `tests/`; gives what it prints.
pub fn script(programs: &Path, name: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let output = run(Command::new(programs.join("python")).arg(script).args(arguments)).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
