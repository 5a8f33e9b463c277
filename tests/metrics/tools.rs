//! Tools that know Prometheus's formats better than we do: its Python parsers, and `promtool`.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::Value as Json;

/// Where tools are kept between runs.
fn folder() -> PathBuf {
    // Beside cargo's own folder for tests' files, so that a moved target folder is followed.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("metrics-tools");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Tell why a tool isn't there. On a build server (`CI=true`) a test that nobody runs is a failure.
fn missing<T>(what: &str, why: &str) -> Option<T> {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what} is needed on a build server: {why}");
    eprintln!("skipped, no {what}: {why}");
    None
}

/// The families of a scrape as the parser of this format reads them; none where Python or the registry is missing.
pub fn parse(format: &str, scrape: &str) -> Option<Vec<Json>> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = match FOUND.get_or_init(python) {
        Ok(python) => python,
        Err(why) => return missing("Python parser", why),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics/parse.py");
    let output = run(Command::new(python).arg(script).arg(format), scrape).unwrap();
    assert!(output.status.success(), "{format}: {}\n{scrape}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn python() -> Result<PathBuf, String> {
    let folder = folder();
    let wanted = include_str!("requirements.txt");
    // Test binaries run side by side: one installs, the others wait. Closing the file frees the lock.
    let lock = File::create(folder.join("python.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let (environment, installed) = (folder.join("venv"), folder.join("installed"));
    let python = environment.join("bin/python3");
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics/requirements.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    done(Command::new(&python).args(pip).arg(requirements))?;
    fs::write(installed, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// `promtool`: an installed one, or the one of Debian's package, unpacked and not installed.
pub fn promtool() -> Option<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(find_promtool) {
        Ok(path) => Some(path.clone()),
        Err(why) => missing("promtool", why),
    }
}

fn find_promtool() -> Result<PathBuf, String> {
    if done(Command::new("promtool").arg("--version")).is_ok() {
        return Ok("promtool".into());
    }
    let folder = folder();
    let lock = File::create(folder.join("promtool.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let unpacked = folder.join("prometheus");
    let path = unpacked.join("usr/bin/promtool");
    if !path.exists() {
        let fresh = folder.join("download");
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh).map_err(|error| error.to_string())?;
        done(Command::new("apt-get").args(["download", "-qq", "prometheus"]).current_dir(&fresh))?;
        let package = fs::read_dir(&fresh).ok().and_then(|mut files| files.next()?.ok()).ok_or("no package came")?;
        done(Command::new("dpkg").arg("-x").arg(package.path()).arg(&unpacked))?;
        let _ = fs::remove_dir_all(&fresh);
    }
    done(Command::new(&path).arg("--version"))?;
    Ok(path)
}

/// Run a tool on this input; what it said.
pub fn run(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writes = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output();
    writes.join().unwrap();
    output
}

fn done(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{shown} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}
