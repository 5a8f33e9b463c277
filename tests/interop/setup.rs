//! Where the real SDKs are, and getting them there once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// An SDK that is driven: a language, and the generation of its wire where it isn't the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    /// `@dbos-inc/dbos-sdk`, pinned in `package.json`.
    TypeScript,
    /// `dbos`, pinned in `requirements.txt`.
    Python,
    /// The last `@dbos-inc/dbos-sdk` that keeps inputs and results in `workflow_status`: `dbos-sdk-4` in `package.json`.
    TypeScript4,
    /// The `@dbos-inc/dbos-sdk` that Fireflow's own worker was made with: `dbos-sdk-4-4` in `package.json`.
    TypeScript44,
    /// The last `dbos` that does, pinned in `requirements-2.txt`.
    Python2,
    /// The crate `dbos`, pinned in `rust/Cargo.toml` and its lock file. Of the earlier generation, too.
    Rust,
}

impl Lang {
    /// The SDK of the same language whose wire is the newest: itself, but for the earlier ones.
    pub fn newest(self) -> Lang {
        match self {
            Lang::TypeScript | Lang::TypeScript4 | Lang::TypeScript44 => Lang::TypeScript,
            Lang::Python | Lang::Python2 => Lang::Python,
            Lang::Rust => Lang::Rust,
        }
    }
}

/// An installed SDK.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The interpreter.
    pub program: PathBuf,
    /// The folder that its scripts were copied to, beside the SDK.
    pub folder: PathBuf,
    /// The scripts' extension.
    pub extension: &'static str,
    /// The package that holds the SDK, for the driver of a language that has more than one in its folder.
    pub package: &'static str,
}

/// The SDK of a language, installed under the target folder on first use; later uses only compare a file.
///
/// Where the interpreter or the registry is missing, this says so and answers `None`, and the test should return.
/// On a build server (`CI=true`) that is a failure instead: there, a skipped test is a test that nobody runs.
pub fn available(lang: Lang) -> Option<Runtime> {
    static FOUND: [OnceLock<Result<Runtime, String>>; 6] = [const { OnceLock::new() }; 6];
    match FOUND[lang as usize].get_or_init(|| install(lang)) {
        Ok(runtime) => Some(runtime.clone()),
        Err(reason) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{lang:?} is needed on a build server: {reason}");
            eprintln!("skipped, no {lang:?} SDK: {reason}");
            None
        }
    }
}

/// The pinned version of an SDK, out of the file that pins it.
///
/// # Panics
/// When that file no longer pins it.
pub fn version(lang: Lang) -> &'static str {
    let (file, name) = match lang {
        Lang::TypeScript => (include_str!("package.json"), "\"@dbos-inc/dbos-sdk\": \""),
        Lang::TypeScript4 => (include_str!("package.json"), "\"dbos-sdk-4\": \"npm:@dbos-inc/dbos-sdk@"),
        Lang::TypeScript44 => (include_str!("package.json"), "\"dbos-sdk-4-4\": \"npm:@dbos-inc/dbos-sdk@"),
        Lang::Python => (include_str!("requirements.txt"), "dbos=="),
        Lang::Python2 => (include_str!("requirements-2.txt"), "dbos=="),
        Lang::Rust => (include_str!("rust/Cargo.toml"), "dbos = \"="),
    };
    let (_, version) = file.split_once(name).unwrap_or_else(|| panic!("{name} is not pinned"));
    version.split(['"', '\n']).next().unwrap_or(version)
}

fn install(lang: Lang) -> Result<Runtime, String> {
    if lang == Lang::Rust {
        return build();
    }
    // Beside cargo's own folder for tests' files, so that a moved target folder is followed.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
    let root = target.join("interop");
    let script_files: &[&str] = match lang.newest() {
        Lang::Python => &["driver.py", "executor.py"],
        _ => &["package.json", "driver.mjs", "executor.mjs", "levels.mjs", "app.mjs"],
    };
    // npm has two versions side by side under two names, pip has not.
    let (name, pinned, package) = match lang {
        Lang::TypeScript => ("typescript", "package-lock.json", "@dbos-inc/dbos-sdk"),
        Lang::TypeScript4 => ("typescript", "package-lock.json", "dbos-sdk-4"),
        Lang::TypeScript44 => ("typescript", "package-lock.json", "dbos-sdk-4-4"),
        Lang::Python => ("python", "requirements.txt", "dbos"),
        Lang::Python2 | Lang::Rust => ("python2", "requirements-2.txt", "dbos"),
    };
    let folder = root.join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("can't create {}: {error}", folder.display()))?;

    // Test binaries run side by side: one installs, the others wait. Closing the file frees the lock.
    let lock = File::create(root.join(format!("{name}.lock"))).map_err(|error| format!("no lock file: {error}"))?;
    lock.lock().map_err(|error| format!("can't lock {name}.lock: {error}"))?;

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    for file in script_files.iter().chain([&pinned]) {
        copy_if_changed(&source.join(file), &folder.join(file))
            .map_err(|error| format!("can't copy {file}: {error}"))?;
    }
    // What was pinned when the installation last succeeded.
    let installed = folder.join("installed");
    let wanted = fs::read(folder.join(pinned)).map_err(|error| format!("can't read {pinned}: {error}"))?;
    let is_installed = fs::read(&installed).is_ok_and(|found| found == wanted);
    let runtime = match lang {
        Lang::TypeScript | Lang::TypeScript4 | Lang::TypeScript44 => {
            if !is_installed {
                run(Command::new("npm")
                    .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                    .current_dir(&folder))?;
            }
            Runtime { program: "node".into(), folder, extension: "mjs", package }
        }
        Lang::Python | Lang::Python2 | Lang::Rust => {
            let environment = folder.join("venv");
            let program = environment.join("bin/python3");
            if !is_installed {
                run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
                run(Command::new(&program)
                    .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", pinned])
                    .current_dir(&folder))?;
            }
            Runtime { program, folder, extension: "py", package }
        }
    };
    run(Command::new(&runtime.program).arg("--version"))?;
    fs::write(&installed, wanted).map_err(|error| format!("can't note the installation: {error}"))?;
    Ok(runtime)
}

/// The Rust SDK's driver is a program of its own; cargo sees to what is built already.
fn build() -> Result<Runtime, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?.join("interop/rust");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/rust/Cargo.toml");
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target))?;
    let folder = target.join("debug");
    Ok(Runtime { program: folder.join("fireflow-interop-rust"), folder, extension: "", package: "" })
}

/// Copies only what differs: another test binary may be about to start the script.
fn copy_if_changed(from: &Path, to: &Path) -> std::io::Result<()> {
    let wanted = fs::read(from)?;
    if fs::read(to).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let fresh = to.with_extension("new");
    fs::write(&fresh, wanted)?;
    fs::rename(fresh, to)
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{shown} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}
